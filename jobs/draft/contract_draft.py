"""The choices of a draft: which table is the log, the roles of its columns, and the open questions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.draft import roles
from jobs.draft.expressions import column_name
from jobs.draft.roles import LIKELY_USER
from jobs.draft.tables import SideTable, Table, file_pattern, log_table, side_tables, with_equal_key_types
from jobs.draft.times import FROM_START, TimeNotation
from jobs.draft.values import ColumnSample, shortened
from schemas.dataset import RESERVED_COLUMNS
from schemas.errors import UserError

_OUTCOME_FILES = (
    ("click", re.compile(r"clk|click")),
    ("conversion", re.compile(r"conv|order|purchas|sale|buy|bought")),
    ("install", re.compile(r"install")),
)
_END_OF_TIME_NAME = re.compile(r"_?(?:at|time|ts|timestamp|date|day|ms)$", re.IGNORECASE)
_SMALLEST_MISSING_SHARE = 0.02  # of a time that only rows with an outcome have
# A raw column of such a name gets another one: hour and weekday are columns that each draft adds.
RESERVED = frozenset({*RESERVED_COLUMNS, "hour", "weekday"})
_COST_WORDS = re.compile(r"cost|payingprice|spend|spent|cpm|(?:^|_)bid(?:_?price)?$|paid")
_PROPENSITY_WORDS = re.compile(r"propensity|pscore|action_prob|probability")


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """A side table whose rows report a gain of the log's exposures. time: its column with the time of the outcome."""

    side: SideTable
    gain: str
    time: str


@dataclass(frozen=True, slots=True)
class Draft:
    """The choices that the sample suggests. None and empty: no column is a candidate, so it is an open question."""

    name: str
    log: Table
    patterns: dict[Table, tuple[str, ...]]
    time: str
    user: str | None
    channel: str | None
    gains: tuple[str, ...]
    complements: tuple[str, ...]
    events: roles.Events | None
    match: tuple[str, ...]
    key: roles.Key
    lookups: tuple[SideTable, ...]
    outcome_tables: tuple[OutcomeTable, ...]
    channels: tuple[roles.Candidate, ...]

    @property
    def further_flags(self) -> tuple[str, ...]:
        """The columns of yes and no that have no role: one of them may be a gain with an unusual name."""
        used = {*self.gains, *self.complements, self.channel}
        return tuple(column.name for column in self.raw_columns if column.is_flag and column.name not in used)

    @property
    def notation(self) -> TimeNotation:
        return self.log.notations[self.time]

    @property
    def raw_columns(self) -> tuple[ColumnSample, ...]:
        """The log's columns that are read. A saved index has no name and is not one of them."""
        return self.log.named

    @property
    def further_times(self) -> tuple[ColumnSample, ...]:
        """The log's other times, for example that of a conversion. Counts from an unknown start are left out."""
        return tuple(
            column
            for column in self.raw_columns
            if column.name != self.time
            and (notation := self.log.notations.get(column.name)) is not None
            and notation.kind != FROM_START
            and len(column.counts) > 1
        )

    @property
    def gain_names(self) -> tuple[str, ...]:
        """Names of all gains: of the yes-or-no columns, of the log's outcome rows, of the outcome tables."""
        used_names = set(RESERVED)
        words = self.events.outcomes if self.events else ()
        return tuple(column_name(g, used_names) for g in (*self.gains, *words, *(o.gain for o in self.outcome_tables)))

    @property
    def late_gains(self) -> dict[str, str]:
        """By further time, the gain that it reports: only rows with an outcome have it; no other gain repeats it."""
        flags = [self.log.column(name) for name in self.gains]
        used_names = {*RESERVED, *(name.lower() for name in self.gain_names)}
        late_gains = {}
        for time in self.further_times:
            is_outcome = roles.is_outcome_time(time) and time.missing_share >= _SMALLEST_MISSING_SHARE
            if is_outcome and not any(roles.is_true_with(flag, time) for flag in flags):
                late_gains[time.name] = column_name(_END_OF_TIME_NAME.sub("", time.name) or time.name, used_names)
        return late_gains

    @property
    def views(self) -> dict[Table, str]:
        """The view of each raw file of the contract."""
        views, used_names = {self.log: "log"}, {"log"}
        for side in (*(outcome.side for outcome in self.outcome_tables), *self.lookups):
            # The folder in RAW tells more than the name in it: users/part-0.csv.
            stem = re.split("[./=]", side.table.file_names[0])[0].rstrip("0123456789_-")
            views[side.table] = column_name(stem, used_names).lower()
        return views

    @property
    def costs(self) -> tuple[str, ...]:
        return _numbers_named(self.log, _COST_WORDS)

    @property
    def propensities(self) -> tuple[str, ...]:
        return _numbers_named(self.log, _PROPENSITY_WORDS)


