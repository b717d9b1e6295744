"""Reads a raw log into rows: each row is usable as an exposure or an outcome, or has the reason for its quarantine.

No row of the log is dropped.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.raw.expressions import explain_contract_fault, require_numbers
from jobs.raw.files import RawFiles
from jobs.raw.identity import identity
from jobs.raw.joins.lookups import read_lookup
from jobs.raw.joins.outcomes import OUTCOME
from jobs.raw.lines import RAW, REASON, SOURCE, read_typed_lines
from schemas.contract import Column as ColumnOfTable
from schemas.contract import SparkSql, quoted_name
from schemas.dataset import Dataset, Outcome, RawColumn, RawFile
from schemas.errors import UserError
from schemas.printable import counted
from schemas.steps import LATEST_EXPOSED_AT_MS
from schemas.tables.exposures import exposures, match_columns, matches

DS = "ds"
LARGEST_COST = 1_000_000_000  # sums of costs are whole billionths in 64-bit integers
_FIRST_REASON, _AT_MS, _AT_MS_ELSEWHERE = "_first_reason", "_at_ms", "_at_ms_elsewhere"
_UTC = ("UTC", "Etc/UTC")
_NO_ZONE = "the time has no zone, and the contract names none (schemas/times.py)"


def read_rows(spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> DataFrame:
    """All rows of the log, joined with the lookups, and all rows of the files of outcomes.

    files: by view name, as from find_raw_files; the log and each file of outcomes may be left out, but not all of them.

    Columns: those of the table `exposures` (in a quarantined row and in an outcome only exposure_id is sure to be
    filled), DS (the day in the dataset's own calendar, null if the time cannot be read), REASON (null in a usable row),
    RAW (the bytes of the row), SOURCE (the name of its file). If the dataset has outcomes, those of
    jobs.raw.joins.outcomes as well.
    """
    try:
        dataset.check()
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        parts = [_log_rows(spark, dataset, files)] if dataset.log.view in files else []
        for file in dataset.outcome_files:
            if file.view in files:
                parts.append(_outcome_file_rows(spark, dataset, files[file.view]))
    except AnalysisException as error:
        raise explain_contract_fault(spark, dataset, error) from error
    rows, *further = parts
    for part in further:
        rows = rows.unionByName(part)
    return rows


def _log_rows(spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> DataFrame:
    log = read_typed_lines(spark, files[dataset.log.view]).alias("log")
    is_exposure, outcome = _kind_of_row(dataset)
    reasons = [F.col(f"log.{REASON}")]
    if dataset.is_exposure:
        reasons.append(F.when(~is_exposure & outcome.isNull(), "neither an exposure nor an outcome"))
    log, lookup_reasons = _with_lookups(spark, log, dataset, files)
    require_numbers(log, dataset)
    reasons += lookup_reasons + [F.when(F.expr(refusal.spark_sql), refusal.reason) for refusal in dataset.refusals]
    # Two rules for every log, in addition to its contract: a row without a day would be lost, and a cost beyond the
    # limit would stop the job.
    log, time_reasons = _with_time(spark, log.withColumn(OUTCOME, outcome), _time_in_log(dataset), dataset)
    reasons += time_reasons
    has_cost = F.expr(dataset.cost).between(0, LARGEST_COST)
    reasons.append(_reason_unless(~is_exposure | has_cost, f"cost is not from 0 to {LARGEST_COST:,}"))

    is_usable_exposure = F.col(_FIRST_REASON).isNull() & is_exposure
    rows = log.select("*", F.coalesce(*reasons).alias(_FIRST_REASON)).select(
        *_exposure_columns(dataset, is_usable_exposure, is_exposure),
        *_day_columns(dataset),
        F.col(f"log.{RAW}").alias(RAW),
        F.col(f"log.{SOURCE}").alias(SOURCE),
        *_outcome_columns(dataset, outcome),
    )
    return rows.withColumn(REASON, F.coalesce(REASON, _missing_value(dataset)))


def _kind_of_row(dataset: Dataset) -> tuple[Column, Column]:
    """Whether a row of the log is an exposure, and the gain that any other row reports, null if it reports none."""
    if not dataset.is_exposure:
        return F.lit(True), F.lit(None).cast("string")
    is_exposure = F.coalesce(F.expr(dataset.is_exposure), F.lit(False))
    reported = [F.when(_condition(o), o.gain) for o in dataset.outcomes if o.file is None]
    return is_exposure, F.when(~is_exposure, F.coalesce(*reported))


def _with_lookups(
    spark: SparkSession, log: DataFrame, dataset: Dataset, files: Mapping[str, RawFiles]
) -> tuple[DataFrame, list[Column]]:
    """The log with the columns of its lookups, and reasons for rows without a match or with an unusable one."""
    reasons = []
    for lookup in dataset.lookups:
        view = lookup.file.view
        side = read_lookup(spark, files[view], lookup).alias(view)
        side_key = F.col(f"{view}.{quoted_name(lookup.key)}")
        log = log.join(side, F.col(f"log.{quoted_name(lookup.log_key)}") == side_key, "left")
        if not lookup.optional:
            reasons.append(F.when(side_key.isNull(), f"unknown {lookup.noun}"))
        reasons.append(F.concat(F.lit(f"the {lookup.noun}'s own row: "), F.col(f"{view}.{REASON}")))
    return log, reasons


def _time_in_log(dataset: Dataset) -> SparkSql:
    """The time of a row of the log: outcomes may have one of their own. Needs OUTCOME."""
    times = {o.gain: o.at_ms for o in dataset.outcomes if o.file is None and o.at_ms}
    cases = " ".join(f"WHEN '{gain}' THEN {sql}" for gain, sql in times.items())
    return f"CASE {OUTCOME} {cases} ELSE {dataset.exposed_at_ms} END" if times else dataset.exposed_at_ms


def _missing_value(dataset: Dataset) -> Column:
    """The reason for which an exposure without a value that the contract demands is refused."""
    required = [d.column.name for d in (dataset.user_id, *dataset.columns) if not d.column.nullable]
    missing = F.coalesce(*(F.when(F.col(name).isNull(), f"{name} is missing") for name in required))
    return F.when(F.col(OUTCOME).isNull(), missing) if dataset.outcomes else missing


def _outcome_file_rows(spark: SparkSession, dataset: Dataset, files: RawFiles) -> DataFrame:
    """The rows of a file of outcomes, each with the first outcome whose condition is true."""
    file = files.layout
    outcomes = [outcome for outcome in dataset.outcomes if outcome.file == file]
    rows = read_typed_lines(spark, files).alias(file.view)
    reported = F.coalesce(*(F.when(_condition(o), o.gain) for o in outcomes))
    rows = rows.withColumn(OUTCOME, reported)
    cases = " ".join(f"WHEN '{o.gain}' THEN {o.at_ms}" for o in outcomes)
    rows, time_reasons = _with_time(spark, rows, f"CASE {OUTCOME} {cases} END", dataset)
    reasons = [F.col(REASON), F.when(F.col(OUTCOME).isNull(), "not an outcome"), *time_reasons]
    nulls = {c.name: F.lit(None).cast(c.dtype) for c in _columns_of_exposures(dataset)}
    values = nulls | {"exposure_id": _row_identity(dataset, file), "exposed_at_ms": F.col(_AT_MS)}
    return rows.select("*", F.coalesce(*reasons).alias(_FIRST_REASON)).select(
        *(value.alias(name) for name, value in values.items()),
        *_day_columns(dataset),
        RAW,
        SOURCE,
        *_outcome_columns(dataset, F.col(OUTCOME), file),
    )


def usable_rows_by_day(rows: DataFrame) -> dict[str, int]:
    """The number of usable rows of each day. A quarantined row may have any time, so it does not count.

    Raises UserError with the most frequent reason if no row is usable.
    """
    usable = {row[DS]: row["count"] for row in rows.where(F.col(REASON).isNull()).groupBy(DS).count().collect()}
    if not usable:
        problem = "it is empty"
        reasons = rows.groupBy(REASON).count().orderBy(F.desc("count"), REASON).collect()
        if reasons:
            quarantined = sum(row["count"] for row in reasons)
            problem = (
                f"{counted(quarantined, 'row')} in quarantine and no other, most often because: {reasons[0][REASON]}"
            )
        raise UserError(f"the log has no usable row: {problem}; is it the right file?")
    return usable


def _with_time(
    spark: SparkSession, rows: DataFrame, at_ms: SparkSql, dataset: Dataset
) -> tuple[DataFrame, list[Column]]:
    """Adds _AT_MS, and returns reasons for rows without a usable time.

    The time of a text without a zone depends on the session's zone, so it is computed in two of them and compared. In a
    calendar in UTC such a time is taken as UTC.
    """
    rows = rows.withColumn(_AT_MS, F.expr(at_ms))
    reasons = []
    if dataset.timezone not in _UTC:
        with _session_zone(spark, "Etc/GMT-1"):
            rows = rows.withColumn(_AT_MS_ELSEWHERE, F.expr(at_ms))
        reasons.append(F.when(~F.col(_AT_MS).eqNullSafe(F.col(_AT_MS_ELSEWHERE)), _NO_ZONE))
    return rows, [*reasons, _reason_unless(_has_day(), "the time cannot be read")]


@contextmanager
def _session_zone(spark: SparkSession, zone: str) -> Iterator[None]:
    """The zone in which expressions that are analysed inside the block read a time without one."""
    setting = "spark.sql.session.timeZone"
    previous = spark.conf.get(setting)
    spark.conf.set(setting, zone)
    try:
        yield
    finally:
        spark.conf.set(setting, previous)


def _has_day() -> Column:
    return F.col(_AT_MS).between(0, LATEST_EXPOSED_AT_MS)


def _day_columns(dataset: Dataset) -> list[Column]:
    local_time = F.from_utc_timestamp(F.timestamp_millis(_AT_MS), dataset.timezone)
    day = F.when(_has_day(), F.date_format(local_time, "yyyy-MM-dd"))
    return [day.alias(DS), F.col(_FIRST_REASON).alias(REASON)]


def _condition(outcome: Outcome) -> Column:
    return F.expr(outcome.condition) if outcome.condition else F.lit(True)


def _outcome_columns(dataset: Dataset, outcome: Column, file: RawFile | None = None) -> list[Column]:
    """OUTCOME, and the columns by which outcomes are joined. file: None for rows of the log."""
    if not dataset.outcomes:
        return []
    columns = [outcome.alias(OUTCOME)]
    for column, match in zip(match_columns(dataset), matches(dataset), strict=True):
        values = None
        for o in dataset.outcomes:
            if o.match == match and (file is None or o.file == file):
                values = _values(dataset.log, match) if file is None else _values(file, o.file_match or match)
        columns.append((identity(values) if values else F.lit(None).cast("bigint")).alias(column.name))
    return columns


def _values(file: RawFile, names: tuple[str, ...]) -> list[tuple[Column, RawColumn]]:
    by_name = {column.name: column for column in file.columns}
    return [(F.col(f"{file.view}.{quoted_name(name)}"), by_name[name]) for name in names]


def _row_identity(dataset: Dataset, file: RawFile) -> Column:
    """The hash of all columns: an outcome that is repeated in all of them is one."""
    return identity(_values(file, tuple(column.name for column in file.columns)), dataset.name)


def _reason_unless(condition: Column, reason: str) -> Column:
    """The reason if the condition is false or null."""
    return F.when(~F.coalesce(condition, F.lit(False)), reason)


def _exposure_columns(dataset: Dataset, is_usable_exposure: Column, is_exposure: Column) -> list[Column]:
    sql = {d.column.name: d.spark_sql for d in (dataset.user_id, *dataset.columns)}
    sql |= {name: getattr(dataset, name) for name in ("channel", "cost", "propensity")}
    columns = {name: F.expr(expression) for name, expression in sql.items()}
    # A broken cell of a quarantined row must not stop the job. The id of such a row is computed nevertheless: it
    # spreads these rows over the cluster.
    columns = {name: F.when(is_usable_exposure, value) for name, value in columns.items()}
    exposure_id = identity(_values(dataset.log, dataset.log_key), dataset.name)
    if dataset.is_exposure:
        exposure_id = F.when(is_exposure, exposure_id).otherwise(_row_identity(dataset, dataset.log))
    columns |= {"exposure_id": exposure_id, "exposed_at_ms": F.when(F.col(_FIRST_REASON).isNull(), F.col(_AT_MS))}
    return [columns[c.name].cast(c.dtype).alias(c.name) for c in _columns_of_exposures(dataset)]


def _columns_of_exposures(dataset: Dataset) -> list[ColumnOfTable]:
    """The columns of `exposures` without those that _outcome_columns adds."""
    return [column for column in exposures(dataset).columns if column not in match_columns(dataset)]
