"""All rows of a log in one table with their fates. The jobs publish, drop and quarantine rows in separate steps."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.raw.exposures import exposure_order, without_duplicates
from jobs.raw.reader.typed_rows import REASON
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset

FATE = "_fate"
EXPOSURE, DUPLICATE, QUARANTINED = "exposure", "duplicate", "quarantined"


def with_fate(rows: DataFrame, dataset: Dataset) -> DataFrame:
    """The rows of jobs.raw.rows.read_rows with their FATE."""
    usable = rows.where(F.col(REASON).isNull())
    columns = ", ".join(f"`{name}` {dtype}" for name, dtype in usable.dtypes)
    exposures = WorkerTable(usable, "user_id", exposure_order(dataset), without_duplicates, columns).to_dataframe()
    quarantined = rows.where(F.col(REASON).isNotNull())
    parts = {EXPOSURE: exposures, DUPLICATE: usable.exceptAll(exposures), QUARANTINED: quarantined}
    first, *further = (part.withColumn(FATE, F.lit(fate)) for fate, part in parts.items())
    for part in further:
        first = first.unionByName(part)
    return first
