"""A dataset contract: the layout of a raw log, and the expressions that turn its rows into exposures.

A module in `schemas/datasets/` defines one or more `Dataset` values; no other module knows their columns. All
expressions are Spark SQL over the view `log` and the views of the lookups.
"""

import importlib
import pkgutil
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import schemas.datasets
from schemas.candidates import USER_DAYS, ImpliedLabel, Sessions
from schemas.contract import Column, Known, Role, SparkSql
from schemas.days import checked_day
from schemas.errors import UserError
from schemas.quality import Quality

NO_COST = "cast(0 AS double)"
DELIMITED, JSON_LINES, PARQUET = "delimited", "json_lines", "parquet"  # the formats of raw files
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column of a raw file. dtype: bigint, double or string; a row with a value that does not parse is refused."""

    name: str
    dtype: str = "bigint"
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class RawFile:
    """One kind of raw file, in one or many parts.

    view: the name by which expressions refer to the rows.
    patterns: shell globs of file names in the folder RAW; every matching file is read. A file may be compressed: its
    name may end in .gz, .zst, .bz2 or .xz in addition, and its content decides.
    columns: found by the names in the header; other columns of a file are not read. Without a header, they are all
    columns of a file in their order.
    separator: one ASCII character. quote: the character around fields that contain the separator or a line end, "" if
    quotes have no meaning, as in many tab-separated files.
    format: DELIMITED text; JSON_LINES, one object a line; PARQUET files, or JSON lines in a file <name>.jsonl.
    header: whether the first line of delimited text has the names of its columns.
    encoding: as Python names it; a byte order mark in a file is stronger. A row that cannot be decoded is refused.
    null_tokens: texts that mean a missing value, such as "NULL" or "\\N"; the empty text always does.
    not_read: patterns of names of other files in RAW that are known and left out without a note.
    """

    view: str
    patterns: tuple[str, ...]
    columns: tuple[RawColumn, ...]
    separator: str = ","
    quote: str = '"'
    format: str = DELIMITED
    header: bool = True
    encoding: str = "utf-8"
    null_tokens: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"raw file {self.view}: a column is declared twice")
        if self.format not in (DELIMITED, JSON_LINES, PARQUET):
            raise ValueError(f"raw file {self.view}: unknown format {self.format!r}")
        if len(self.separator) != 1 or not self.separator.isascii() or self.separator in "\r\n\0":
            raise ValueError(f"raw file {self.view}: the separator is one ASCII character, not {self.separator!r}")
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote in (self.separator, "\r", "\n", "\0"):
            raise ValueError(f"raw file {self.view}: the quote is one ASCII character or empty, not {self.quote!r}")
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError):
            raise ValueError(f"raw file {self.view}: unknown encoding {self.encoding!r}") from None


@dataclass(frozen=True, slots=True)
class Lookup:
    """A side table that is joined to the log by its key. A log row without a match is refused as `unknown <noun>`.

    key, log_key: the key column in the side table and in the log.
    spark_sql: a SELECT over the placeholder {<view>} that adds columns; it must keep one row per key.
    """

    file: RawFile
    key: str
    log_key: str
    noun: str  # for example "user", in the reason "unknown user"
    spark_sql: SparkSql = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """A column of `exposures` and the expression that computes it."""

    column: Column
    spark_sql: SparkSql


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that sends a raw row to quarantine if its condition is true. The first rule that applies is the reason."""

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

    log_key: the raw columns that identify an exposure; the time must be one of them. A second row of the same day with
    the same key is a duplicate.
    exposed_at_ms: milliseconds since 1970 UTC. It is evaluated for every row, so it must give NULL, not an error, if
    the time cannot be read: use try_cast, try_add and similar functions, because an overflow stops Spark. The other
    columns are evaluated only for rows that are not refused.
    timezone: the time zone in which the day `ds` and the hour are counted.
    channel: the name of the channel; NULL if it is unknown.
    channels: the names of all channels. If it is empty, the feature spec learns them from training users.
    gains: the outcomes to predict. The first one decides the checks of the gain rate.
    columns: the further columns of `exposures`.
    cost: the cost of the exposure, in the log's unit; NO_COST if the log has no costs.
    propensity: the logging policy's probability of the shown channel; NULL if it is unknown.
    outcome_days: for this many days after an exposure, its row may be delivered again with a new gain.
    notes: what a reader of a report must know about the labels.
    quality: the thresholds for a normal day.
    sessions: how a user's exposures divide into sessions.
    implied_label: the second label of methods on candidates; None if they predict the first gain alone.
    items: columns known `with` the candidate; the exposures and gains of each of their values are counted in the table
    `item_history`.
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
    notes: tuple[str, ...] = field(default=())
    # Not in repr: a changed repr makes the raw log be read again, and these fields do not change how rows are read.
    quality: Quality = field(default=Quality(), repr=False)
    sessions: Sessions = field(default=USER_DAYS, repr=False)
    implied_label: ImpliedLabel | None = field(default=None, repr=False)
    items: tuple[str, ...] = field(default=(), repr=False)

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
        self._check_candidates(by_name)
        for threshold in ("max_missing_share", "not_compared"):
            for name in getattr(self.quality, threshold):
                if name not in by_name and name != "cost":
                    raise ValueError(f"dataset {self.name}: {threshold} names {name}, which is not a column")
        for day in self.quality.excused:
            try:
                checked_day(day)
            except UserError as error:
                raise ValueError(f"dataset {self.name}, excused: {error}") from None

    def _check_candidates(self, by_name: dict[str, Column]) -> None:
        """Raises ValueError if sessions, implied label or items name a column that cannot serve."""
        session_column = self.sessions.column
        if session_column is not None and (
            session_column not in by_name or by_name[session_column].known is not Known.BEFORE
        ):
            raise ValueError(f"dataset {self.name}: sessions need a column known before, not {session_column}")
        if self.implied_label is not None:
            for name in (self.implied_label.first, self.implied_label.second):
                if name not in self.gain_names:
                    raise ValueError(f"dataset {self.name}: the implied label names {name}, which is not a gain")
        for name in self.items:
            if name not in by_name or by_name[name].known is not Known.WITH:
                raise ValueError(f"dataset {self.name}: item {name} must be a column known with the candidate")

    @property
    def gain_names(self) -> tuple[str, ...]:
        return tuple(g.name for g in self.gains)

    def column(self, name: str) -> Column:
        return next(d.column for d in self.columns if d.column.name == name)

    @property
    def has_costs(self) -> bool:
        """Whether the log has costs. In a log without costs, a budget is a number of exposures."""
        return self.cost != NO_COST

    @property
    def late_gains(self) -> tuple[str, ...]:
        """The gains that become known later than the exposure."""
        return tuple(g for g in self.gain_names if self.column(g).known is Known.AT)

    @property
    def late_gain_times(self) -> dict[str, str]:
        """For each late gain, the column with the time at which it became known (ms, UTC)."""
        return {gain: str(self.column(gain).known_at) for gain in self.late_gains}

    def end_of_day_ms(self, day: str) -> int:
        """The first millisecond after the day, UTC epoch; the day is one in the dataset's time zone."""
        midnight = datetime.fromisoformat(checked_day(day)) + timedelta(days=1)
        return int(midnight.replace(tzinfo=ZoneInfo(self.timezone)).timestamp() * 1000)

    def features(self, *known: Known, static: bool = False) -> tuple[Column, ...]:
        """The candidate feature columns that become known at one of these; static: those of the user's profile."""
        return tuple(
            d.column
            for d in self.columns
            if d.column.known in known and d.column.static is static and d.column.role is not Role.NONE
        )


@cache
def _registry() -> dict[str, Dataset]:
    datasets: dict[str, Dataset] = {}
    for module in pkgutil.iter_modules(schemas.datasets.__path__):
        for dataset in importlib.import_module(f"schemas.datasets.{module.name}").DATASETS:
            if dataset.name in datasets:
                raise ValueError(f"two datasets are named {dataset.name}")
            datasets[dataset.name] = dataset
    return datasets


def dataset_names() -> list[str]:
    return sorted(_registry())


def get_dataset(name: str) -> Dataset:
    """The contract of that name. A UserError lists the known names if there is no such dataset."""
    try:
        return _registry()[name]
    except KeyError:
        raise UserError(f"unknown dataset '{name}': choose one of {', '.join(dataset_names())}") from None
