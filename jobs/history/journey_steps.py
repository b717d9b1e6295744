"""The steps of journeys in order: what an earlier day's memory holds, then the steps of a chunk's exposures.

Shapes: U users, M steps.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Ints, filled_ints, list_offsets
from features.user_chunk import UserChunk
from schemas.dataset import Dataset
from schemas.steps import MEMORY_STEPS, input_columns, outcome_columns


@dataclass(frozen=True)
class JourneySteps:
    """M steps of U users, outcome and inputs: all remembered ones, by user, then all new ones, by user.

    remembered_U, new_U: how many of each a user has. remembered_start_U, new_start_U: position of the user's first
    among all remembered, and among all new steps. remembered: how many remembered steps in all.
    """

    steps_M: pa.StructArray
    remembered_U: Ints
    remembered_start_U: Ints
    new_U: Ints
    new_start_U: Ints
    remembered: int

    @classmethod
    def from_chunk(cls, chunk: UserChunk, steps: pa.Table, dataset: Dataset) -> "JourneySteps":
        """steps: those of the chunk (features.point_in_time.point_in_time_steps)."""
        memory_U = chunk.summary("memory")
        remembered_U = filled_ints(pc.list_value_length(memory_U), 0)
        remembered_steps, exposures = pc.list_flatten(memory_U), len(chunk.user_N)
        names = [c.name for c in (*outcome_columns(dataset), *input_columns(dataset))]
        columns = [steps.column(name).slice(0, exposures).combine_chunks() for name in names]
        new_steps = pa.StructArray.from_arrays(columns, names).cast(remembered_steps.type)
        new_U = np.bincount(chunk.user_N, minlength=chunk.users)
        return cls(
            steps_M=pa.concat_arrays([remembered_steps, new_steps]),
            remembered_U=remembered_U,
            remembered_start_U=np.cumsum(remembered_U) - remembered_U,
            new_U=new_U,
            new_start_U=np.cumsum(new_U) - new_U,
            remembered=len(remembered_steps),
        )

    def rows(self, user: Ints, position: Ints) -> Ints:
        """Rows in steps_M of the steps at these positions (0: the oldest) of these users' journeys."""
        remembered_row = self.remembered_start_U[user] + position
        new_row = self.remembered + self.new_start_U[user] + position - self.remembered_U[user]
        rows: Ints = np.where(position < self.remembered_U[user], remembered_row, new_row)
        return rows

    def memory(self) -> pa.ListArray:
        """[U]: the latest MEMORY_STEPS steps, oldest first."""
        length_U = self.remembered_U + self.new_U
        memory_length_U = np.minimum(length_U, MEMORY_STEPS)
        user = np.repeat(np.arange(len(length_U)), memory_length_U)
        place = np.arange(len(user)) - np.repeat(np.cumsum(memory_length_U) - memory_length_U, memory_length_U)
        rows = self.rows(user, place + (length_U - memory_length_U)[user])
        return pa.ListArray.from_arrays(list_offsets(memory_length_U), self.steps_M.take(pa.array(rows)))
