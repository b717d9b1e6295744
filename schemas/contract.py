"""The parts of a table contract: columns, when their values become known, rules of the audit."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

# Plain text. DuckDB reads it: in Spark's workers, which compute exposures, and in audits.
DuckDbSql: TypeAlias = str

# In the draft of a contract: an expression or a time zone that only a person can name. See Known.UNANSWERED.
UNANSWERED = "UNANSWERED"


def quoted_name(name: str) -> DuckDbSql:
    """The name of a column or a view in DuckDB's SQL, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


class Known(Enum):
    """When the value of an exposure's column becomes known, relative to the time of that exposure."""

    BEFORE = "before"  # may be an input of the same step
    # Known once the candidate is chosen, before its outcome: may enter a prediction about that candidate, never the
    # choice of a channel. For the choice it is an input of steps with a greater time stamp, as AFTER.
    WITH = "with"
    AFTER = "after"  # known as soon as the exposure has happened: an input only of steps with a greater time stamp
    AT = "at"  # known at the time given by another column, `Column.known_at`
    NEVER = "never"  # never an input: depends on the future, or is only a label
    UNANSWERED = "unanswered"  # in a draft: a person has to choose one of the others before the contract can be used


class Role(Enum):
    """How the feature selection treats a column."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    NONE = "none"  # not a candidate (keys, times, labels)


class Severity(Enum):
    """The effect of a failed rule: a critical failure stops the day, a warning is only reported."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    dtype: the type, as Spark DDL.
    doc: the meaning, with the unit and the range.
    static: true for a column of the user's profile, which has one value for all steps of a window.
    known_at: for `Known.AT`, the column with the time (ms, UTC) at which the value becomes known.
    """

    name: str
    dtype: str
    doc: str
    known: Known = Known.BEFORE
    nullable: bool = False
    role: Role = Role.NONE
    static: bool = False
    known_at: str | None = None

    def __post_init__(self) -> None:
        if (self.known is Known.AT) != (self.known_at is not None):
            raise ValueError(f"column {self.name}: known 'at' and known_at go together")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One rule of an audit: a Great Expectations type with its arguments, and why the rule matters.

    schemas.expectations has a constructor for each kind of rule.
    """

    rule: str  # e.g. "expect_column_values_to_be_between"
    kwargs: dict[str, Any]
    rationale: str
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake: `LAKE/<dataset>/<name>/ds=<day>/*.parquet`.

    key: the columns that identify a row; empty if no columns do.
    audit_duckdb_sql: a SELECT over the view `partition`. It turns nested columns into flat ones and computes the
    columns that `expectations` name. If it is empty, the audit reads the table's columns unchanged.
    model_column: of a table in which a day has rows of several registered models, the column with the version.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = field(default=())
    audit_duckdb_sql: DuckDbSql = ""
    model_column: str = ""

    @property
    def ddl(self) -> str:
        """The schema in Spark's DDL, columns in contract order."""
        return ", ".join(f"`{c.name}` {c.dtype}" for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)
