"""Settings of UnifiedRL and its presets. The numbers are those of the paper where it states them."""

from dataclasses import dataclass

from schemas.json_config import JsonConfig, require

NETWORK, LOCAL = "network", "local"  # forms of a critic


@dataclass(frozen=True, slots=True)
class FusionConfig(JsonConfig):
    """The learner (equations 2 to 7)."""

    discount: float = 0.9  # gamma, of the rewards of a session (equation 2)
    half_width: float = 0.15  # of the box in each dimension: the exploration is uniform in it (equation 3)
    box_penalty: float = 1.2  # eta, weight of the actor's penalty outside the box (equation 4)
    penalty_scale: float = 0.3  # beta, in box widths: how slowly the penalty grows outside the box (equation 5)
    uncertainty: float = 0.2  # lambda, weight of the critics' standard deviation (equation 4)
    critics: int = 24  # m, critics of each reward group
    critic: str = NETWORK  # a network of state and action, as in the paper; "local": quadratic in the box (networks.py)
    bootstrap_share: float = 0.8  # share of the transitions that each critic learns from; not in the paper
    hidden: int = 64  # units of the two hidden layers of actor and critics; not in the paper
    learning_rate: float = 1e-3  # of Adam; not in the paper
    batch: int = 256
    steps: int = 300_000
    target_share: float = 0.08  # share by which the targets move towards the learned networks
    target_every: int = 15  # steps between two moves of the targets
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.critic in (NETWORK, LOCAL), f"fusion config: critic is '{self.critic}', must be network or local")
        require(0.0 <= self.discount < 1.0, f"fusion config: discount is {self.discount}, must be in [0, 1)")
        for name in ("half_width", "penalty_scale", "bootstrap_share", "learning_rate", "target_share"):
            require(getattr(self, name) > 0.0, f"fusion config: {name} is {getattr(self, name)}, must be above 0")
        for name in ("box_penalty", "uncertainty"):
            require(getattr(self, name) >= 0.0, f"fusion config: {name} is {getattr(self, name)}, must be at least 0")
        for name in ("critics", "hidden", "batch", "steps", "target_every"):
            require(getattr(self, name) >= 1, f"fusion config: {name} is {getattr(self, name)}, must be at least 1")


PRESETS = {
    "paper": FusionConfig(),
    # For a CPU. Few steps need larger ones, and targets that follow sooner.
    "small": FusionConfig(critics=8, critic=LOCAL, hidden=32, steps=500, learning_rate=3e-3, target_share=0.3),
}
