"""What a model, its loss and its training are made of: frozen, stored with every checkpoint as JSON."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Self

from schemas.errors import UserError

REWARD_FORMS = ("binary", "continuous", "fused", "onehot")  # equation 18
SCHEDULES = ("constant", "cosine")
KEPT_EPOCHS = ("best", "last")
NONE, WAIT, LIKELIHOOD = "none", "wait", "likelihood"
CORRECTIONS = (NONE, WAIT, LIKELIHOOD)  # for gains still to come, see delayed_feedback.py


class _Json:
    """JSON round trip of a flat frozen dataclass; fields absent from the text keep their defaults."""

    __slots__ = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The config that to_json wrote. Raises UserError on text that is no such config."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{cls.__name__}: not JSON ({error}): give the text that to_json wrote") from None
        if not isinstance(values, dict):
            raise UserError(f"{cls.__name__}: expected a JSON object, got {type(values).__name__}")
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(values.keys() - known):
            raise UserError(
                f"{cls.__name__}: unknown field {', '.join(unknown)}: choose from {', '.join(sorted(known))}"
            )
        return cls(**values)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise UserError(message)


@dataclass(frozen=True, slots=True)
class ModelConfig(_Json):
    """The network of sections 3.1 to 3.5. Layer l of the state encoder has dilation 2^l: 1, 2, 4, ..."""

    hidden: int = 512  # d, size of every hidden state
    tcn_layers: int = 2  # L1, dilated causal convolutions of the state encoder (equation 5)
    kernel_size: int = 3  # k_c, steps each convolution reads
    addnorm_layers: int = 2  # L2, layers of equation 8
    reward_layers: int = 3  # L3, layers of the reward decoder (equation 12)
    heads: int = 1  # attention heads; must divide hidden
    dropout: float = 0.1  # rate, on convolutions, attention weights and Add&Norm
    category_dropout: float = 0.0  # share of categorical inputs that a training window shows as out of vocabulary
    steps: int = 20  # n, steps of a window; no weight depends on it
    reward_form: str = "binary"  # one of REWARD_FORMS
    # tau: policies are divided by the training share of their channel to the power of tau, and scaled to sum to 1.
    # 0 is the paper's; more of it finds rare channels more often, at the price of some accuracy.
    prior_adjustment: float = 0.0
    use_state_encoder: bool = True  # False: figure 2 "w/o CausalState", the causal states are the embedded inputs
    use_attention: bool = True  # False: figure 2 "w/o CausalAttn", equation 8 starts from the causal states
    use_addnorm: bool = True  # False: figure 2 "w/o Add&Norm", equation 8 without residual and LayerNorm

    def __post_init__(self) -> None:
        for name in ("hidden", "tcn_layers", "kernel_size", "addnorm_layers", "reward_layers", "heads", "steps"):
            _require(getattr(self, name) >= 1, f"model config: {name} is {getattr(self, name)}, must be at least 1")
        _require(self.hidden % self.heads == 0, f"model config: heads {self.heads} must divide hidden {self.hidden}")
        for name in ("dropout", "category_dropout"):
            _require(
                0.0 <= getattr(self, name) < 1.0, f"model config: {name} is {getattr(self, name)}, must be in [0, 1)"
            )
        _require(
            0.0 <= self.prior_adjustment <= 1.0,
            f"model config: prior_adjustment is {self.prior_adjustment}, must be in [0, 1]",
        )
        _require(
            self.reward_form in REWARD_FORMS,
            f"model config: unknown reward_form '{self.reward_form}': choose one of {', '.join(REWARD_FORMS)}",
        )


@dataclass(frozen=True, slots=True)
class LossConfig(_Json):
    """The weights of equation 16: L = policy + mu reward + dpo_weight DPO."""

    mu: float = 0.08  # weight of the reward loss
    dpo_weight: float = 1.4  # lambda, weight of the preference loss; 0: figure 2 "w/o DPO"
    beta: float = 0.1  # sharpness of the preference loss (equation 15)


@dataclass(frozen=True, slots=True)
class TrainConfig(_Json):
    """How the weights are found: Adam, early stopping on the validation users.

    The defaults are section 4.1.3's, but for the patience, of which the paper says nothing.
    """

    batch_size: int = 512  # windows a step
    # Parts of a batch, computed one after another or on as many processes; their gradients are added up. Each draws
    # its own preference pairs and dropout, so that the weights follow from the parts, not from who computes them.
    micro_batches: int = 1
    learning_rate: float = 1e-3  # of Adam
    schedule: str = "constant"  # of the learning rate; "cosine": a short rise to it, then a fall to near nothing
    weight_decay: float = 0.0  # decoupled
    max_epochs: int = 800  # passes over the training windows, at most
    patience: int = 20  # epochs without a better validation loss before stopping
    keep: str = "best"  # the weights to end with: those of the epoch of lowest validation loss, or of the "last" one
    seed: int = 0  # of weights, order, dropout and preference pairs
    members: int = 1  # models, of this seed and the next ones, whose probabilities are averaged
    gradient_clip: float = 0.0  # largest norm of the gradient; 0: not clipped
    checkpoint_every: int = 500  # optimiser steps between checkpoints
    device: str = "auto"  # "auto" (a GPU where there is one), "cpu" or "cuda"

    def __post_init__(self) -> None:
        _require(
            self.schedule in SCHEDULES,
            f"train config: unknown schedule '{self.schedule}': choose one of {', '.join(SCHEDULES)}",
        )
        _require(
            self.keep in KEPT_EPOCHS, f"train config: unknown keep '{self.keep}': choose {' or '.join(KEPT_EPOCHS)}"
        )
        _require(
            1 <= self.micro_batches <= self.batch_size,
            f"train config: micro_batches is {self.micro_batches}, must be from 1 to batch_size {self.batch_size}",
        )
        _require(self.members >= 1, f"train config: members is {self.members}, must be at least 1")
        _require(
            self.gradient_clip >= 0.0,
            f"train config: gradient_clip is {self.gradient_clip}, must be at least 0 (0: not clipped)",
        )


@dataclass(frozen=True, slots=True)
class FeedbackConfig(_Json):
    """What training makes of gains that may still come (delayed_feedback.py)."""

    correction: str = LIKELIHOOD  # one of CORRECTIONS
    waiting_days: float = 7.0  # of "wait": how old a label must be to count

    def __post_init__(self) -> None:
        _require(
            self.correction in CORRECTIONS,
            f"feedback config: unknown correction '{self.correction}': choose one of {', '.join(CORRECTIONS)}",
        )


@dataclass(frozen=True, slots=True)
class FineTuneConfig(_Json):
    """A day's fine-tuning: how much is read and how far the weights may move, the same however long the history is."""

    learning_rate: float = 1e-4  # of Adam, constant
    batch_size: int = 128  # windows a step
    max_steps: int = 200  # optimiser steps a day, at most
    passes: int = 2  # over the day's own windows, at most
    replay_share: float = 0.5  # of each batch: windows of earlier days
    replay_days: int = 12  # earlier days that are read for it, half of them of the last recent_days
    recent_days: int = 30  # or more, where the dataset's gains may come later than that
    gradient_clip: float = 1.0  # largest norm of the gradient
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_steps", "passes", "replay_days", "recent_days"):
            _require(getattr(self, name) >= 1, f"fine-tune config: {name} is {getattr(self, name)}, must be at least 1")
        _require(
            0.0 <= self.replay_share < 1.0,
            f"fine-tune config: replay_share is {self.replay_share}, must be in [0, 1)",
        )
        _require(self.learning_rate > 0.0, f"fine-tune config: learning_rate is {self.learning_rate}, must be above 0")


