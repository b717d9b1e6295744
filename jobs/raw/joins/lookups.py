"""Side tables of a log: one row for each key, and a line for each thing that a person should know about their rows."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.raw.files import RawFiles
from jobs.raw.joins.groups import first_rows, whole_groups
from jobs.raw.lines import RAW, REASON, SOURCE, read_typed_lines
from jobs.spark.progress import describe_job
from jobs.spark.worker_tables import WorkerTable
from schemas.contract import quoted_name
from schemas.dataset import Lookup
from schemas.printable import counted

_AGE = "_age"
_DIFFERENT, _UNCLEAR = "_different", "_unclear"  # whether rows of the key differ, and whether the newest ones do
_REASON_UNCLEAR = "its key has different rows in one file"


def read_lookup(spark: SparkSession, files: RawFiles, lookup: Lookup) -> DataFrame:
    """One row for each key that can be read, with REASON if the row cannot be used; prints the notes on its rows.

    Equal rows are one. Among different rows of a key, the newest counts: by Lookup.newest_by, then by the file. A key
    whose newest rows come from one file and differ has no usable row.
    """
    rows = read_typed_lines(spark, files).drop(RAW).withColumn(_AGE, _age_of_file(files))
    # Spark passes no column whose name has a dot to a worker.
    numbers = {name: f"_{place}" for place, name in enumerate(rows.columns)}
    newest = [F.col(numbers[lookup.newest_by]).desc_nulls_last()] if lookup.newest_by else []
    ddl = ", ".join(f"{quoted_name(name)} {dtype}" for name, dtype in rows.dtypes)
    by_key = WorkerTable(
        rows.toDF(*numbers.values()), numbers[lookup.key], (numbers[lookup.key], *newest, numbers[_AGE]),
        _resolver(lookup, rows.columns),
        f"{ddl}, {_DIFFERENT} boolean, {_UNCLEAR} boolean",
    )  # fmt: skip
    keys = by_key.to_dataframe().persist(StorageLevel.MEMORY_AND_DISK)
    describe_job(spark, f"reading {lookup.file.view}")
    for note in _notes(keys, lookup):
        print(f"note: {note}")
    keys = keys.where(F.col(quoted_name(lookup.key)).isNotNull()).drop(SOURCE, _AGE, _DIFFERENT, _UNCLEAR)
    return spark.sql(lookup.spark_sql, **{lookup.file.view: keys}) if lookup.spark_sql else keys


def _age_of_file(files: RawFiles) -> Column:
    """0 for the file that was changed last; files of one time by name, the last one first."""
    newest_first = sorted(((path.stat().st_mtime_ns, name) for name, path in files.by_name.items()), reverse=True)
    age = F.lit(len(newest_first))
    for place, (_, name) in enumerate(newest_first):
        age = F.when(F.col(SOURCE) == name, place).otherwise(age)
    return age


def _resolver(lookup: Lookup, names: list[str]) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.Table]]:
    def resolve(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
        without_key: list[pa.Table] = []

        def with_key() -> Iterator[pa.RecordBatch]:
            for numbered in batches:
                batch = numbered.rename_columns(names)
                has_key = pc.is_valid(batch.column(lookup.key))
                if not pc.all(has_key, min_count=0).as_py():
                    without_key.append(pa.Table.from_batches([batch.filter(pc.invert(has_key))]))
                yield batch.filter(has_key)

        for table in whole_groups(with_key(), lookup.key):
            yield one_row_per_key(table, lookup)
        for table in without_key:
            yield _with_flags(table, np.zeros(len(table), bool), np.zeros(len(table), bool))

    return resolve


def one_row_per_key(table: pa.Table, lookup: Lookup) -> pa.Table:
    """The newest row of each key, with REASON if it is unclear which that is, _different and _unclear.

    table: all rows of its keys, sorted by the key, the newest first.
    """
    first = first_rows(table.column(lookup.key))
    is_first = first == np.arange(len(table))
    values = [name for name in table.column_names if name not in (SOURCE, _AGE)]
    differs = _differs(table, values, first)
    is_newest = ~_differs(table, [_AGE, *([lookup.newest_by] if lookup.newest_by else [])], first)
    different, unclear = np.zeros(len(table), bool), np.zeros(len(table), bool)
    different[first[differs]] = True
    unclear[first[differs & is_newest]] = True
    rows = _with_flags(table, different, unclear)
    reason = pc.if_else(pa.array(unclear), pa.scalar(_REASON_UNCLEAR), pa.scalar(None, pa.string()))
    place = rows.schema.get_field_index(REASON)
    rows = rows.set_column(place, REASON, pc.coalesce(rows.column(REASON), reason))
    return rows.filter(pa.array(is_first))


def _differs(table: pa.Table, names: Sequence[str], first: np.ndarray) -> np.ndarray:
    """Which rows differ in one of the columns from the first row of their key. Two nulls do not differ."""
    differs = np.zeros(len(table), bool)
    for name in names:
        value = table.column(name)
        first_value = value.take(pa.array(first))
        unequal = pc.fill_null(pc.not_equal(value, first_value), pc.xor(value.is_null(), first_value.is_null()))
        differs |= unequal.to_numpy()
    return differs


def _with_flags(table: pa.Table, different: np.ndarray, unclear: np.ndarray) -> pa.Table:
    return table.append_column(_DIFFERENT, pa.array(different)).append_column(_UNCLEAR, pa.array(unclear))


def _notes(keys: DataFrame, lookup: Lookup) -> Iterator[str]:
    view = lookup.file.view
    has_key = F.col(quoted_name(lookup.key)).isNotNull()
    counts = keys.agg(
        F.count_if(~has_key).alias("unreadable"),
        F.count_if(_DIFFERENT).alias("different"),
        F.count_if(F.col(_UNCLEAR) & F.col(REASON).eqNullSafe(_REASON_UNCLEAR)).alias("unclear"),
    ).first()
    if number := counts["unreadable"]:
        reasons = keys.where(~has_key).groupBy(REASON, SOURCE).count().orderBy(F.desc("count"), REASON, SOURCE)
        reason, source, _ = reasons.first()
        yield f"{view}: no key can be read in {counted(number, 'row')}, most often because: {reason} ({source})"
    if resolved := counts["different"] - counts["unclear"]:
        rule = f"the largest {lookup.newest_by}" if lookup.newest_by else "the newest file"
        yield f"{view}: different rows of {counted(resolved, 'key')}; the row of {rule} counts"
    if counts["unclear"]:
        yield f"{view}: different rows of {counted(counts['unclear'], 'key')} in one file: refused"
