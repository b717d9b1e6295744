"""Typed rows of a raw file to rows of exposures and outcomes, on whole Arrow columns, without Spark.

    rows = log_rows(table, dataset, lookups)

Each row is usable as an exposure or an outcome, or has the reason for its quarantine; no row is dropped, and the rows
keep their order.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.contract_sql import UTC, UTC_NAMES, evaluate, in_brackets, text_of_column
from jobs.raw.identity import identity
from jobs.raw.joins.lookups import matching_rows
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.spark.coded_text import with_coded_text
from lakehouse.arrow_types import arrow_type
from lakehouse.duckdb_types import duckdb_type
from schemas.contract import Column, DuckDbSql, quoted_name
from schemas.dataset import Dataset, Outcome, RawColumn, RawFile
from schemas.steps import LATEST_EXPOSED_AT_MS
from schemas.tables.exposures import exposures, match_columns, matches
from schemas.times import day_of

DS = "ds"
OUTCOME = "_outcome"  # the gain that a row reports; null for an exposure
LARGEST_COST = 1_000_000_000  # sums of costs are whole billionths in 64-bit integers
_OTHER_ZONE = "Etc/GMT-1"  # a time without a zone is another moment in it than in UTC
_NO_ZONE = "the time has no zone, and the contract names none (schemas/times.py)"
_FACTS = "_facts"  # the view with the columns that the reasons of a row depend on: those below, and OUTCOME
_IS_EXPOSURE, _AT_MS, _HAS_ZONE = "is_exposure", "at_ms", "has_zone"

Views = Mapping[str, pa.Table]


def row_schema(dataset: Dataset) -> pa.Schema:
    """The columns of the rows.

    Those of the table `exposures` (in a quarantined row and in an outcome only exposure_id is sure to be filled), DS
    (the day in the dataset's own calendar, null if the time cannot be read), REASON (null in a usable row), RAW (the
    bytes of the row), SOURCE (the name of its file). If the dataset has outcomes, OUTCOME and the match columns too.
    The texts of exposures are codes (jobs.spark.coded_text).
    """
    columns = [(column.name, column.dtype) for column in _columns_of_exposures(dataset)]
    added = [(DS, "string"), (REASON, "string"), (RAW, "binary"), (SOURCE, "string")]
    if dataset.outcomes:
        added += [(OUTCOME, "string"), *((column.name, column.dtype) for column in match_columns(dataset))]
    schema = pa.schema([(name, arrow_type(dtype)) for name, dtype in (*columns, *added)])
    return with_coded_text(schema, plain=("user_id", *(name for name, _ in added)))


def log_rows(log: pa.Table, dataset: Dataset, lookups: Mapping[str, pa.Table]) -> pa.Table:
    """Rows of the log with the columns of row_schema. lookups: by view, as jobs.raw.joins.lookups.read_lookups."""
    views: dict[str, pa.Table] = {dataset.log.view: log}
    for lookup in dataset.lookups:
        side = lookups[lookup.file.view]
        views[lookup.file.view] = matching_rows(side, lookup, log.column(lookup.log_key))
    facts = _kinds(dataset, views)
    facts = _with_times(facts, _time_in_log(dataset), dataset, {**views, _FACTS: facts})
    day_and_reason = _day_and_reason(_reasons_in_log(dataset), dataset, {**views, _FACTS: facts})
    first_reason = day_and_reason.column(REASON)
    is_exposure = facts.column(_IS_EXPOSURE)
    is_usable = pc.and_(pc.is_null(first_reason), is_exposure)
    columns = _columns_of_usable(dataset, views, is_usable)
    exposure_id = identity(_values(log, dataset.log, dataset.log_key), dataset.name)
    if dataset.is_exposure:
        exposure_id = pc.if_else(is_exposure, exposure_id, _row_identity(log, dataset, dataset.log))
    reason = pc.coalesce(
        first_reason,
        _missing_value(dataset, columns, is_exposure, first_reason),
        _late_time_without_zone(dataset, views, is_usable, columns),
    )
    values = {
        **columns,
        "exposure_id": exposure_id,
        "exposed_at_ms": pc.if_else(pc.is_null(first_reason), facts.column(_AT_MS), pa.scalar(None, pa.int64())),
        DS: day_and_reason.column(DS),
        REASON: reason,
        OUTCOME: facts.column(OUTCOME),
    }
    return _as_rows(values, log, dataset, dataset.log, dataset.outcomes)


def outcome_file_rows(rows: pa.Table, dataset: Dataset, file: RawFile) -> pa.Table:
    """Rows of a file of outcomes with the columns of row_schema. Each reports the first whose condition is true."""
    outcomes = [outcome for outcome in dataset.outcomes if outcome.file == file]
    views = {file.view: rows}
    cases = " ".join(f"WHEN {_condition(o)} THEN {_text(o.gain)}" for o in outcomes)
    facts = evaluate({OUTCOME: f"CASE {cases} END"}, views, dataset.name)
    times = " ".join(f"WHEN {_text(o.gain)} THEN {in_brackets(o.at_ms)}" for o in outcomes)
    time = f"CASE {_FACTS}.{OUTCOME} {times} END"
    facts = _with_times(facts, time, dataset, {**views, _FACTS: facts})
    reasons = [
        (f"{quoted_name(file.view)}.{REASON} IS NOT NULL", f"{quoted_name(file.view)}.{REASON}"),
        (f"{_FACTS}.{OUTCOME} IS NULL", _text("not an outcome")),
    ]
    day_and_reason = _day_and_reason(reasons, dataset, {**views, _FACTS: facts})
    values = {
        "exposure_id": _row_identity(rows, dataset, file),
        "exposed_at_ms": facts.column(_AT_MS),
        DS: day_and_reason.column(DS),
        REASON: day_and_reason.column(REASON),
        OUTCOME: facts.column(OUTCOME),
    }
    return _as_rows(values, rows, dataset, file, outcomes)


def _kinds(dataset: Dataset, views: Views) -> pa.Table:
    """Whether a row of the log is an exposure, and the gain that any other row reports, null if it reports none."""
    if not dataset.is_exposure:
        rows = len(views[dataset.log.view])
        return pa.table({_IS_EXPOSURE: pa.repeat(True, rows), OUTCOME: pa.nulls(rows, pa.string())})
    reported = " ".join(f"WHEN {_condition(o)} THEN {_text(o.gain)}" for o in dataset.outcomes if o.file is None)
    return evaluate(
        {
            _IS_EXPOSURE: f"coalesce({in_brackets(dataset.is_exposure)}, false)",
            OUTCOME: f"CASE WHEN {in_brackets(dataset.is_exposure)} THEN NULL {reported} END",
        },
        views,
        dataset.name,
    )


def _condition(outcome: Outcome) -> DuckDbSql:
    return in_brackets(outcome.condition) if outcome.condition else "true"


def _time_in_log(dataset: Dataset) -> DuckDbSql:
    """The time of a row of the log: an outcome may have its own expression."""
    times = {o.gain: o.at_ms for o in dataset.outcomes if o.file is None and o.at_ms}
    cases = " ".join(f"WHEN {_text(gain)} THEN {in_brackets(duckdb_sql)}" for gain, duckdb_sql in times.items())
    exposed_at_ms = in_brackets(dataset.exposed_at_ms)
    return f"CASE {_FACTS}.{OUTCOME} {cases} ELSE {exposed_at_ms} END" if times else exposed_at_ms


def _with_times(facts: pa.Table, at_ms: DuckDbSql, dataset: Dataset, views: Views) -> pa.Table:
    """Adds _AT_MS, null if the time is not from 1970 on and in the range of steps, and _HAS_ZONE.

    The time of a text without a zone depends on the session's zone, so it is computed in two of them and compared. In a
    calendar in UTC such a time is taken as UTC.
    """
    times = evaluate({"exposed_at_ms": at_ms}, views, dataset.name).rename_columns([_AT_MS])
    has_zone: pa.Array | pa.ChunkedArray = pa.repeat(True, len(facts))
    if dataset.timezone not in UTC_NAMES:
        shifted_times = evaluate({"exposed_at_ms": at_ms}, views, dataset.name, _OTHER_ZONE)
        in_utc, shifted = times.column(0), shifted_times.column(0)
        has_zone = _equal(in_utc, shifted)
    in_range = f"CASE WHEN {_AT_MS} BETWEEN 0 AND {LATEST_EXPOSED_AT_MS} THEN cast({_AT_MS} AS bigint) END"
    times = evaluate({"exposed_at_ms": in_range}, {_FACTS: times}, dataset.name)
    return facts.append_column(_AT_MS, times.column(0)).append_column(_HAS_ZONE, has_zone)


def _reasons_in_log(dataset: Dataset) -> list[tuple[DuckDbSql, DuckDbSql]]:
    """Conditions and the texts of their reasons, in order: the first that is true counts."""
    view = quoted_name(dataset.log.view)
    reasons = [(f"{view}.{REASON} IS NOT NULL", f"{view}.{REASON}")]
    if dataset.is_exposure:
        reasons.append(
            (
                f"NOT {_FACTS}.{_IS_EXPOSURE} AND {_FACTS}.{OUTCOME} IS NULL",
                _text("neither an exposure nor an outcome"),
            )
        )
    for lookup in dataset.lookups:
        side = quoted_name(lookup.file.view)
        if not lookup.optional:
            reasons.append((f"{side}.{quoted_name(lookup.key)} IS NULL", _text(f"unknown {lookup.noun}")))
        own_row = f"the {lookup.noun}'s own row: "
        own_reason = f"{_text(own_row)} || {side}.{REASON}"
        reasons.append((f"{side}.{REASON} IS NOT NULL", own_reason))
    return reasons + [(refusal.duckdb_sql, _text(refusal.reason)) for refusal in dataset.refusals]


def _day_and_reason(reasons: Sequence[tuple[DuckDbSql, DuckDbSql]], dataset: Dataset, views: Views) -> pa.Table:
    """DS, and REASON: the first reason for which a row is refused.

    Two or three rules hold for every log, in addition to its contract: a row without a day would be lost, and a cost
    beyond the limit would stop the job.
    """
    reasons = [
        *reasons,
        (f"NOT {_FACTS}.{_HAS_ZONE}", _text(_NO_ZONE)),
        (f"{_FACTS}.{_AT_MS} IS NULL", _text("the time cannot be read")),
    ]
    if dataset.log.view in views:
        has_cost = f"coalesce({in_brackets(dataset.cost)} BETWEEN 0 AND {LARGEST_COST}, false)"
        text = _text(f"cost is not from 0 to {LARGEST_COST:,}")
        reasons.append((f"{_FACTS}.{_IS_EXPOSURE} AND NOT {has_cost}", text))
    cases = " ".join(f"WHEN {in_brackets(condition)} THEN {reason}" for condition, reason in reasons)
    expressions = {DS: day_of(f"{_FACTS}.{_AT_MS}", dataset.timezone), "a refusal": f"CASE {cases} END"}
    return evaluate(expressions, views, dataset.name).rename_columns([DS, REASON])


def _columns_of_usable(
    dataset: Dataset, views: Views, is_usable: pa.ChunkedArray
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The columns that the contract computes, null in all other rows: a broken cell there must not stop the job."""
    expressions = {d.column.name: d.duckdb_sql for d in (dataset.user_id, *dataset.columns)}
    expressions |= {name: getattr(dataset, name) for name in ("channel", "cost", "propensity")}
    dtypes = {column.name: column.dtype for column in _columns_of_exposures(dataset)}
    texts = {
        name: values
        for name, sql in expressions.items()
        if dtypes[name] == "string"
        and name != dataset.user_id.column.name
        and (values := text_of_column(sql, views)) is not None
    }
    if not pc.all(is_usable, min_count=0).as_py():
        texts = {name: pc.if_else(is_usable, values, None) for name, values in texts.items()}
    expressions = {
        name: f"CAST({in_brackets(sql)} AS {duckdb_type(dtypes[name])})"
        for name, sql in expressions.items()
        if name not in texts
    }
    return {**_values_of_usable(expressions, views, is_usable, dataset, UTC), **texts}


