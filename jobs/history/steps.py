"""Exposures to steps with everything known before each of them, as rows of Spark."""

import pyarrow as pa
from pyspark.sql import DataFrame

from features.point_in_time import EXPOSURE, KIND, point_in_time_steps
from features.user_chunk import DS, RUNNING_TOTALS, UserChunk
from features.visibility import Side
from jobs.history.whole_users import compute_whole_users
from schemas.dataset import Dataset
from schemas.steps import input_columns, outcome_columns, profile_inputs
from schemas.tables.journeys import journeys

__all__ = ["EXPOSURE", "KIND", "steps_with_inputs"]


def steps_with_inputs(
    exposures: DataFrame, earlier_journeys: DataFrame | None, dataset: Dataset, as_of_ms: int
) -> DataFrame:
    """Steps with everything known strictly before them.

    exposures: rows of the table `exposures` plus ds, all before as_of_ms. earlier_journeys: the table `journeys` as of
    the day before the first of them, None without earlier history.

    Returns a step for each exposure (KIND = EXPOSURE) and a query for each user at as_of_ms (KIND = QUERY), with the
    columns of features.point_in_time.point_in_time_steps.
    """
    table = journeys(dataset)
    columns = {"user_id": dataset.user_id.column.dtype, KIND: "string", DS: "string"}
    columns |= {c.name: c.dtype for c in (*outcome_columns(dataset), *input_columns(dataset), *profile_inputs(dataset))}
    columns |= {name: table.column(name).dtype for name in RUNNING_TOTALS}
    ddl = ", ".join(f"`{name}` {dtype}" for name, dtype in columns.items())

    def compute(chunk: UserChunk, side: Side) -> pa.Table:
        return point_in_time_steps(chunk, dataset, side)

    return compute_whole_users(exposures, earlier_journeys, dataset, as_of_ms, compute, ddl).to_dataframe()
