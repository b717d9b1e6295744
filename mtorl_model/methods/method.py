"""What every method offers, so that scoring, gate, evaluation, studies and budget need not know which one it is.

The smallest method has a name, says what it predicts, fits and predicts (tests/mtorl_model/methods/test_constant.py).

Shapes as in data/batch.py: B windows, L steps, A actions (channels), G gains; X any leading axes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from mtorl_model.data.batch import Batch
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.reward_inputs import GAINS_AND_REWARD, RewardInputs
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.json_config import JsonConfig
from schemas.tables.feature_spec import FeatureSpec

if TYPE_CHECKING:
    from mtorl_model.data.window_store import WindowStore
    from mtorl_model.training.config import FineTuneConfig
    from mtorl_model.training.day_sample import DaySample

# What a method may predict.
POLICY = "policy"  # the probability of each channel
GAINS = "gains"  # the probability of each gain
FUSION = "fusion"  # weights that fuse several predictions into one ranking

# Windows that are predicted at once. Fixed, because a matrix product's last bits depend on its shape.
WINDOWS_AT_ONCE = 1024

Floats = npt.NDArray[np.float64]
State = Mapping[str, npt.NDArray[Any]]
C = TypeVar("C", bound="MethodConfig")


class Prediction(NamedTuple):
    """What a method predicts at some steps or users; None for what it does not predict.

    X is [B, L] for a batch of windows, where the numbers at padding are finite and mean nothing.
    """

    policy_XA: Floats | None = None  # the probability of each channel, 0 to 1, with sum 1
    gains_XG: Floats | None = None  # the probability of each gain, 0 to 1

    def at(self, rows: Any) -> "Prediction":
        """The prediction at these entries of the leading axes."""
        return Prediction(*(None if array is None else array[rows] for array in self))


@dataclass(frozen=True, slots=True)
class MethodConfig(JsonConfig):
    """The settings of a method. A method without any uses this class as it is.

    A subclass adds fields: plain values, or configs of its parts. No two of its settings have one name.
    """

    @property
    def steps(self) -> int:
        """The longest window that the method reads."""
        return 20

    @property
    def reward_inputs(self) -> RewardInputs:
        """The encoding of the reward input that the method reads."""
        return GAINS_AND_REWARD

    def settings(self) -> dict[str, Any]:
        """All settings by name, those of the parts among them."""
        flat: dict[str, Any] = {}
        for name, value in asdict(self).items():
            flat |= value if isinstance(getattr(self, name), JsonConfig) else {name: value}
        return flat

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """With these settings in place of its own. Raises UserError where it has no setting of such a name."""
        if unknown := sorted(settings.keys() - self.settings().keys()):
            raise UserError(f"the method has no setting {', '.join(unknown)}: leave it out")
        changes: dict[str, Any] = {}
        for own in fields(self):
            value = getattr(self, own.name)
            if isinstance(value, JsonConfig):
                part_names = asdict(value).keys() & settings.keys()  # type: ignore[call-overload]
                changes[own.name] = replace(value, **{name: settings[name] for name in part_names})  # type: ignore[type-var]
            elif own.name in settings:
                changes[own.name] = settings[own.name]
        return replace(self, **changes)


def choose_preset(presets: Mapping[str, C], name: str) -> C:
    """The preset of that name. Raises UserError where there is none."""
    if name not in presets:
        raise UserError(f"unknown preset '{name}': choose one of {', '.join(sorted(presets))}")
    return presets[name]


@dataclass(slots=True)
class Run:
    """One training: what `fit` is given beside the windows, and what it reports to people.

    checkpoints: a folder of the training's own to resume from, None for no checkpoints. identity: all that the
    training depends on; a checkpoint of another identity is not resumed from. after_epoch: to be called with the
    number of epochs so far and the best validation loss; what it raises ends the training.
    """

    checkpoints: Path | None = None
    identity: str = ""
    after_epoch: Callable[[int, float], None] | None = None
    curves: list[dict[str, float]] = field(default_factory=list)  # figures of each epoch by name, for MLflow
    lines: list[str] = field(default_factory=list)  # what people are told at the end


class Method(ABC):
    """A method: its settings, and what `fit` has learned.

    It learns from windows of training users with labels, stops by those of validation users, and predicts every
    step of a window from what was known before that step. The same config and windows give the same predictions.
    """

    name: ClassVar[str]  # of --method, and of the registered model
    predicts: ClassVar[frozenset[str]]  # of POLICY, GAINS, FUSION
    fine_tunes: ClassVar[bool] = False  # whether a day's labels can move it without a full training
    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, config: MethodConfig, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
        """spec: what its inputs are made by. initial_policy: what users get that it cannot judge yet."""
        self.config, self.spec, self.initial_policy = config, spec, initial_policy

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, MethodConfig]:
        """Settings by name, for a dataset; `small` is what a machine without a GPU trains."""
        return {"small": cls.Config()}

    @abstractmethod
    def fit(self, train: "WindowStore", valid: "WindowStore", run: Run) -> Self:
        """Learn from the windows of training users; itself."""

    @abstractmethod
    def predict(self, batch: Batch) -> Prediction:
        """Of every step, from what was known before it."""

    def predict_last(self, batch: Batch) -> Prediction:
        """As `predict`, but the policy of the last step alone (L = 1), and the gains of all; the last step is real."""
        policy_BLA, gains_BLG = self.predict(batch)
        return Prediction(None if policy_BLA is None else policy_BLA[:, -1:], gains_BLG)

    def prepared(self) -> AbstractContextManager[None]:
        """A context for many predictions, by several threads: what all of them need may be made once."""
        return nullcontext()

    def fine_tune(self, sample: "DaySample", config: "FineTuneConfig") -> dict[str, float]:
        """Learn a day's labels, in place; mean losses by name. Only of a method that fine-tunes."""
        raise NotImplementedError(f"{self.name} is not fine-tuned")

    @property
    def adjustment_A(self) -> Floats:
        """[A]: what the predicted chances of the channels were divided by to make the policy; ones: nothing."""
        return np.ones(len(self.spec.channels))

    def unadjusted(self, policy_XA: Floats) -> Floats:
        """The policy before its adjustment: how probable the method takes each channel to be."""
        chance_XA = policy_XA * self.adjustment_A
        unadjusted_XA: Floats = chance_XA / chance_XA.sum(axis=-1, keepdims=True)
        return unadjusted_XA

    def encoder(self, dataset: Dataset) -> Encoder:
        """Encodes windows of the dataset as this method reads them."""
        return Encoder(self.spec, dataset, self.config.reward_inputs)

    def state(self) -> State:
        """What was learned, as arrays by name. Here: the arrays among the object's attributes."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def restore(self, state: State) -> None:
        """Take over the state of another object of the same config and spec."""
        for name, value in state.items():
            setattr(self, name, value)

    def summary(self) -> str:
        """What was trained, in a few words for people."""
        return self.name


def base_rates(model: Method) -> Sequence[float]:
    """How often training users had each gain, in the order of the spec."""
    return [model.initial_policy.gain_rates[gain] for gain in model.spec.gains]
