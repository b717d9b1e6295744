"""A dataset contract: the layout of a raw log, and the expressions that turn its rows into exposures.

A module in `schemas/datasets/` defines one or more `Dataset` values; no other module knows their columns. All
expressions are DuckDB SQL over the view `log` and the views of the lookups. schemas/times.py has the expressions of
usual forms of time.
"""

import importlib
import math
import pkgutil
import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from types import MappingProxyType
from zoneinfo import ZoneInfo

import schemas.datasets
from schemas.candidates import USER_DAYS, ImpliedLabel, Objective, Sessions
from schemas.contract import UNANSWERED, Column, DuckDbSql, Known, Role
from schemas.days import checked_day
from schemas.errors import UserError
from schemas.logs.checks import (
    check_expression,
    check_files,
    check_known,
    check_outcomes,
    check_unique,
    columns_in,
)
from schemas.logs.field_types import check_field_types
from schemas.logs.parts import (
    DELIMITED,
    JSON_LINES,
    PARQUET,
    Derived,
    Gain,
    Lookup,
    Outcome,
    RawColumn,
    RawFile,
    Refusal,
)
from schemas.quality import Quality
from schemas.times import checked_zone

__all__ = [
    "DELIMITED",
    "JSON_LINES",
    "PARQUET",
    "Dataset",
    "Derived",
    "Gain",
    "Lookup",
    "Outcome",
    "RawColumn",
    "RawFile",
    "Refusal",
]

NO_COST = "cast(0 AS double)"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_COLUMN = re.compile(r"[A-Za-z]\w*")
# Columns of the tables, and of their folders, in every dataset: no column of a contract has such a name.
RESERVED_COLUMNS = (
    "user_id", "exposure_id", "exposed_at_ms", "channel", "cost", "propensity", "ds", "dataset",
    "memory", "next_step", "seen_cost_nano", "seen_sums", "last_gain_at_ms", "session", "pending", "split", "steps",
)  # fmt: skip

