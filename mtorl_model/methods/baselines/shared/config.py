"""The settings that all networks among the baselines have, and their presets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from mtorl_model.methods.method import MethodConfig
from mtorl_model.training.config import TrainConfig
from schemas.json_config import require


@dataclass(frozen=True, slots=True)
class NetworkConfig(MethodConfig):
    """A network and its training. The defaults are those of MTORL's section 4.1.3, for all methods alike."""

    hidden: int = 512  # units of each hidden layer
    layers: int = 2  # hidden layers
    dropout: float = 0.1  # rate, after each hidden layer
    category_dropout: float = 0.0  # share of categorical inputs that a training window shows as out of vocabulary
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("dropout", "category_dropout"):
            require(0.0 <= getattr(self, name) < 1.0, f"{name} is {getattr(self, name)}, must be in [0, 1)")


C = TypeVar("C", bound=NetworkConfig)


def presets_of(config: type[C]) -> Mapping[str, C]:
    """`paper`, and `small` for a machine without a GPU: the network and the training of MTORL's preset `small`.

    One network in place of MTORL's three, whose average is another departure.
    """
    train = TrainConfig(batch_size=128, schedule="cosine", max_epochs=15, patience=4, gradient_clip=1.0)
    return {"paper": config(), "small": config(hidden=128, category_dropout=0.2, train=train)}
