"""Where things lie in a lake. No path is ever built from an unchecked name."""

import re
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from schemas.errors import UserError

UNDATED = "undated"  # the partition of refused rows whose day cannot be read, or is none of the log's

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PATTERN = re.compile(r"[\[\]{}*?\\]")


def checked_day(day: str) -> str:
    """The day as YYYY-MM-DD, or a UserError."""
    try:
        if date.fromisoformat(day).isoformat() == day:
            return day
    except ValueError:
        pass
    raise UserError(f"'{day}' is not a day: write it as YYYY-MM-DD")


def days_between(first: str, last: str) -> list[str]:
    """All days from first to last, both included."""
    start, end = date.fromisoformat(checked_day(first)), date.fromisoformat(checked_day(last))
    if end < start:
        raise UserError(f"the range of days is empty: {first} is after {last}")
    return [(start + timedelta(days=k)).isoformat() for k in range((end - start).days + 1)]


def day_plus(day: str, days: int) -> str:
    """The day so many days later; earlier where negative."""
    return (date.fromisoformat(checked_day(day)) + timedelta(days=days)).isoformat()


def day_before(day: str) -> str:
    return day_plus(day, -1)


def literal_path(path: Path) -> Path:
    """The path; a UserError where Spark and DuckDB would read it as a pattern of file names."""
    if found := _PATTERN.search(str(path.resolve())):
        raise UserError(f"{path.resolve()} would be read as a pattern because of the {found[0]} in it: rename it")
    return path


@dataclass(frozen=True, slots=True)
class Lake:
    """The root folder of all tables."""

    root: Path

    def __post_init__(self) -> None:
        literal_path(self.root)

    def table(self, table: str, dataset: str) -> Path:
        for name in (table, dataset):
            if not _NAME.fullmatch(name):
                raise UserError(f"'{name}' is no name of a table or dataset: use a-z, 0-9 and _")
        return self.root / table / f"dataset={dataset}"

    def partition(self, table: str, dataset: str, ds: str) -> Path:
        return self.table(table, dataset) / f"ds={ds if ds == UNDATED else checked_day(ds)}"

    def days(self, table: str, dataset: str) -> list[str]:
        """The published days of a table, oldest first (the undated partition of refused rows left out)."""
        found = (p.name.removeprefix("ds=") for p in self.table(table, dataset).glob("ds=*"))
        return sorted(day for day in found if day != UNDATED)

    @property
    def staging(self) -> Path:
        """Where jobs write before they publish: on the same file system, so that a rename is atomic."""
        return self.root / ".staging"

    @property
    def locks(self) -> Path:
        """Who builds what: see lakehouse.locks."""
        return self.root / ".locks"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's tracking and registry store."""
        return (self.root / "mlflow" / "mlflow.db").resolve()

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.mlflow_database}"

    @property
    def mlflow_artifacts(self) -> Path:
        return (self.root / "mlflow" / "artifacts").resolve()

    def audits(self, dataset: str) -> Path:
        """The latest audit of each partition, as <table>/<ds>.json."""
        return self.table("audits", dataset)

    def drift(self, dataset: str) -> Path:
        """How far each day is from the days before it, as <ds>.json: see jobs.drift.results."""
        return self.table("drift", dataset)

    def day_profiles(self, dataset: str) -> Path:
        """What each day of exposures looks like in counts, as <ds>.json: see jobs.quality.day_profile."""
        return self.table("day_profiles", dataset)

    def raw_index(self, dataset: str) -> Path:
        """What the raw log held when it was last read: see jobs.raw.index."""
        return self.table("raw_index", dataset) / "index.json"

    def handed_out(self, dataset: str) -> Path:
        """The refused rows that were handed out to be repaired, file by file, as they were: see jobs.quarantine."""
        return self.table("handed_out", dataset)

    def docs(self, dataset: str) -> Path:
        """The data docs of a dataset: a static site that opens without a network."""
        return self.table("data_docs", dataset)

    def reports(self, dataset: str) -> Path:
        """A page a day and an index: see jobs.report."""
        return self.table("reports", dataset)

    def metrics(self, dataset: str) -> Path:
        """The champion's figures on the lake's own test users."""
        return self.table("metrics", dataset) / "metrics.json"

    def studies(self, dataset: str) -> Path:
        """What the studies of the model have found: a table, its protocol and a picture each."""
        return self.table("studies", dataset)
