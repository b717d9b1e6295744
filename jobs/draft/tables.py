"""Which files of a folder have the same layout, which of them are the log, and which are side tables of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property

from jobs.draft import roles
from jobs.draft.times import TimeNotation, time_notation
from jobs.draft.values import ColumnSample
from schemas.dataset import DELIMITED
from schemas.errors import UserError


@dataclass(frozen=True, eq=False)
class Table:
    """Files of one layout, with the sampled columns of all of them together.

    file_names: of all files with this layout, sorted.
    bytes_in_all: their size on the disk.
    file_format: DELIMITED, JSON_LINES or PARQUET; the layout fields below count for DELIMITED only.
    damaged: sampled records with another number of fields.
    is_whole: whether the sample has all rows of the files.
    nested: columns of a Parquet file that have lists or parts, which a contract cannot name.
    repeated: columns that a contract cannot name, because another one has the same name.
    """

    file_names: tuple[str, ...]
    bytes_in_all: int
    columns: tuple[ColumnSample, ...]
    file_format: str = DELIMITED
    separator: str = ","
    quote: str = '"'
    has_header: bool = True
    encoding: str = "utf-8"
    damaged: int = 0
    is_whole: bool = False
    nested: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of sampled rows."""
        return len(self.columns[0].texts)

    @cached_property
    def notations(self) -> dict[str, TimeNotation]:
        return {c.name: notation for c in self.named if (notation := time_notation(c)) is not None}

    @property
    def named(self) -> tuple[ColumnSample, ...]:
        """The columns that a contract can name."""
        return tuple(column for column in self.columns if column.name)

    def column(self, name: str) -> ColumnSample:
        return next(column for column in self.columns if column.name == name)

    @cached_property
    def times(self) -> list[roles.Candidate]:
        return roles.time_candidates(self.named, self.notations)

    @cached_property
    def users(self) -> list[roles.Candidate]:
        return roles.user_candidates(self.named, {*self.notations})


@dataclass(frozen=True, slots=True, eq=False)
class SideTable:
    """A table whose rows have a key that the log names, too.

    key, log_key: the columns in the side table and in the log.
    unmatched_share: the share of the log's sampled rows whose key the side table does not have; None if the sample
    does not have all rows of the side table.
    """

    table: Table
    key: str
    log_key: str
    unmatched_share: float | None


def log_table(tables: Sequence[Table]) -> Table:
    """The table that is the log: it has a time; a user, yes-or-no columns and size count as well.

    Raises UserError if no table has a time.
    """
    timed = [table for table in tables if table.times]
    if not timed:
        names = ", ".join(table.file_names[0] for table in tables)
        raise UserError(
            f"no column of {names} can be read as the time of an exposure: a log needs one, for example seconds or "
            "milliseconds since 1970, 2024-03-31T09:00:00Z or 20240331090000"
        )

    def likelihood(table: Table) -> tuple[float, int]:
        gains = roles.gain_candidates(table.columns, {*table.notations})
        words = roles.event_column(table.columns)
        score = table.times[0].score + 3.0 * bool(table.users) + 2.0 * bool(gains or words)
        return score + 0.2 * min(len(table.columns), 10), table.bytes_in_all

    return max(timed, key=likelihood)


def side_tables(log: Table, tables: Sequence[Table]) -> list[SideTable]:
    """The other tables that have a key: a column that is unique there and has the log's name, or part of it.

    Without names, the key is the unique column whose values are most nearly those of a column of the log.
    """
    matches = (_side_table(log, table) for table in tables if table is not log)
    return [match for match in matches if match is not None]


def with_equal_key_types(tables: Sequence[Table]) -> list[Table]:
    """The tables with text columns for keys that are numbers in one of two tables and words in the other."""
    log = log_table(tables)
    words: dict[Table, set[str]] = {table: set() for table in tables}
    for side in side_tables(log, tables):
        if side.table.column(side.key).dtype != log.column(side.log_key).dtype:
            words[side.table].add(side.key)
            words[log].add(side.log_key)
    return [_with_words(table, names) for table, names in words.items()]


def _with_words(table: Table, names: set[str]) -> Table:
    columns = (replace(column, dtype="string") if column.name in names else column for column in table.columns)
    return replace(table, columns=tuple(columns))


def file_pattern(table: Table, tables: Sequence[Table]) -> tuple[str, ...]:
    """Shell globs that match the table's files, and probably later ones, and no file of another table."""
    foreign = [name for other_table in tables if other_table is not table for name in other_table.file_names]
    stems = {_pattern_of(name) for name in table.file_names}
    if not any(fnmatchcase(name, pattern) for name in foreign for pattern in stems):
        return tuple(sorted(stems))
    return table.file_names


def _pattern_of(name: str) -> str:
    """imp.*.txt of imp.20130612.txt, day=*/events*.csv of day=3/events.csv.gz: the part after a digit may change.

    A pattern matches compressed files as well, so it does not name their ending.
    """
    folder, slash, name = name.rpartition("/")
    if slash:
        return "/".join(_folder_pattern(part) for part in folder.split("/")) + f"/{_pattern_of(name)}"
    stem, dot, ending = name.partition(".")
    if re.search(r"\d", ending) and not re.search(r"\d", stem):  # imp.20130612.txt
        ending = ending.partition(".")[2]
        return f"{_escaped(stem)}.*{'.' * bool(ending)}{_without_compression(ending)}"
    head = re.split(r"\d", stem, maxsplit=1)[0]
    return f"{_escaped(head)}*{dot}{_without_compression(ending)}"


def _folder_pattern(name: str) -> str:
    """day=* of day=2024-05-01, 2024 as *, clicks of clicks."""
    return re.sub(r"\d.*", "*", _escaped(name))


def _without_compression(ending: str) -> str:
    return _escaped(re.sub(r"[.]?(?:gz|zst|bz2|xz)$", "", ending))


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _side_table(log: Table, table: Table) -> SideTable | None:
    pairs = [
        (column, log_column)
        for column in table.named
        if column.is_unique and column.name not in table.notations
        for log_column in log.named
        if set(log_column.counts) & set(column.counts)
    ]
    if log.has_header and table.has_header:
        pairs = [(column, log_column) for column, log_column in pairs if _same_name(column.name, log_column.name)]
    else:
        pairs = sorted((pair for pair in pairs if _overlap(*pair) > 0), key=lambda pair: -_overlap(*pair))
    if not pairs:
        return None
    column, log_column = pairs[0]
    rows = len(log_column.texts) - sum(n for key, n in log_column.counts.items() if key in column.counts)
    share = rows / len(log_column.texts) if table.is_whole else None
    return SideTable(table, column.name, log_column.name, share)


def _overlap(column: ColumnSample, log_column: ColumnSample) -> float:
    """How nearly two columns have the same values, 0 to 1; 0 if most rows of the log have another value."""
    keys, log_keys = set(column.counts), set(log_column.counts)
    rows_with_key = sum(n for key, n in log_column.counts.items() if key in keys)
    return len(keys & log_keys) / len(keys | log_keys) if 2 * rows_with_key >= len(log_column.values) else 0.0


def _same_name(first: str, second: str) -> bool:
    """user and userid, itemid and item_id, adgroup_id and adgroup_id."""
    a, b = (re.sub(r"[\W_]", "", name.lower()) for name in (first, second))
    return a == b or (min(len(a), len(b)) >= 3 and (a.removesuffix("id") == b.removesuffix("id")))
