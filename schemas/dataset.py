"""What a log looks like in the raw, and how its rows become exposures: declared, not programmed.

A dataset is one module in `schemas/datasets/` that holds one or more `Dataset` values; nothing else in
the project knows its columns. All expressions are Spark SQL over the views `log` and the lookups' names.
"""

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import schemas.datasets
from schemas.contract import Column, Known, Role, SparkSql
from schemas.days import checked_day
from schemas.errors import UserError
from schemas.quality import Quality

NO_COST = "cast(0 AS double)"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column of a raw file. dtype: bigint, double or string; a value that does not parse is refused."""

    name: str
    dtype: str = "bigint"
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class RawFile:
    """One kind of delimited text file with a header, in one or many parts.

    patterns: file names (shell globs) inside RAW that hold it; every matching file is read.
    """

    view: str
    patterns: tuple[str, ...]
    columns: tuple[RawColumn, ...]
    separator: str = ","


@dataclass(frozen=True, slots=True)
class Lookup:
    """A side table joined to the log by key; a log row without a match is refused as `unknown <noun>`.

    spark_sql: a SELECT over the placeholder {<view>} that adds columns; it must keep one row per key.
    """

    file: RawFile
    key: str
    log_key: str
    noun: str  # for the reason: "unknown user"
    spark_sql: SparkSql = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """A column of `exposures` and the expression that computes it."""

    column: Column
    spark_sql: SparkSql


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that sends a raw row to quarantine if its condition is true. The first rule that applies is recorded."""

    reason: str
    spark_sql: SparkSql


@dataclass(frozen=True, slots=True)
class Gain:
    """A binary outcome to predict: a column of the dataset, and its weight in the fused reward (eq. 18)."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset contract.

    log_key: raw columns that identify an exposure, its time among them; further rows of the same day with the
    same key are duplicates.
    exposed_at_ms: milliseconds since 1970 UTC; it is asked of every row, so it must yield NULL, not an error,
    where there is no time to read (try_cast, try_add and their like; a cell that overflows stops Spark). The other
    columns are asked only of rows that no refusal has caught.
    timezone: whose calendar day `ds` and hour are.
    channel: SQL of the channel's name, NULL where unknown. channels: their names where the contract fixes
    them; empty means that the feature spec learns them from training users.
    outcome_days: for how many days after an exposure its row may come again with a gain that has happened since.
    cost: SQL of what the exposure cost, in the log's unit; NO_COST where the log has none.
    propensity: SQL of the logging policy's probability of the shown channel, NULL where unknown.
    quality: what a day looks like when nothing is wrong.
    """

    name: str
    title: str
    log: RawFile
    log_key: tuple[str, ...]
    user_id: Derived
    exposed_at_ms: SparkSql
    timezone: str
    channel: SparkSql
    gains: tuple[Gain, ...]
    columns: tuple[Derived, ...]
    lookups: tuple[Lookup, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    channels: tuple[str, ...] = ()
    cost: SparkSql = NO_COST
    propensity: SparkSql = "cast(NULL AS double)"
    outcome_days: int = 0
    notes: tuple[str, ...] = field(default=())  # what a reader of a report must know about the labels
    # Not in repr: the raw index is read anew where repr changes, and no threshold changes what a row becomes.
    quality: Quality = field(default=Quality(), repr=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"dataset name {self.name!r}: use a-z, 0-9 and _")
        if self.user_id.column.dtype not in ("int", "bigint", "string"):
            raise ValueError(f"dataset {self.name}: a user_id is int, bigint or string; cast any other type to string")
        by_name = {d.column.name: d.column for d in self.columns}
        if len(by_name) != len(self.columns):
            raise ValueError(f"dataset {self.name}: a column is declared twice")
        for gain in self.gains:
            if by_name.get(gain.name) is None or by_name[gain.name].known not in (Known.AFTER, Known.AT):
                raise ValueError(f"dataset {self.name}: gain {gain.name} must be a column known after or at")
        for column in by_name.values():
            if column.known is Known.AT and (column.known_at not in by_name or column.name not in self.gain_names):
                raise ValueError(f"dataset {self.name}: {column.name} needs its time column and must be a gain")
            if column.static and column.known is not Known.BEFORE:
                raise ValueError(f"dataset {self.name}: profile column {column.name} must be known before")
        for what in ("max_missing_share", "not_compared"):
            for name in getattr(self.quality, what):
                if name not in by_name and name != "cost":
                    raise ValueError(f"dataset {self.name}: {what} names {name}, which is no column")
        for day in self.quality.excused:
            try:
                checked_day(day)
            except UserError as error:
                raise ValueError(f"dataset {self.name}, excused: {error}") from None

    @property
    def gain_names(self) -> tuple[str, ...]:
        return tuple(g.name for g in self.gains)

    def column(self, name: str) -> Column:
        return next(d.column for d in self.columns if d.column.name == name)

    @property
    def has_costs(self) -> bool:
        """Whether the log says what an exposure cost; where it does not, a budget is a number of exposures."""
        return self.cost != NO_COST

    @property
    def late_gains(self) -> tuple[str, ...]:
        """Gains that become known at a time of their own."""
        return tuple(g for g in self.gain_names if self.column(g).known is Known.AT)

    @property
    def late_gain_times(self) -> dict[str, str]:
        """Each late gain, and the column that says when it became known (ms, UTC)."""
        return {g: str(self.column(g).known_at) for g in self.late_gains}

    def end_of_day_ms(self, day: str) -> int:
        """The first millisecond after the day of the dataset's own calendar, UTC epoch."""
        midnight = datetime.fromisoformat(checked_day(day)) + timedelta(days=1)
        return int(midnight.replace(tzinfo=ZoneInfo(self.timezone)).timestamp() * 1000)

    def features(self, known: Known, *, static: bool = False) -> tuple[Column, ...]:
        """The candidate feature columns known `before` or `after` their exposure."""
        return tuple(
            d.column
            for d in self.columns
            if d.column.known is known and d.column.static is static and d.column.role is not Role.NONE
        )


@cache
def _registry() -> dict[str, Dataset]:
    found: dict[str, Dataset] = {}
    for module in pkgutil.iter_modules(schemas.datasets.__path__):
        for dataset in importlib.import_module(f"schemas.datasets.{module.name}").DATASETS:
            if dataset.name in found:
                raise ValueError(f"two datasets are named {dataset.name}")
            found[dataset.name] = dataset
    return found


def dataset_names() -> list[str]:
    return sorted(_registry())


def get_dataset(name: str) -> Dataset:
    """The contract of that name, or a UserError that lists the names there are."""
    try:
        return _registry()[name]
    except KeyError:
        raise UserError(f"unknown dataset '{name}': choose one of {', '.join(dataset_names())}") from None