def _values_of_usable(
    expressions: Mapping[str, DuckDbSql], views: Views, is_usable: pa.ChunkedArray, dataset: Dataset, zone: str
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The values of the expressions in the usable rows, null in all others."""
    if pc.all(is_usable, min_count=0).as_py():
        columns = evaluate(expressions, views, dataset.name, zone)
    else:
        columns = evaluate(expressions, {view: t.filter(is_usable) for view, t in views.items()}, dataset.name, zone)
        flags = is_usable.to_numpy()
        places = pa.array(np.cumsum(flags) - 1, mask=~flags)
        columns = columns.take(places)
    return dict(zip(columns.column_names, columns.columns, strict=True))


def _late_time_without_zone(
    dataset: Dataset, views: Views, is_usable: pa.ChunkedArray, columns: Mapping[str, pa.ChunkedArray]
) -> pa.Array | pa.ChunkedArray:
    """_NO_ZONE in the rows in which the time of a late gain depends on the zone of the session, as in _with_times."""
    has_zone: pa.Array | pa.ChunkedArray = pa.repeat(True, len(is_usable))
    names = {*dataset.late_gain_times.values()} if dataset.timezone not in UTC_NAMES else ()
    times = {
        d.column.name: f"CAST({in_brackets(d.duckdb_sql)} AS BIGINT)" for d in dataset.columns if d.column.name in names
    }
    if times:
        shifted_times = _values_of_usable(times, views, is_usable, dataset, _OTHER_ZONE)
        for name, shifted in shifted_times.items():
            has_zone = pc.and_(has_zone, _equal(columns[name], shifted))
    return pc.if_else(has_zone, pa.scalar(None, pa.string()), _NO_ZONE)


def _equal(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whether the values are equal, or both null."""
    return pc.fill_null(pc.equal(first, second), pc.and_(first.is_null(), second.is_null()))


def _missing_value(
    dataset: Dataset,
    columns: Mapping[str, pa.ChunkedArray],
    is_exposure: pa.ChunkedArray,
    first_reason: pa.ChunkedArray,
) -> pa.Array | pa.ChunkedArray:
    """The reason for which an exposure without a value that the contract demands is refused.

    A user_id that is empty or has blanks alone counts as missing: users without an id must not become one user.
    """
    reason: pa.Array | pa.ChunkedArray = pa.nulls(len(is_exposure), pa.string())
    is_usable = pc.and_(pc.is_null(first_reason), is_exposure)
    unusable = len(is_exposure) - pc.sum(is_usable, min_count=0).as_py()
    for derived in (dataset.user_id, *dataset.columns):
        name, values = derived.column.name, columns[derived.column.name]
        if derived is dataset.user_id and derived.column.dtype == "string":
            values = pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), pa.scalar(None, pa.string()), values)
        if not derived.column.nullable and values.null_count > unusable:
            is_missing = pc.and_(is_usable, values.is_null())
            reason = pc.coalesce(reason, pc.if_else(is_missing, f"{name} is missing", pa.scalar(None, pa.string())))
    return reason