def draft_of(
    name: str,
    tables: Sequence[Table],
    user_column: str = "",
    channel_column: str = "",
    gain_columns: Sequence[str] = (),
) -> Draft:
    """The draft of a contract for the files of one folder. The columns are those that a person has named.

    Raises UserError if no table has a time, or the log has no such column, or a gain has other values than yes and no.
    """
    tables = with_equal_key_types(tables)
    log = log_table(tables)
    columns = log.named
    time = log.times[0].column
    _check_named(log, {"--user": [user_column], "--channel": [channel_column], "--gain": gain_columns})
    user = _user(log, user_column)
    events = roles.event_column(columns)
    sides = side_tables(log, tables)
    outcome_tables = tuple(outcome for side in sides if (outcome := _outcome_table(side)) is not None)
    lookups = tuple(side for side in sides if side not in {outcome.side for outcome in outcome_tables})

    gains, complements = _gains(columns, log, gain_columns)
    used_names = {*log.notations, *gains, *complements, *([user] if user else []), *([events.column] if events else [])}
    channels = roles.channel_candidates(columns, used_names)
    likely_channel = channels[0].column if channels and channels[0].score > 0 else None
    # Without a user, an outcome cannot be matched with its exposure.
    events = events if user else None
    match = roles.outcome_match(columns, user, events, {*log.notations}) if events and user else ()
    # A column that may be the user separates the rows as well.
    likely_user = user or (log.users[0].column if log.users else None)
    key = roles.key_columns(columns, likely_user, time, {*gains, *complements})
    key = roles.Key(_joined(key.columns, *match, *(outcome.side.log_key for outcome in outcome_tables)), key.copies)
    return Draft(
        name, log, {table: file_pattern(table, tables) for table in tables}, time, user,
        channel_column or likely_channel,
        gains, complements, events, match, key, lookups, outcome_tables, tuple(channels),
    )  # fmt: skip


def _check_named(log: Table, columns: Mapping[str, Sequence[str]]) -> None:
    """columns: those that each option of the command names."""
    names = [column.name for column in log.named]
    for option, column in ((option, column) for option, named in columns.items() for column in named if column):
        if column not in names:
            raise UserError(f"{option} {column}: {log.file_names[0]} has no such column; it has {', '.join(names)}")
        if option == "--gain" and not log.column(column).is_flag:
            values = ", ".join(shortened(value) for value, _ in log.column(column).counts.most_common(3))
            raise UserError(f"--gain {column}: its values are not yes and no, but {values or 'missing'}")


def _user(log: Table, column: str) -> str | None:
    return column or (log.users[0].column if log.users and log.users[0].score >= LIKELY_USER else None)


def _gains(
    columns: Sequence[ColumnSample], log: Table, named: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The gains, those that a person has named first, and the columns that only negate one of them, such as nonclk."""
    further = [c.column for c in roles.gain_candidates(columns, {*log.notations, *named})]
    candidates = [*dict.fromkeys(named), *further]
    by_name = {column.name: column for column in columns}
    complements = [
        name for k, name in enumerate(candidates)
        if any(_are_complements(by_name[name], by_name[better]) for better in candidates[:k])
    ]  # fmt: skip
    return tuple(name for name in candidates if name not in complements), tuple(complements)


def _are_complements(first: ColumnSample, second: ColumnSample) -> bool:
    return all({a, b} == {"0", "1"} for a, b in zip(first.texts, second.texts, strict=True))


def _outcome_table(side: SideTable) -> OutcomeTable | None:
    """The side table as outcomes, if its name is that of an outcome and it has a time."""
    if not side.table.times:
        return None
    name = side.table.file_names[0].lower()
    gain = next((gain for gain, words in _OUTCOME_FILES if words.search(name)), None)
    return OutcomeTable(side, gain, side.table.times[0].column) if gain else None


def _joined(columns: tuple[str, ...], *more_columns: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*columns, *more_columns)))


def _numbers_named(table: Table, words: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(c.name for c in table.columns if c.dtype != "string" and words.search(c.name.lower()))
