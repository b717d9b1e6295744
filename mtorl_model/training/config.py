"""Settings for training a network and for fine-tuning it on a day."""

from dataclasses import dataclass

from schemas.json_config import JsonConfig, require

SCHEDULES = ("constant", "cosine")
KEPT_EPOCHS = ("best", "last")


@dataclass(frozen=True, slots=True)
class TrainConfig(JsonConfig):
    """Training with Adam and early stopping on the validation users.

    The defaults are those of section 4.1.3, except the patience, which the paper does not state.
    """

    batch_size: int = 512  # windows per step
    # Parts of a batch, computed one after another or by several processes; their gradients are added up. Each part has
    # its own draws of preference pairs and dropout, so the weights do not depend on the process that computes it.
    micro_batches: int = 1
    learning_rate: float = 1e-3  # of Adam
    schedule: str = "constant"  # of the learning rate; "cosine": a short linear rise, then a fall to nearly 0
    weight_decay: float = 0.0  # decoupled
    max_epochs: int = 800  # passes over the training windows, at most
    patience: int = 20  # epochs without a better validation loss before stopping
    keep: str = "best"  # the final weights: of the epoch with the lowest validation loss, or of the "last" epoch
    seed: int = 0  # of initial weights, order, dropout and preference pairs
    members: int = 1  # networks, with this seed and the following ones, whose probabilities are averaged
    gradient_clip: float = 0.0  # largest norm of the gradient; 0: not clipped
    checkpoint_every: int = 500  # optimiser steps between checkpoints
    device: str = "auto"  # "auto" (a GPU if there is one), "cpu" or "cuda"

    def __post_init__(self) -> None:
        require(
            self.schedule in SCHEDULES,
            f"train config: unknown schedule '{self.schedule}': choose one of {', '.join(SCHEDULES)}",
        )
        require(
            self.keep in KEPT_EPOCHS, f"train config: unknown keep '{self.keep}': choose {' or '.join(KEPT_EPOCHS)}"
        )
        require(
            1 <= self.micro_batches <= self.batch_size,
            f"train config: micro_batches is {self.micro_batches}, must be from 1 to batch_size {self.batch_size}",
        )
        require(self.members >= 1, f"train config: members is {self.members}, must be at least 1")
        require(
            self.gradient_clip >= 0.0,
            f"train config: gradient_clip is {self.gradient_clip}, must be at least 0 (0: not clipped)",
        )


@dataclass(frozen=True, slots=True)
class FineTuneConfig(JsonConfig):
    """Fine-tuning on a day. Its cost and its change of the weights are limited, whatever the length of the history."""

    learning_rate: float = 1e-4  # of Adam, constant
    batch_size: int = 128  # windows per step
    max_steps: int = 200  # optimiser steps per day, at most
    passes: int = 2  # over the day's own windows, at most
    replay_share: float = 0.5  # of each batch: windows of earlier days
    replay_days: int = 12  # earlier days to read windows from, half of them among the last recent_days
    recent_days: int = 30  # or more, if gains of the dataset may follow later than that
    latest_windows: int = 60_000  # for models that are fitted again every day: windows to fit on, at most
    latest_days: int = 30  # of this many latest days, at most
    fewest_latest_days: int = 7  # and of at least as many, if there are
    gradient_clip: float = 1.0  # largest norm of the gradient
    device: str = "auto"

    def __post_init__(self) -> None:
        positive = ("batch_size", "max_steps", "passes", "replay_days", "recent_days", "latest_windows", "latest_days",
                    "fewest_latest_days")  # fmt: skip
        for name in positive:
            require(getattr(self, name) >= 1, f"fine-tune config: {name} is {getattr(self, name)}, must be at least 1")
        require(
            0.0 <= self.replay_share < 1.0,
            f"fine-tune config: replay_share is {self.replay_share}, must be in [0, 1)",
        )
        require(self.learning_rate > 0.0, f"fine-tune config: learning_rate is {self.learning_rate}, must be above 0")
