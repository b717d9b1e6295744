"""The parts of a dataset contract: raw files and their columns, lookups, outcomes, derived columns, refusals, gains."""

import math
from dataclasses import dataclass
from pathlib import PurePath

from schemas.contract import Column, DuckDbSql, Known
from schemas.logs.field_types import check_field_types

DELIMITED, JSON_LINES, PARQUET = "delimited", "json_lines", "parquet"  # the formats of raw files


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
    patterns: shell globs of file names in the folder RAW; every matching file is read. "day=*/part-*.csv" matches files
    in its folders. A file may be compressed: its name may end in .gz, .zst, .bz2 or .xz in addition, and its content
    decides.
    columns: found by the names in the header; other columns of a file are not read. Without a header, they are all
    columns of a file in their order.
    separator: one or more characters, such as "," or "::". quote: the character around fields that contain the
    separator or a line end, "" if quotes have no meaning, as in many tab-separated files.
    format: DELIMITED text; JSON_LINES, an object in each line; PARQUET files, or JSON lines in a file <name>.jsonl.
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
        try:
            check_field_types(self)
        except ValueError as error:
            raise ValueError(f"raw file {self.view}: {error}") from None
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"raw file {self.view}: a column is declared twice")
        if self.format not in (DELIMITED, JSON_LINES, PARQUET):
            raise ValueError(f"raw file {self.view}: unknown format {self.format!r}")
        if not self.separator or any(character in self.separator for character in "\r\n\0"):
            raise ValueError(
                f"raw file {self.view}: the separator has no line end and is not empty: {self.separator!r}"
            )
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote in ("\r", "\n", "\0"):
            raise ValueError(f"raw file {self.view}: the quote is one ASCII character or empty, not {self.quote!r}")
        if self.quote and self.quote in self.separator:
            raise ValueError(f"raw file {self.view}: the quote {self.quote!r} is a part of the separator")
        try:
            "".encode(self.encoding)
        except (LookupError, ValueError):
            raise ValueError(f"raw file {self.view}: unknown encoding {self.encoding!r}") from None

    def name_of(self, path: PurePath) -> str:
        """The name by which rows refer to a file: with as many of its folders as the patterns have."""
        folders = max((pattern.count("/") for pattern in self.patterns), default=0)
        return "/".join(path.parts[-1 - folders :])


@dataclass(frozen=True, slots=True)
class Lookup:
    """A side table that is joined to the log by its key. A log row without a match is refused as `unknown <noun>`.

    key, log_key: the key column in the side table and in the log.
    duckdb_sql: a SELECT over the view that adds columns; it must keep the key with its type, and one row per key.
    optional: a log row without a match is not refused; the lookup's columns are null in it.
    newest_by: the column whose largest value marks the newest of several rows of a key. Without it, and between rows
    that agree in it, the row of the newest file counts. Equal rows are one row.
    """

    file: RawFile
    key: str
    log_key: str
    noun: str  # for example "user", in the reason "unknown user"
    duckdb_sql: DuckDbSql = ""
    optional: bool = False
    newest_by: str = ""


@dataclass(frozen=True, slots=True)
class Derived:
    """A column of `exposures` and the expression that computes it."""

    column: Column
    duckdb_sql: DuckDbSql


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rule that sends a raw row to quarantine if its condition is true. The first rule that applies is the reason."""

    reason: str
    duckdb_sql: DuckDbSql


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
    condition: DuckDbSql = ""
    file: RawFile | None = None
    file_match: tuple[str, ...] = ()
    at_ms: DuckDbSql = ""

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
