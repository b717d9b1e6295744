"""The interface of all methods. Scoring, gate, evaluation and budget use a method only through it.

The smallest method has a name, lists its predictions, fits and predicts; tests/mtorl_model/methods/test_constant.py is
an example.

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
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError
from schemas.json_config import JsonConfig
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.registry import SCORE_TABLES

if TYPE_CHECKING:
    from mtorl_model.training.config import FineTuneConfig

# The kinds of predictions.
POLICY = "policy"  # the probability of each channel
GAINS = "gains"  # the probability of each gain
VALUES = "values"  # the probability of each gain in each channel, if that channel is chosen
FUSION = "fusion"  # weights that fuse several predictions into one ranking

# The kinds of input.
WINDOWS = "windows"  # windows of steps, before the candidate is known (data/windows/store.py)
CANDIDATES = "candidates"  # single exposures of a given candidate, in sessions (data/candidate_store.py)

# Number of windows in one call of `predict` outside of scoring. Fixed, because the last bits of a matrix product depend
# on its shape.
WINDOWS_AT_ONCE = 1024

Floats = npt.NDArray[np.float64]
State = Mapping[str, npt.NDArray[Any]]
C = TypeVar("C", bound="MethodConfig")


class FusedScores(NamedTuple):
    """The fusion of a candidate's predictions. I objectives, in the order of the contract.

    score_X: by which a user's candidates are ranked; of any size. objectives_XI: the probability of each objective.
    power_XI, bias_XI: the weights of the fusion (equation 1 of UnifiedRL). behaviour_power_XI, behaviour_bias_XI: those
    of the behaviour policy, around which the policy was trained.
    """

    score_X: Floats
    objectives_XI: Floats
    power_XI: Floats
    bias_XI: Floats
    behaviour_power_XI: Floats
    behaviour_bias_XI: Floats

    @property
    def prediction(self) -> "Prediction":
        """All of it as a prediction."""
        return Prediction(fusion_XF=np.concatenate([self.score_X[..., None], *self[1:]], axis=-1))


class Prediction(NamedTuple):
    """A prediction for steps or users; None for a kind that the method does not predict.

    X is [B, L] for a batch of windows. The numbers at padding are finite and have no meaning.
    """

    policy_XA: Floats | None = None  # the probability of each channel, 0 to 1, with sum 1
    gains_XG: Floats | None = None  # the probability of each gain, 0 to 1
    values_XAG: Floats | None = None  # the probability of each gain if that channel is chosen, 0 to 1
    fusion_XF: Floats | None = None  # the columns of FusedScores, in their order

    @property
    def policy_and_gains(self) -> tuple[Floats, Floats]:
        """The two arrays, of a method that predicts them. Raises TypeError if one of them is None."""
        if self.policy_XA is None or self.gains_XG is None:
            raise TypeError("the prediction lacks the policy or the gains")
        return self.policy_XA, self.gains_XG

    @property
    def fused(self) -> "FusedScores":
        """The fused scores, of a method that predicts them. Raises TypeError without them."""
        if self.fusion_XF is None:
            raise TypeError("the prediction lacks the fused scores")
        objectives = (self.fusion_XF.shape[-1] - 1) // 5
        parts = np.split(self.fusion_XF, 1 + objectives * np.arange(5), axis=-1)
        return FusedScores(parts[0][..., 0], *parts[1:])

    def take(self, rows: Any) -> "Prediction":
        """The prediction for a selection (index, slice or mask) along the leading axes."""
        return Prediction(*(None if array is None else array[rows] for array in self))

    @classmethod
    def concatenate(cls, predictions: Sequence["Prediction"]) -> "Prediction":
        """The predictions one behind another, along the first axis. There must be at least one."""
        by_kind = zip(*predictions, strict=True)
        return cls(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in by_kind))

    def reshaped(self, shape: tuple[int, ...]) -> "Prediction":
        """The prediction with leading axes of that shape, in place of its only leading axis."""
        return Prediction(*(None if array is None else array.reshape(*shape, *array.shape[1:]) for array in self))


class ExploredRequests(NamedTuple):
    """Explored actions, one entry for each draw. N draws, I objectives, Q groups of rewards.

    request_N: exposure_id of the request's first exposure. propensity_N: the density of the draw. reward_NQ: of the
    list that the action ranks. The behaviour policy's weights are the centre of the box.
    """

    request_N: npt.NDArray[np.int64]
    draw_N: npt.NDArray[np.int64]
    power_NI: Floats
    bias_NI: Floats
    behaviour_power_NI: Floats
    behaviour_bias_NI: Floats
    propensity_N: Floats
    reward_NQ: Floats


@dataclass(frozen=True, slots=True)
class MethodConfig(JsonConfig):
    """The settings of a method. A method without settings uses this class unchanged.

    A subclass adds fields: plain values, or configs of its parts. The names of all settings are distinct.
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
        """All settings by name, including those of the parts."""
        flat: dict[str, Any] = {}
        for name, value in asdict(self).items():
            flat |= value if isinstance(getattr(self, name), JsonConfig) else {name: value}
        return flat

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """A copy with these settings replaced. Raises UserError if a name is not a setting."""
        if unknown := sorted(settings.keys() - self.settings().keys()):
            raise UserError(f"the method has no setting {', '.join(unknown)}: leave it out")
        changes: dict[str, Any] = {}
        for config_field in fields(self):
            value = getattr(self, config_field.name)
            if isinstance(value, JsonConfig):
                part_names = asdict(value).keys() & settings.keys()  # type: ignore[call-overload]
                changes[config_field.name] = replace(value, **{name: settings[name] for name in part_names})  # type: ignore[type-var]
            elif config_field.name in settings:
                changes[config_field.name] = settings[config_field.name]
        return replace(self, **changes)


