"""The settings of methods that learn the value of a channel."""

from dataclasses import dataclass

from mtorl_model.methods.baselines.shared.config import NetworkConfig
from schemas.json_config import require


@dataclass(frozen=True, slots=True)
class ValueNetworkConfig(NetworkConfig):
    discount: float = 0.9  # gamma, of the rewards of later exposures; MTORL does not publish that of its baselines
    target_share: float = 0.005  # share by which the target network moves towards the learned one in a step
    dropout: float = 0.0  # none of these papers has dropout

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require(0.0 <= self.discount < 1.0, f"discount is {self.discount}, must be in [0, 1)")
        require(0.0 < self.target_share <= 1.0, f"target_share is {self.target_share}, must be in (0, 1]")
