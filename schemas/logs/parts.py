"""The parts of a dataset contract: raw files and their columns, lookups, outcomes, derived columns, refusals, gains."""

import math
from dataclasses import dataclass

from schemas.contract import Column, Known, SparkSql


@dataclass(frozen=True, slots=True)
class RawColumn:
    """A column of a raw file. dtype: bigint, double or string; a row with a value that does not parse is refused."""

    name: str
    dtype: str = "bigint"
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class RawFile:
    """One kind of delimited text file with a header, in one or many parts.

    view: the name by which expressions refer to the rows.
    patterns: shell globs of file names in the folder RAW; every matching file is read.
    """

    view: str
    patterns: tuple[str, ...]
    columns: tuple[RawColumn, ...]
    separator: str = ","


@dataclass(frozen=True, slots=True)
class Lookup:
    """A side table that is joined to the log by its key. A log row without a match is refused as `unknown <noun>`.

    key, log_key: the key column in the side table and in the log.
    spark_sql: a SELECT over the placeholder {<view>} that adds columns; it must keep one row per key.
    optional: a log row without a match is not refused; the lookup's columns are null in it.
    newest_by: the column whose largest value marks the newest of several rows of a key. Without it, and between rows
    that agree in it, the row of the newest file counts. Equal rows are one row.
    """

    file: RawFile
    key: str
    log_key: str
    noun: str  # for example "user", in the reason "unknown user"
    spark_sql: SparkSql = ""
    optional: bool = False
    newest_by: str = ""


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
class Outcome:
    """A gain that separate rows report: rows of the log (an event log), or rows of a further file.

    A row counts for the latest exposure that agrees with it in `match` and is not later than it, and at most
    `within_hours` earlier. The exposure gets 1 in the column <gain> and the time of its first such row in
    <gain>_at_ms, which the dataset has without listing them; an exposure without such a row gets 0. So the gain is
    known at the time of that row, and never before it.

    gain: the name of the gain.
    doc: its meaning, for the columns.
    match: columns of the log's key, without nulls, that an exposure and its outcome share.
    condition: true for the rows of the log, or of `file`, that report this gain. Empty: every row of `file`.
    file: None if the rows are in the log itself.
    file_match: the columns of `file` that correspond to `match`, if their names differ.
    at_ms: the time of the row, in milliseconds since 1970 UTC, or NULL if it cannot be read. Empty: as in the log.
    """

    gain: str
    doc: str
    match: tuple[str, ...]
    within_hours: int
    condition: SparkSql = ""
    file: RawFile | None = None
    file_match: tuple[str, ...] = ()
    at_ms: SparkSql = ""

    @property
    def days_later(self) -> int:
        """The most days by which the row's day can be later than the day of its exposure. A day may have 23 hours."""
        return math.ceil((self.within_hours + 1) / 24)

    @property
    def columns(self) -> tuple[Derived, ...]:
        """The gain and its time, as they are before any outcome is joined."""
        time = f"{self.gain}_at_ms"
        return (
            Derived(Column(self.gain, "int", self.doc, Known.AT, known_at=time), "0"),
            Derived(
                Column(time, "bigint", f"time of the first {self.gain}, ms UTC", Known.NEVER, nullable=True),
                "cast(NULL AS bigint)",
            ),
        )