def choose_preset(presets: Mapping[str, C], name: str) -> C:
    """The preset of that name. Raises UserError if there is no such preset."""
    if name not in presets:
        raise UserError(f"unknown preset '{name}': choose one of {', '.join(sorted(presets))}")
    return presets[name]


@dataclass(slots=True)
class Run:
    """The context of one training: further inputs of `fit`, and its report.

    checkpoints: a folder for this training only, to resume from; None for no checkpoints. identity: a text that names
    everything the training depends on; a checkpoint of another identity is refused. after_epoch: called with the number
    of completed epochs and the best validation loss; an exception that it raises ends the training.
    """

    checkpoints: Path | None = None
    identity: str = ""
    after_epoch: Callable[[int, float], None] | None = None
    curves: list[dict[str, float]] = field(default_factory=list)  # figures of each epoch by name, for MLflow
    lines: list[str] = field(default_factory=list)  # text for the terminal


class Method(ABC):
    """A method with its settings and, after `fit`, its learned state.

    A method learns from labelled steps of training users; validation users may choose when to stop. It predicts each
    step from the inputs of that step and of earlier ones, which exclude the step's outcome. `reads` names the kind of
    input. The same config and input give the same predictions.
    """

    name: ClassVar[str]  # of --method, and of the registered model
    reads: ClassVar[str] = WINDOWS  # the kind of input of fit, predict and fine_tune, WINDOWS or CANDIDATES
    predicts: frozenset[str]  # of POLICY, GAINS, VALUES, FUSION
    # The tables that scoring with it publishes every night. If methods have the same tables, only one of them is used.
    publishes: ClassVar[tuple[str, ...]] = SCORE_TABLES
    # For a method on candidates: the function that makes the rows of its table, as "module:function" (inference/). It
    # is called with lake, dataset, model, version and day.
    score_rows: ClassVar[str] = ""
    fine_tunes: ClassVar[bool] = False  # whether it can learn a day's labels without a full training
    Config: ClassVar[type[MethodConfig]] = MethodConfig
    # How candidates are encoded, as JSON (data/candidates/encoding.py), set before `fit` and `restore`; windows are
    # encoded by the feature spec.
    encoding: str = ""

    @property
    def fits_latest(self) -> bool:
        """Whether fine_tune reads `latest` of the sample."""
        return False

    def __init__(self, config: MethodConfig, spec: FeatureSpec, initial_policy: InitialPolicy) -> None:
        """spec: defines the inputs. initial_policy: the policy and gain rates for users with a short journey."""
        self.config, self.spec, self.initial_policy = config, spec, initial_policy

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, MethodConfig]:
        """Settings by name, for a dataset; `small` is suitable for a machine without a GPU."""
        return {"small": cls.Config()}

    @abstractmethod
    def fit(self, train: Any, valid: Any, run: Run) -> Self:
        """Learn from training users; returns itself. train, valid: a WindowStore, or a CandidateStore; see `reads`."""

    @abstractmethod
    def predict(self, batch: Any) -> Prediction:
        """Predict every step of a Batch, which is on the CPU, or every row of a CandidateStore; see `reads`."""

    def predict_last(self, batch: Batch) -> Prediction:
        """Policy and values of the last step only (L = 1), gains of all steps. The last step must not be padding.

        The last step is predicted as by `predict`. Gains of earlier steps may come from a cheaper part of the model.
        """
        predicted = self.predict(batch)
        last_policy_B1A, last_values_B1AG = (
            None if array is None else array[:, -1:] for array in (predicted.policy_XA, predicted.values_XAG)
        )
        return Prediction(last_policy_B1A, predicted.gains_XG, last_values_B1AG)

    def prepared(self) -> AbstractContextManager[None]:
        """A context for many predictions, also by several threads, in which shared preparations are made once."""
        return nullcontext()

    def fine_tune(self, sample: Any, config: "FineTuneConfig") -> dict[str, float]:
        """Learn a day's labels, in place; returns mean losses by name. Only for methods with fine_tunes.

        sample: a DaySample, or a CandidateSample; see `reads`.
        """
        raise NotImplementedError(f"{self.name} is not fine-tuned")

    def self_check(self) -> list[str]:
        """Faults of the method with its settings, as text, in a problem whose solution is known; quick.

        A challenger with a fault does not become champion.
        """
        return []

    def explored(self, sample: Any) -> ExploredRequests:
        """The actions that fine_tune learns this sample from, of a method that predicts FUSION.

        Raises TypeError if it does not.
        """
        raise TypeError(f"the method {self.name} explores no fusion")

    def base_values(self) -> Floats | None:
        """[A, G]: the values of a user of whom nothing is known; None if the method does not predict values."""
        return None

    @property
    def embedding_size(self) -> int:
        """The number of components of a user embedding; 0 without embeddings."""
        return 0

    def embed_last(self, batch: Batch) -> npt.NDArray[np.float32]:
        """[B, embedding_size]: the user embedding at the last step of each window, which must be real.

        Raises TypeError if the method has no embeddings.
        """
        raise TypeError(f"the method {self.name} has no user embeddings")

    @property
    def best_channel(self) -> int:
        """The channel of the best constant policy, as the training log shows."""
        return self.initial_policy.best_fixed

    @property
    def adjustment_A(self) -> Floats:
        """[A]: the divisors that turned the predicted channel probabilities into the policy; ones if unadjusted."""
        return np.ones(len(self.spec.channels))

    def unadjusted(self, policy_XA: Floats) -> Floats:
        """The predicted channel probabilities, which are the policy before its adjustment."""
        weight_XA = policy_XA * self.adjustment_A
        probability_XA: Floats = weight_XA / weight_XA.sum(axis=-1, keepdims=True)
        return probability_XA

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of its evaluation: gains of the dataset, tasks of a candidate, or the objectives of a fusion."""
        if FUSION in self.predicts:
            return tuple(objective.name for objective in get_dataset(self.spec.dataset).objectives)
        return tuple(get_dataset(self.spec.dataset).tasks) if self.reads == CANDIDATES else self.spec.gains

    @property
    def objective_weights(self) -> Floats:
        """[I]: the weights of the objectives in the reward, of a method that predicts FUSION.

        Raises TypeError if it does not.
        """
        raise TypeError(f"the method {self.name} fuses no objectives")

    @property
    def half_width(self) -> float:
        """Of the box around a behaviour policy in each dimension of an action, of a method that predicts FUSION.

        Raises TypeError if it does not.
        """
        raise TypeError(f"the method {self.name} fuses no objectives")

    def encoder(self, dataset: Dataset) -> Encoder:
        """The encoder of this method's inputs."""
        return Encoder(self.spec, dataset, self.config.reward_inputs)

    def state(self) -> State:
        """The learned state as arrays by name. By default: all attributes that are arrays."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def restore(self, state: State) -> None:
        """Set the learned state, which an object with the same config and spec has returned from `state`."""
        for name, value in state.items():
            setattr(self, name, value)

    def summary(self) -> str:
        """A few words about the trained model, for the terminal."""
        return self.name


def base_rates(model: Method) -> Sequence[float]:
    """The share of training labels with each gain, in the order of the spec."""
    return [model.initial_policy.gain_rates[gain] for gain in model.spec.gains]
