"""How far a day has drifted: figures with their limits, and where the lake stores them."""

import json
from dataclasses import asdict, dataclass

from lakehouse.lake import Lake
from lakehouse.storage.files import read_stored, write_whole
from schemas.dataset import Dataset
from schemas.days import checked_day

FEATURES, CHANNELS, REWARDS = "features", "channels", "rewards"
CALIBRATION, POLICY, VOCABULARY = "calibration", "policy", "vocabulary"
DAY_BEFORE, TRAINING = "day before", "training period"
FIXED = "fixed"
IF_DRIFT_DAMAGED = "delete it, and measure the day again (python -m jobs.measure_drift)"


@dataclass(frozen=True, slots=True)
class DriftFigure:
    """One measured distance between a day and the days that it is compared with."""

    name: str  # e.g. psi(duration_s), js(channel), rate(click), policy_change
    about: str  # features, channels, rewards, calibration, policy or vocabulary
    against: str  # "day before", "training period", or "" for a figure of the day alone
    value: float
    limit: float
    limit_from: str  # "fixed", or "learned from N days"
    severity: str  # the effect of exceeding the limit: a value of schemas.contract.Severity
    sentence: str  # the figure in words, for a reader who does not know the statistics
    why: str
    same: float = 0.0  # the value of no difference: 1 for a ratio

    @property
    def is_within_limit(self) -> bool:
        """False for a value that could not be computed (NaN)."""
        return self.value <= self.limit


@dataclass(frozen=True, slots=True)
class Drift:
    """All figures of one day."""

    dataset: str
    ds: str
    reference: tuple[str, ...]  # the days of the training period that it was compared with; () before any training
    figures: tuple[DriftFigure, ...]
    inputs: dict[str, str]  # the fingerprint of every partition that was read, by its key

    @property
    def exceeded(self) -> tuple[DriftFigure, ...]:
        """The figures that exceed their limit."""
        return tuple(figure for figure in self.figures if not figure.is_within_limit)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Drift":
        fields = json.loads(text)
        figures = tuple(DriftFigure(**figure) for figure in fields.pop("figures"))
        return cls(figures=figures, reference=tuple(fields.pop("reference")), **fields)


def store_drift(lake: Lake, drift: Drift) -> None:
    """Store the figures as LAKE/<dataset>/drift/<ds>.json, in one step."""
    write_whole(lake.drift(drift.dataset) / f"{drift.ds}.json", drift.to_json())


def stored_drift(lake: Lake, dataset: Dataset, day: str) -> Drift | None:
    """The figures of that day; None if they were never measured."""
    try:
        return read_stored(lake.drift(dataset) / f"{checked_day(day)}.json", Drift.from_json, IF_DRIFT_DAMAGED)
    except FileNotFoundError:
        return None


def stored_drifts(lake: Lake, dataset: Dataset) -> list[Drift]:
    """The figures of every day that was measured, oldest first."""
    return [read_stored(file, Drift.from_json, IF_DRIFT_DAMAGED) for file in sorted(lake.drift(dataset).glob("*.json"))]
