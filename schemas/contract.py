"""The words a table contract is written in: columns, when a value is known, expectations."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

# Both are plain text. The name says which engine reads it: jobs make exposures in Spark, audits run in DuckDB.
SparkSql: TypeAlias = str
DuckDbSql: TypeAlias = str


class Known(Enum):
    """When the value of an exposure's column becomes known, relative to its own exposure time."""

    BEFORE = "before"  # may enter the input of its own step
    AFTER = "after"  # known from the exposure time on: enters later steps with a greater time stamp only
    AT = "at"  # known at a time of its own, held by the column `Column.known_at`
    NEVER = "never"  # looks into the future or is a label only: never an input


class Role(Enum):
    """What the feature selection may do with a column."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    NONE = "none"  # not a candidate (keys, times, labels)


class Severity(Enum):
    """What a failed expectation does: stop the day, or stand in the report."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    dtype is spelled as Spark DDL. `static` marks a user's profile: one value for all of a window's steps.
    `known_at` names the column (milliseconds, UTC) that says when an AT value becomes known.
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
    """One rule of an audit: a Great Expectations type with its arguments, and why it matters."""

    rule: str  # e.g. "expect_column_values_to_be_between"
    kwargs: dict[str, Any]
    why: str
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake: `LAKE/<name>/dataset=<dataset>/ds=<day>/*.parquet`.

    audit_duckdb_sql: a SELECT over the view `partition`. It turns nested columns into flat ones and computes the
    columns that `expectations` name. Empty: the columns are audited as they are.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = field(default=())
    audit_duckdb_sql: DuckDbSql = ""

    @property
    def ddl(self) -> str:
        """The schema in Spark's DDL, columns in contract order."""
        return ", ".join(f"`{c.name}` {c.dtype}" for c in self.columns)

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)
