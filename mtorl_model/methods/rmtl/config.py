"""Settings of RMTL and its presets."""

from dataclasses import dataclass, field, replace

from mtorl_model.methods.common.label_trees import CANDIDATE_TREES, TreesConfig
from mtorl_model.methods.common.multitask import NetworkConfig
from mtorl_model.methods.method import MethodConfig
from mtorl_model.methods.rmtl.weights import WEIGHTINGS
from schemas.json_config import JsonConfig, require

# A weighting: RMTL's weights where they beat their controls on validation users, otherwise none.
IF_BETTER = "if_better"


@dataclass(frozen=True, slots=True)
class CriticConfig(JsonConfig):
    """The critics and the use of their values. The defaults are those of section 4.1 of the paper."""

    gamma: float = 0.95  # discount of the next exposure's reward; the published code has 0.9
    # Share of the online critics that a step moves into the targets. The paper moves 0.8, the published code 0.2.
    soft_update: float = 0.2
    critic_learning_rate: float = 1e-3  # of Adam
    critic_epochs: int = 96  # at most
    critic_change: float = 3e-3  # training stops if the mean loss has changed by less in two epochs running
    critic_bottom: tuple[int, ...] = (512, 256)
    critic_tower: tuple[int, ...] = (128, 64)
    critic_dropout: float = 0.2
    action: int = 128  # numbers that stand for a prediction in the critics' input
    # How the retraining weights the losses: a name in weights.py, IF_BETTER, or "none": no critics, no retraining.
    weighting: str = "none"
    value_weight: float = 0.7  # lambda: a loss is weighted with 1 - lambda Q

    def __post_init__(self) -> None:
        for name in ("critic_bottom", "critic_tower"):  # JSON has no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(
            self.weighting in ("none", IF_BETTER, *WEIGHTINGS),
            f"critic config: unknown weighting '{self.weighting}': "
            f"choose one of none, {', '.join((IF_BETTER, *WEIGHTINGS))}",
        )
        require(0.0 <= self.gamma < 1.0, f"critic config: gamma is {self.gamma}, must be in [0, 1)")
        require(0.0 < self.soft_update <= 1.0, f"critic config: soft_update is {self.soft_update}, must be in (0, 1]")
        require(self.value_weight >= 0.0, f"critic config: value_weight is {self.value_weight}, must be at least 0")


@dataclass(frozen=True, slots=True)
class ActorTrainConfig(JsonConfig):
    """Training of the network with Adam, before the critics (stage 1a) and after them (stage 2)."""

    batch_size: int = 2048  # exposures per step, in whole sessions, so about as many
    learning_rate: float = 1e-3  # of Adam
    weight_decay: float = 1e-6
    max_epochs: int = 50
    patience: int = 2  # epochs without a better mean validation AUC before stopping
    seed: int = 0  # of initial weights, order and dropout
    members: int = 1  # networks, with this seed and the following ones, whose probabilities are averaged
    device: str = "auto"  # "auto" (a GPU if there is one), "cpu" or "cuda"

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs", "patience", "members"):
            require(getattr(self, name) >= 1, f"train config: {name} is {getattr(self, name)}, must be at least 1")


@dataclass(frozen=True, slots=True)
class RMTLConfig(MethodConfig):
    """All settings of RMTL."""

    model: NetworkConfig = field(default_factory=NetworkConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    train: ActorTrainConfig = field(default_factory=ActorTrainConfig)
    # Gradient boosting of the same inputs, blended with the networks (methods/common/blend.py). Not in the paper.
    trees: bool = False
    boosting: TreesConfig = CANDIDATE_TREES


_PAPER = RMTLConfig(critic=CriticConfig(weighting="critics"))
_SMALL = RMTLConfig(
    # Not in the paper: sizes for a CPU, hidden categories in place of large dropout, and no BatchNorm.
    NetworkConfig(
        embedding=0, bottom=(128, 64), tower=(32,), experts=4, dropout=0.1, category_dropout=0.1, batch_norm=False
    ),
    # On KuaiRand's standard log the weights bring nothing beyond their controls, so they are off.
    CriticConfig(critic_bottom=(64, 32), critic_tower=(16,), critic_dropout=0.0, action=16),
    ActorTrainConfig(batch_size=1024, max_epochs=12, members=2),
    trees=True,
)
# For studies with dozens of trainings on a machine without a GPU.
_TINY = replace(
    _SMALL,
    model=replace(_SMALL.model, embedding=8, bottom=(64,), tower=(16,), experts=2),
    critic=replace(_SMALL.critic, critic_bottom=(32,), action=8),
    train=replace(_SMALL.train, members=1),
)
PRESETS = {"paper": _PAPER, "small": _SMALL, "tiny": _TINY}