def _as_rows(
    values: Mapping[str, pa.Array | pa.ChunkedArray],
    rows: pa.Table,
    dataset: Dataset,
    file: RawFile,
    outcomes: Sequence[Outcome],
) -> pa.Table:
    """The values as a table with the columns of row_schema; a column without values is null.

    outcomes: those that the file reports.
    """
    values = {**values, RAW: rows.column(RAW), SOURCE: rows.column(SOURCE)}
    is_log = file == dataset.log
    for column, match in zip(match_columns(dataset), matches(dataset), strict=True):
        for outcome in outcomes:
            if outcome.match == match:
                names = match if is_log else outcome.file_match or match
                values[column.name] = identity(_values(rows, file, names))
    schema = row_schema(dataset)
    arrays = [values[field.name] if field.name in values else pa.nulls(len(rows), field.type) for field in schema]
    return pa.table(arrays, names=schema.names).cast(schema)


def _values(rows: pa.Table, file: RawFile, names: Sequence[str]) -> list[tuple[pa.ChunkedArray, RawColumn]]:
    by_name = {column.name: column for column in file.columns}
    return [(rows.column(name), by_name[name]) for name in names]


def _row_identity(rows: pa.Table, dataset: Dataset, file: RawFile) -> pa.Array:
    """The hash of all columns: an outcome that is repeated in all of them is one."""
    return identity(_values(rows, file, [column.name for column in file.columns]), dataset.name)


def _columns_of_exposures(dataset: Dataset) -> list[Column]:
    """The columns of `exposures` without those by which outcomes are joined."""
    return [column for column in exposures(dataset).columns if column not in match_columns(dataset)]


def _text(text: str) -> DuckDbSql:
    return "'" + text.replace("'", "''") + "'"
