"""A setting: one way to train MTORL, as the studies compare and search them."""

from dataclasses import dataclass, replace

from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Setting:
    """train.members and model.prior_adjustment affect only how the trained networks predict.

    Studies compare networks, so there are no trees: they would be the same in all settings and hide the differences.
    """

    model: ModelConfig
    loss: LossConfig
    train: TrainConfig
    hidden_inputs: tuple[str, ...] = ()  # inputs whose name begins with one of these are replaced by missing values

    @property
    def config(self) -> MTORLConfig:
        return MTORLConfig(self.model, self.loss, self.train)

    @classmethod
    def from_config(cls, config: MTORLConfig) -> "Setting":
        return cls(replace(config.model, trees=False), config.loss, config.train)