Expression = tuple[str, DuckDbSql, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset contract.

    log_key: the raw columns that identify an exposure; the time must be one of them. A second row of the same day with
    the same key is a duplicate.
    exposed_at_ms: milliseconds since 1970 UTC. It is evaluated for every row, so it must give NULL, not an error, if
    the time cannot be read: use TRY, try_cast and similar functions, because an overflow stops the job. The other
    columns are evaluated only for rows that are not refused.
    timezone: the time zone in which the day `ds` and the hour are counted.
    channel: the name of the channel; NULL if it is unknown.
    channels: the names of all channels. If it is empty, the feature spec learns them from training users.
    gains: the outcomes to predict. The first one decides the checks of the gain rate.
    columns: the further columns of `exposures`.
    cost: the cost of the exposure, in the log's unit; NO_COST if the log has no costs.
    propensity: the logging policy's probability of the shown channel; NULL if it is unknown.
    outcome_days: for this many days after an exposure, its row may be delivered again with a new gain. The days of
    `outcomes` count as well.
    is_exposure: which rows of the log are exposures, if others report outcomes. Empty: all of them.
    outcomes: the gains that separate rows report.
    notes: what a reader of a report must know about the labels.
    quality: the thresholds for a normal day.
    sessions: how a user's exposures divide into sessions.
    implied_label: the second label of methods on candidates; None if they predict the first gain alone.
    items: columns known `with` the candidate; the exposures and gains of each of their values are counted in the table
    `item_history`.
    objectives: the outcomes whose predictions a method of fusion joins into one ranking. The first is what counts
    as a consumption: a ranking is measured by it. Empty: rankings of this log are not learned.
    """

    name: str
    title: str
    log: RawFile
    log_key: tuple[str, ...]
    user_id: Derived
    exposed_at_ms: DuckDbSql
    timezone: str
    channel: DuckDbSql
    gains: tuple[Gain, ...]
    columns: tuple[Derived, ...]
    lookups: tuple[Lookup, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    channels: tuple[str, ...] = ()
    cost: DuckDbSql = NO_COST
    propensity: DuckDbSql = "cast(NULL AS double)"
    outcome_days: int = 0
    is_exposure: DuckDbSql = ""
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = field(default=())
    # Not in repr: a changed repr makes the raw log be read again, and these fields do not change how rows are read.
    quality: Quality = field(default=Quality(), repr=False)
    sessions: Sessions = field(default=USER_DAYS, repr=False)
    implied_label: ImpliedLabel | None = field(default=None, repr=False)
    items: tuple[str, ...] = field(default=(), repr=False)
    objectives: tuple[Objective, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        try:
            check_field_types(self)
        except ValueError as error:
            raise ValueError(f"dataset {self.name}: {error}") from None
        own_columns = {d.column.name: d for d in self.columns}
        generated = {d.column.name: d for outcome in self.outcomes for d in outcome.columns}
        added = tuple(d for name, d in generated.items() if own_columns.get(name) != d)
        object.__setattr__(self, "columns", (*self.columns, *added))
        days = max((outcome.days_later for outcome in self.outcomes), default=0)
        object.__setattr__(self, "outcome_days", max(self.outcome_days, days))
        try:
            if not _NAME.fullmatch(self.name):
                raise ValueError("use a-z, 0-9 and _ in the name")
            self._check_questions()
            self._check_columns()
            self._check_gains()
            self._check_quality()
        except ValueError as error:
            raise ValueError(f"dataset {self.name}: {error}") from None

    def check(self) -> None:
        """Check the contract as a whole. Raises ValueError for its first fault; get_dataset has no faulty contract."""
        try:
            check_files(self.log, self.log_key, self.lookups, self.outcomes)
            for name, duckdb_sql, views in self.expressions:
                check_expression(name, duckdb_sql, {view: self.view_columns[view] for view in views})
            if not columns_in(self.exposed_at_ms, self.log.view) & set(self.log_key):
                raise ValueError("log_key must contain the time: a column that exposed_at_ms reads")
            check_outcomes(self.log, self.log_key, self.outcomes, self.is_exposure)
            check_known((outcome.gain for outcome in self.outcomes), self.gain_names, "an outcome")
            for gain, name in self.late_gain_times.items():
                if self.column(name).dtype != "bigint" or self.column(name).known is not Known.NEVER:
                    raise ValueError(f"{name} is the time of {gain}: a bigint that is never an input")
            checked_zone(self.timezone)
        except ValueError as error:
            raise ValueError(f"dataset {self.name}: {error}") from None

    def _check_questions(self) -> None:
        """Raises ValueError for a draft whose questions are open: one line that names all of them."""
        named = [(name, duckdb_sql) for name, duckdb_sql, _ in self.expressions]
        is_zone_open = self.timezone == UNANSWERED or any(f"'{UNANSWERED}'" in duckdb_sql for _, duckdb_sql in named)
        questions = ["the time zone"] if is_zone_open else []
        questions += [name for name, duckdb_sql in named if duckdb_sql == UNANSWERED]
        if columns := [d.column.name for d in self.columns if d.column.known is Known.UNANSWERED]:
            remaining = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
            questions.append(f"when the values are known of {', '.join(columns[:8])}{remaining}")
        if questions:
            raise ValueError(f"this is a draft with open questions (docs/own-log.md): {'; '.join(questions)}")

    def _check_columns(self) -> None:
        check_unique((d.column.name for d in self.columns), "the column")
        check_known([self.user_id.column.name], ("user_id",), "the column of user_id")
        if self.user_id.column.dtype not in ("int", "bigint", "string"):
            raise ValueError("a user_id is int, bigint or string; cast any other type to string")
        for derived in self.columns:
            column = derived.column
            if not _COLUMN.fullmatch(column.name) or column.name.lower() in RESERVED_COLUMNS:
                raise ValueError(f"a column cannot be named {column.name!r}: give it another name in the contract")
            if column.static and column.known is not Known.BEFORE:
                raise ValueError(f"profile column {column.name} must be known before")

    def _check_gains(self) -> None:
        by_name = {d.column.name: d.column for d in self.columns}
        check_unique(self.gain_names, "the gain")
        check_unique(self.channels, "the channel")
        if not self.gains:
            raise ValueError("a log needs a gain")
        for gain in self.gains:
            if by_name.get(gain.name) is None or by_name[gain.name].known not in (Known.AFTER, Known.AT):
                raise ValueError(f"gain {gain.name} must be a column known after or at")
            if not math.isfinite(gain.weight):
                raise ValueError(f"the weight of gain {gain.name} is not a number")
        for column in by_name.values():
            if column.known is Known.AT and (column.known_at not in by_name or column.name not in self.gain_names):
                raise ValueError(f"{column.name} needs its time column and must be a gain")
        self._check_candidates(by_name)

    def _check_quality(self) -> None:
        names = {d.column.name for d in self.columns}
        for threshold in ("max_missing_share", "not_compared"):
            for name in getattr(self.quality, threshold):
                if name not in names and name != "cost":
                    raise ValueError(f"{threshold} names {name}, which is not a column")
        for day in self.quality.excused:
            try:
                checked_day(day)
            except UserError as error:
                raise ValueError(f"excused: {error}") from None

    @property
    def outcome_files(self) -> tuple[RawFile, ...]:
        """The files of outcomes that are not in the log, each once."""
        return tuple(dict.fromkeys(outcome.file for outcome in self.outcomes if outcome.file is not None))

    @property
    def raw_files(self) -> tuple[RawFile, ...]:
        """All files: the log, the outcome files, the lookups."""
        return (self.log, *self.outcome_files, *(lookup.file for lookup in self.lookups))

    @property
    def view_columns(self) -> Mapping[str, tuple[str, ...] | None]:
        """The columns of each view; None for a lookup whose SELECT may add columns."""
        with_select = {lookup.file.view for lookup in self.lookups if lookup.duckdb_sql}
        return {f.view: None if f.view in with_select else tuple(c.name for c in f.columns) for f in self.raw_files}

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """All expressions: what each is for, its text, and the views that it may name."""
        return (*self.value_expressions, *self.time_expressions, *self.number_expressions, *self.conditions)

    @property
    def value_expressions(self) -> tuple[Expression, ...]:
        """The expressions of columns, of any type: what each is for, its text, and the views that it may name."""
        named = [(d.column.name, d.duckdb_sql) for d in (self.user_id, *self.columns)]
        return tuple((name, duckdb_sql, self._log_views) for name, duckdb_sql in (*named, ("channel", self.channel)))

    @property
    def time_expressions(self) -> tuple[Expression, ...]:
        """The expressions that return a time in ms: what each is for, its text, and the views that it may name."""
        outcomes = [
            (f"outcome {o.gain}, at_ms", o.at_ms, (o.file.view,) if o.file else self._log_views)
            for o in self.outcomes
            if o.at_ms
        ]
        return (("exposed_at_ms", self.exposed_at_ms, self._log_views), *outcomes)

    @property
    def number_expressions(self) -> tuple[Expression, ...]:
        """The expressions of other numbers: what each is for, its text, and the views that it may name."""
        return tuple((name, getattr(self, name), self._log_views) for name in ("cost", "propensity"))

    @property
    def conditions(self) -> tuple[Expression, ...]:
        """The expressions that are true or false: what each is for, its text, and the views that it may name."""
        named = [(f"refusal '{refusal.reason}'", refusal.duckdb_sql) for refusal in self.refusals]
        named += [("is_exposure", self.is_exposure)] if self.is_exposure else []
        outcomes = [
            (f"outcome {o.gain}, condition", o.condition, (o.file.view,) if o.file else self._log_views)
            for o in self.outcomes
            if o.condition
        ]
        return (*((name, duckdb_sql, self._log_views) for name, duckdb_sql in named), *outcomes)

    @property
    def _log_views(self) -> tuple[str, ...]:
        return (self.log.view, *(lookup.file.view for lookup in self.lookups))

    def _check_candidates(self, by_name: dict[str, Column]) -> None:
        """Raises ValueError if sessions, implied label, items or objectives name a column that cannot serve."""
        session_column = self.sessions.column
        if session_column is not None and (
            session_column not in by_name or by_name[session_column].known is not Known.BEFORE
        ):
            raise ValueError(f"sessions need a column known before, not {session_column}")
        if self.implied_label is not None:
            for name in (self.implied_label.first, self.implied_label.second):
                if name not in self.gain_names:
                    raise ValueError(f"the implied label names {name}, which is not a gain")
        for name in self.items:
            if name not in by_name or by_name[name].known is not Known.WITH:
                raise ValueError(f"item {name} must be a column known with the candidate")
        check_unique((objective.name for objective in self.objectives), "the objective")
        for objective in self.objectives:
            for name in objective.columns:
                if name not in by_name or by_name[name].known not in (Known.AFTER, Known.AT):
                    raise ValueError(f"objective {objective.name} needs columns known after or at, not {name}")

    @property
    def gain_names(self) -> tuple[str, ...]:
        return tuple(g.name for g in self.gains)

    @property
    def tasks(self) -> Mapping[str, tuple[str, ...]]:
        """The labels of methods on candidates: by name, the gains that an exposure must all have for a 1."""
        if self.implied_label is None:
            return {self.gain_names[0]: self.gain_names[:1]}
        first, second = self.implied_label.task_names
        return {first: (self.implied_label.first,), second: (self.implied_label.first, self.implied_label.second)}

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


def _registry() -> Mapping[str, Dataset]:
    """The datasets of all contracts that load, by name."""
    return _contracts()[0]


def contract_faults() -> Mapping[str, str]:
    """Why contracts are not usable: one line for each module or dataset, by its name. The others are not affected."""
    return _contracts()[1]


@cache
def _contracts() -> tuple[Mapping[str, Dataset], Mapping[str, str]]:
    defined: dict[str, dict[str, Dataset]] = {}  # by name of the dataset, by module
    faults: dict[str, str] = {}
    for info in pkgutil.iter_modules(schemas.datasets.__path__):
        file = f"{info.name}.py"
        try:
            for dataset in importlib.import_module(f"schemas.datasets.{info.name}").DATASETS:
                by_module = defined.setdefault(dataset.name, {})
                if info.name in by_module:
                    faults[file] = f"two datasets of the module are named {dataset.name}"
                by_module[info.name] = dataset
        except (
            Exception,
            SystemExit,
        ) as error:  # whatever a module does when it is imported, the other logs stay usable
            faults[file] = _fault(error, info.name)
    datasets: dict[str, Dataset] = {}
    for name, by_module in defined.items():
        owner = _owner(name, by_module)
        if owner:
            datasets[name] = by_module[owner]
        for stem in by_module.keys() - {owner}:
            namesakes = ", ".join(f"{module}.py" for module in sorted(by_module.keys() - {stem}))
            faults.setdefault(f"{stem}.py", f"{namesakes} has a dataset {name} too: give it another name")
    for name, dataset in [*datasets.items()]:
        try:
            dataset.check()
        except Exception as error:
            faults[name] = _fault(error, name)
            del datasets[name]
    return MappingProxyType(datasets), MappingProxyType(faults)


def _owner(name: str, modules: Iterable[str]) -> str | None:
    """The module that owns the name: the only one with it, or the module named like it; None if unclear.

    A copied module leaves the original usable until its datasets are renamed.
    """
    stems = sorted(modules)
    owners = stems if len(stems) == 1 else [stem for stem in stems if name == stem or name.startswith(f"{stem}_")]
    return owners[0] if len(owners) == 1 else None


def _fault(error: BaseException, module: str) -> str:
    """The error of a contract module in one line, with the line of the module at which it came."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename.endswith(f"{module}.py")]
    line = f"line {lines[-1]}: " if lines else ""
    return line + " ".join(f"{error}".split()) + ("" if isinstance(error, ValueError) else f" ({type(error).__name__})")


def dataset_names() -> list[str]:
    return sorted(_registry())


def get_dataset(name: str) -> Dataset:
    """The contract of that name. A UserError lists the known names, and the contracts that do not load."""
    try:
        return _registry()[name]
    except KeyError:
        if fault := contract_faults().get(name):
            raise UserError(fault) from None
        faults = "".join(f"; {module} is not used: {fault}" for module, fault in contract_faults().items())
        raise UserError(f"unknown dataset '{name}': choose one of {', '.join(dataset_names())}{faults}") from None
