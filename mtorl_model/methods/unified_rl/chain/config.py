"""Settings of UnifiedRL as a method on logged exposures, and its presets."""

from dataclasses import dataclass, field, replace

from mtorl_model.methods.common.label_trees import TreesConfig
from mtorl_model.methods.method import MethodConfig
from mtorl_model.methods.unified_rl import config as learner
from mtorl_model.methods.unified_rl.config import FusionConfig
from schemas.json_config import JsonConfig, require


@dataclass(frozen=True, slots=True)
class ReplayConfig(JsonConfig):
    """How logged exposures are replayed."""

    list_length: int = 10  # exposures of a request, and of a list that is ranked, at most
    draws: int = 2  # explored actions for each list in a round
    rounds: int = 5  # of progressive training (equation 7)

    def __post_init__(self) -> None:
        require(self.list_length >= 2, f"replay config: list_length is {self.list_length}, must be at least 2")
        for name in ("draws", "rounds"):
            require(getattr(self, name) >= 1, f"replay config: {name} is {getattr(self, name)}, must be at least 1")


@dataclass(frozen=True, slots=True)
class UnifiedRLConfig(MethodConfig):
    """All settings: the learner, the replays, the trees that predict the objectives."""

    learner: FusionConfig = field(default_factory=FusionConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    trees: TreesConfig = field(default_factory=TreesConfig)
    predictor: str = "boosting"  # of the objectives: these trees, or a method on candidates, e.g. rmtl


PRESETS = {
    "paper": UnifiedRLConfig(learner.PRESETS["paper"]),
    # Replays have little noise, so a round needs fewer steps than one in the simulator.
    "small": UnifiedRLConfig(replace(learner.PRESETS["small"], steps=1_000)),
}