@dataclass(frozen=True, slots=True)
class GateConfig(_Json):
    """When a challenger may become champion (promote.py)."""

    # Share of the champion's log loss by which a head may be worse: about what a day of fine-tuning changes, so that
    # a day that changes nothing passes, and a day that goes wrong does not.
    margin: float = 0.01
    worst: float = 3.0  # margins that the upper end of the interval may reach where a head is worse within the margin
    days: int = 14  # the latest days whose validation users are asked
    shift: float = 0.1  # share of a policy's probability that may move to other channels, mean over the steps asked


_PAPER_MU = {"kuairand": 0.08, "criteo": 0.04}  # section 4.4.3, by the start of the dataset's name

# Model, training, and mu: None for the paper's. With the paper's mu the rare gains are learned late or not at all
# on users never seen; with 1 conversion AUC goes from .75 to .80 on the Criteo sample's validation users, one seed
# (python -m mtorl_model.train --dataset criteo --preset small --mu 0.04, and without --mu).
PRESETS: dict[str, tuple[ModelConfig, TrainConfig, float | None]] = {
    "paper": (ModelConfig(), TrainConfig(), None),  # section 4.1.3
    "small": (
        # Not in the paper: what holds down the variance of a model that has seen few users, and prior_adjustment.
        ModelConfig(hidden=128, category_dropout=0.2, prior_adjustment=0.2),
        # Not in the paper: schedule and clipping, so that a few epochs on a CPU are enough; and three members.
        TrainConfig(batch_size=128, schedule="cosine", max_epochs=15, patience=4, gradient_clip=1.0, members=3),
        1.0,
    ),  # without a GPU
}


def paper_mu(dataset: str) -> float:
    """The mu that the paper tuned for a dataset; LossConfig's for one that it does not know."""
    return next((mu for start, mu in _PAPER_MU.items() if dataset.startswith(start)), LossConfig().mu)


def preset(name: str, dataset: str) -> tuple[ModelConfig, LossConfig, TrainConfig]:
    """The configs of a preset for a dataset; a dataset that the paper does not tune has LossConfig's mu."""
    if name not in PRESETS:
        raise UserError(f"unknown preset '{name}': choose one of {', '.join(sorted(PRESETS))}")
    model, train, mu = PRESETS[name]
    return model, LossConfig(mu=paper_mu(dataset) if mu is None else mu), train
