"""Exposures to journeys: fold new exposures into an earlier day's journeys."""

import pyarrow as pa

from features.point_in_time import point_in_time_steps
from features.user_chunk import RUNNING_TOTALS, UserChunk
from features.visibility import Side
from jobs.history.journey_steps import JourneySteps
from schemas.dataset import Dataset
from schemas.steps import input_columns, profile_inputs


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
