"""The parts of a contract about candidates: sessions, the second label, and the objectives of a ranking.

A method on candidates predicts what a given ad or video will bring to a user, exposure by exposure of a session.
"""

from dataclasses import dataclass
from enum import Enum


class SessionEnd(Enum):
    """The event that ends a session; the next exposure of the user begins a new one."""

    GAP = "gap"  # a time without exposures
    DAY = "day"  # midnight in the dataset's time zone
    COLUMN = "column"  # another value in a column of the log
    NEVER = "never"  # all exposures of a user are one session


@dataclass(frozen=True, slots=True)
class Sessions:
    """How the exposures of a user, in their order, divide into sessions.

    Whether an exposure begins a session depends on it and on earlier exposures only. Exposures with equal time stamps
    are never divided by a gap.

    reason: why this dataset has these sessions. gap_s: for GAP, more seconds than this between two exposures.
    column: for COLUMN, a column of the dataset that is known before the exposure. A user who returns to an earlier
    value begins a new session.
    """

    end: SessionEnd
    reason: str
    gap_s: float | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        if (self.end is SessionEnd.GAP) != (self.gap_s is not None):
            raise ValueError("sessions: gap_s belongs to sessions that end with a gap")
        if (self.end is SessionEnd.COLUMN) != (self.column is not None):
            raise ValueError("sessions: column belongs to sessions that end with another value")


USER_DAYS = Sessions(
    SessionEnd.DAY, "the log does not mark visits, and every session is complete at the end of its day"
)


@dataclass(frozen=True, slots=True)
class ImpliedLabel:
    """A second label that implies the first: `first` and `second` are gains, the label is 1 where both are.

    For example the purchase after a click. Methods that factorise P(second) = P(first) P(second | first) need it, also
    in a log in which a few rows have the second gain without the first.
    """

    first: str
    second: str

    @property
    def task_names(self) -> tuple[str, str]:
        """The names of the two labels."""
        return self.first, f"{self.first}_{self.second}"


@dataclass(frozen=True, slots=True)
class Objective:
    """An outcome that a ranking pursues: 1 where any of these columns is above 0, else 0.

    Several outcomes, each too rare for a separate prediction, can share an objective.

    weight: of the objective in the reward of a list; None: fitted on training users. It must not be negative.
    """

    name: str
    columns: tuple[str, ...]
    weight: float | None = None

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError(f"objective {self.name} needs a column")
        if self.weight is not None and not 0.0 <= self.weight < float("inf"):
            raise ValueError(f"objective {self.name} has the weight {self.weight}: choose a number of at least 0")
