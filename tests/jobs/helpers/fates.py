"""What becomes of every row of a log, side by side: the jobs keep, drop and refuse them in different places."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.exposures import REASON, copies_together, without_copies
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset

FATE = "_fate"
KEPT, DUPLICATE, REFUSED = "kept", "duplicate", "refused"


def with_fate(rows: DataFrame, dataset: Dataset) -> DataFrame:
    """The rows of jobs.raw.exposures.with_reason with their FATE."""
    usable = rows.where(F.col(REASON).isNull())
    columns = ", ".join(f"`{name}` {dtype}" for name, dtype in usable.dtypes)
    kept = WorkerTable(usable, "user_id", copies_together(dataset), without_copies, columns).to_dataframe()
    fates = {KEPT: kept, DUPLICATE: usable.exceptAll(kept), REFUSED: rows.where(F.col(REASON).isNotNull())}
    first, *others = (part.withColumn(FATE, F.lit(fate)) for fate, part in fates.items())
    for part in others:
        first = first.unionByName(part)
    return first
