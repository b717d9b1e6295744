"""Settings of MTORL's network and loss, and its presets."""

from dataclasses import dataclass, field

from mtorl_model.data.reward_inputs import RewardInputs
from mtorl_model.methods.common.channel_value import ValueConfig
from mtorl_model.methods.common.label_trees import TreesConfig
from mtorl_model.methods.method import MethodConfig, choose_preset
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS, RewardForm
from mtorl_model.training.config import TrainConfig
from schemas.json_config import JsonConfig, require


@dataclass(frozen=True, slots=True)
class ModelConfig(JsonConfig):
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
    # 0 is as in the paper; a larger value predicts rare channels more often, and is less accurate overall.
    prior_adjustment: float = 0.0
    # Gradient boosting of the same inputs, blended with the networks (methods/common/blend.py), and the
    # value of each channel (methods/common/channel_value.py). Not in the paper, which has False.
    trees: bool = False
    use_state_encoder: bool = True  # False: figure 2 "w/o CausalState", the causal states are the embedded inputs
    use_attention: bool = True  # False: figure 2 "w/o CausalAttn", equation 8 starts from the causal states
    use_addnorm: bool = True  # False: figure 2 "w/o Add&Norm", equation 8 without residual and LayerNorm

    def __post_init__(self) -> None:
        for name in ("hidden", "tcn_layers", "kernel_size", "addnorm_layers", "reward_layers", "heads", "steps"):
            require(getattr(self, name) >= 1, f"model config: {name} is {getattr(self, name)}, must be at least 1")
        require(self.hidden % self.heads == 0, f"model config: heads {self.heads} must divide hidden {self.hidden}")
        for name in ("dropout", "category_dropout"):
            require(
                0.0 <= getattr(self, name) < 1.0, f"model config: {name} is {getattr(self, name)}, must be in [0, 1)"
            )
        require(
            0.0 <= self.prior_adjustment <= 1.0,
            f"model config: prior_adjustment is {self.prior_adjustment}, must be in [0, 1]",
        )
        require(
            self.reward_form in REWARD_FORMS,
            f"model config: unknown reward_form '{self.reward_form}': choose one of {', '.join(REWARD_FORMS)}",
        )

    @property
    def form(self) -> RewardForm:
        return REWARD_FORMS[self.reward_form]


@dataclass(frozen=True, slots=True)
class LossConfig(JsonConfig):
    """The weights of equation 16: L = policy + mu reward + dpo_weight DPO."""

    mu: float = 0.08  # weight of the reward loss
    dpo_weight: float = 1.4  # lambda, weight of the preference loss; 0: figure 2 "w/o DPO"
    beta: float = 0.1  # sharpness of the preference loss (equation 15)


@dataclass(frozen=True, slots=True)
class MTORLConfig(MethodConfig):
    """All settings of MTORL."""

    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    # Used if model.trees:
    boosting: TreesConfig = field(default_factory=TreesConfig)
    values: ValueConfig = field(default_factory=ValueConfig)

    @property
    def steps(self) -> int:
        return self.model.steps

    @property
    def reward_inputs(self) -> RewardInputs:
        return self.model.form.inputs


_PAPER_MU = {"kuairand": 0.08, "criteo": 0.04}  # section 4.4.3, by the start of the dataset's name

# Model, training, and mu (None: as in the paper). With the paper's mu, rare gains are learned late or never for unseen
# users. With mu = 1, the conversion AUC rises from .75 to .80 on the Criteo sample's validation users, one seed
# (python -m mtorl_model.train --dataset criteo --preset small --mu 0.04, and without --mu).
PRESETS: dict[str, tuple[ModelConfig, TrainConfig, float | None]] = {
    "paper": (ModelConfig(), TrainConfig(), None),  # section 4.1.3
    "small": (
        # Not in the paper: prior_adjustment, trees, and settings that reduce the variance of a model trained on few
        # users.
        ModelConfig(hidden=128, category_dropout=0.2, prior_adjustment=0.2, trees=True),
        # Not in the paper: schedule and clipping, so that a few epochs on a CPU are enough; and three members.
        TrainConfig(batch_size=128, schedule="cosine", max_epochs=15, patience=4, gradient_clip=1.0, members=3),
        1.0,
    ),  # without a GPU
}


def paper_mu(dataset: str) -> float:
    """The mu that the paper tuned for a dataset; LossConfig's for one that it does not know."""
    return next((mu for start, mu in _PAPER_MU.items() if dataset.startswith(start)), LossConfig().mu)


def presets(dataset: str) -> dict[str, MTORLConfig]:
    """The presets for a dataset; one that the paper does not tune has LossConfig's mu."""
    return {
        name: MTORLConfig(model, LossConfig(mu=paper_mu(dataset) if mu is None else mu), train)
        for name, (model, train, mu) in PRESETS.items()
    }


def preset(name: str, dataset: str) -> MTORLConfig:
    """The preset of that name for a dataset. Raises UserError if there is no such preset."""
    return choose_preset(presets(dataset), name)
