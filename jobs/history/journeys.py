"""Exposures to journeys: fold new exposures into an earlier day's journeys."""

import pyarrow as pa
from pyspark.sql import DataFrame

from features.point_in_time import point_in_time_steps
from features.user_chunk import DS, RUNNING_TOTALS, UserChunk
from features.visibility import Side
from jobs.history.journey_steps import JourneySteps
from jobs.history.whole_users import compute_whole_users
from jobs.spark.worker_tables import WorkerTable
from schemas.dataset import Dataset
from schemas.steps import input_columns, profile_inputs
from schemas.tables.journeys import journeys


def fold(exposures: DataFrame, earlier_journeys: DataFrame | None, dataset: Dataset, day: str) -> WorkerTable:
    """The table `journeys` plus ds, as of the end of `day`: a row for each user of the journeys or the exposures.

    exposures: rows of the table `exposures` plus ds, from the day after the earlier journeys up to `day`.
    earlier_journeys: the table `journeys`, None to start with the first exposures.
    """

    def compute(chunk: UserChunk, side: Side) -> pa.Table:
        return journeys_after(chunk, dataset, side).append_column(DS, pa.repeat(day, chunk.users))

    ddl = f"{journeys(dataset).ddl}, {DS} string"
    return compute_whole_users(exposures, earlier_journeys, dataset, dataset.end_of_day_ms(day), compute, ddl)


def journeys_after(chunk: UserChunk, dataset: Dataset, side: Side) -> pa.Table:
    """The columns of the table `journeys` of a chunk's users, as of its end. side: see point_in_time_steps."""
    steps = point_in_time_steps(chunk, dataset, side)
    queries = steps.slice(len(chunk.user_N))
    inputs = [c.name for c in input_columns(dataset)]
    next_step = pa.StructArray.from_arrays([queries.column(name).combine_chunks() for name in inputs], inputs)
    unchanged = (*(c.name for c in profile_inputs(dataset)), *RUNNING_TOTALS)
    return pa.table(
        {
            "user_id": chunk.user_id_U,
            "memory": JourneySteps.from_chunk(chunk, steps, dataset).memory(),
            "next_step": next_step,
            **{name: queries.column(name) for name in unchanged},
        }
    )
