"""Side tables of a log: one row for each key, and a line for each thing that a person should know about their rows."""

from collections.abc import Iterator, Sequence

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.raw.files import RawFiles
from jobs.raw.lines import RAW, REASON, SOURCE, read_typed_lines
from jobs.spark.progress import describe_job
from schemas.dataset import Lookup
from schemas.printable import counted

_AGE, _ROWS, _RANK, _NEWEST = "_age", "_rows", "_rank", "_newest"


def read_lookup(spark: SparkSession, files: RawFiles, lookup: Lookup) -> DataFrame:
    """One row for each key that can be read, with REASON if the row cannot be used; prints the notes on its rows.

    Equal rows are one. Among different rows of a key, the newest counts: by Lookup.newest_by, then by the file. A key
    whose newest rows come from one file and differ has no usable row.
    """
    rows = read_typed_lines(spark, files).drop(RAW)
    rows = rows.withColumn(_AGE, _age_of_file(files)).persist(StorageLevel.MEMORY_AND_DISK)
    has_key = F.col(lookup.key).isNotNull()
    values = [name for name in rows.columns if name not in (SOURCE, _AGE)]
    # Partitioned by the key alone: the copies of a row, and the rows of a key, are then in one place already.
    by_key = rows.where(has_key).repartition(lookup.key)
    distinct = by_key.groupBy(*values).agg(F.min(_AGE).alias(_AGE))
    newest = [F.col(lookup.newest_by).desc_nulls_last()] if lookup.newest_by else []
    same_key = Window.partitionBy(lookup.key)
    ranked = distinct.select(
        "*",
        F.count("*").over(same_key).alias(_ROWS),
        F.rank().over(same_key.orderBy(*newest, F.col(_AGE))).alias(_RANK),
    ).where(F.col(_RANK) == 1)
    unclear = F.when(F.count("*").over(same_key) > 1, "its key has different rows in one file")
    keys = ranked.withColumn(REASON, F.coalesce(REASON, unclear)).dropDuplicates([lookup.key])
    keys = keys.persist(StorageLevel.MEMORY_AND_DISK)
    describe_job(spark, f"reading {lookup.file.view}")
    for note in _notes(rows.where(~has_key), keys, lookup):
        print(f"note: {note}")
    keys = keys.drop(_AGE, _ROWS, _RANK)
    return spark.sql(lookup.spark_sql, **{lookup.file.view: keys}) if lookup.spark_sql else keys


def _age_of_file(files: RawFiles) -> Column:
    """0 for the file that was changed last; files of one time by name, the last one first."""
    newest_first = sorted(((path.stat().st_mtime_ns, name) for name, path in files.by_name.items()), reverse=True)
    age = F.lit(len(newest_first))
    for place, (_, name) in enumerate(newest_first):
        age = F.when(F.col(SOURCE) == name, place).otherwise(age)
    return age


def _notes(unreadable: DataFrame, keys: DataFrame, lookup: Lookup) -> Iterator[str]:
    view = lookup.file.view
    by_reason: Sequence = unreadable.groupBy(REASON, SOURCE).count().orderBy(F.desc("count"), REASON, SOURCE).collect()
    if by_reason:
        number = sum(row["count"] for row in by_reason)
        yield (
            f"{view}: no key can be read in {counted(number, 'row')}, most often because: {by_reason[0][REASON]} "
            f"({by_reason[0][SOURCE]})"
        )
    different = F.col(_ROWS) > 1
    counts = keys.agg(
        F.count(F.when(different, 1)).alias("different"),
        F.count(F.when(different & F.col(REASON).startswith("its key"), 1)).alias("unclear"),
    ).first()
    if resolved := counts["different"] - counts["unclear"]:
        rule = f"the largest {lookup.newest_by}" if lookup.newest_by else "the newest file"
        yield f"{view}: different rows of {counted(resolved, 'key')}; the row of {rule} counts"
    if counts["unclear"]:
        yield f"{view}: different rows of {counted(counts['unclear'], 'key')} in one file: refused"
