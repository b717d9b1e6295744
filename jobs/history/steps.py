"""Exposures to steps with everything known before each of them, as rows of Spark."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from features.point_in_time import EXPOSURE, KIND, point_in_time_steps
from features.user_chunk import DS, RUNNING_TOTALS, UserChunk
from features.visibility import Side
from jobs.history.whole_users import compute_whole_users
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset
from schemas.steps import input_columns, outcome_columns, profile_inputs
from schemas.tables.journeys import journeys
from schemas.tables.steps import steps

__all__ = ["EXPOSURE", "KIND", "step_rows", "steps_with_inputs"]


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


def step_rows(
    exposures: DataFrame, earlier_journeys: DataFrame | None, dataset: Dataset, days: Sequence[str]
) -> WorkerTable:
    """The table `steps` plus ds, of these days, oldest first; the rows have the order of the table `exposures`.

    exposures: rows of the table `exposures` plus ds, of all days from the first of these to the last.
    earlier_journeys: the table `journeys` as of the day before, None without earlier history.
    """
    ddl = f"{steps(dataset).ddl}, {DS} string"

    def compute(chunk: UserChunk, side: Side) -> pa.Table:
        exposure_steps = point_in_time_steps(chunk, dataset, side).slice(0, len(chunk.user_N))
        return exposure_steps.filter(pc.is_in(exposure_steps.column(DS), pa.array(days)))

    return compute_whole_users(exposures, earlier_journeys, dataset, dataset.end_of_day_ms(days[-1]), compute, ddl)
