"""Yesterday's journeys and today's exposures -> today's journeys."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame

from features.columns import Ints, ints, offsets
from features.facts import Chunk
from features.point_in_time import Side, known_steps
from jobs.history.user_history import CARRIED, DS, per_user
from jobs.spark.worker_tables import InWorkers
from schemas.dataset import Dataset
from schemas.steps import MEMORY_STEPS, input_columns, outcome_columns, profile_inputs
from schemas.tables.journeys import journeys


def fold(exposures: DataFrame, yesterday: DataFrame | None, dataset: Dataset, day: str) -> InWorkers:
    """The table `journeys` plus ds, as of the end of `day`.

    exposures: rows of `exposures` plus ds, from the day after yesterday's journeys up to this one.
    One row per user of either of them.
    """

    def journeys_of(chunk: Chunk, side: Side) -> pa.Table:
        steps = known_steps(chunk, dataset, side)
        queries = steps.slice(len(chunk.user_N))
        told = {name: queries.column(name) for name in (*(c.name for c in profile_inputs(dataset)), *CARRIED)}
        inputs = [c.name for c in input_columns(dataset)]
        next_step = pa.StructArray.from_arrays([queries.column(name).combine_chunks() for name in inputs], inputs)
        remembered = Remembered.of(chunk, steps, dataset)
        ds = pa.array([day] * chunk.users)
        found = {"user_id": chunk.user_id_U, "memory": remembered.memory(), "next_step": next_step, DS: ds}
        return pa.table(found | told)

    as_of_ms = dataset.end_of_day_ms(day)
    return per_user(exposures, yesterday, dataset, as_of_ms, journeys_of, f"{journeys(dataset).ddl}, {DS} string")


@dataclass(frozen=True)
class Remembered:
    """The journeys of a chunk's users: what yesterday's memory holds, then the steps of the chunk's exposures.

    steps: all remembered ones, then all of the chunk's (outcome and inputs), M in all.
    """

    steps: pa.StructArray
    old_U: Ints  # how many remembered steps a user has
    old_start_U: Ints  # where they begin among all remembered ones
    new_U: Ints  # how many of the chunk
    new_start_U: Ints
    remembered: int

    @classmethod
    def of(cls, chunk: Chunk, steps: pa.Table, dataset: Dataset) -> "Remembered":
        memory = chunk.summary("memory")
        old_U = ints(pc.fill_null(pc.list_value_length(memory), 0))
        old, exposures = pc.list_flatten(memory), len(chunk.user_N)
        names = [c.name for c in (*outcome_columns(dataset), *input_columns(dataset))]
        today = [steps.column(name).slice(0, exposures).combine_chunks() for name in names]
        new = pa.StructArray.from_arrays(today, names)
        new_U = np.bincount(chunk.user_N, minlength=chunk.users)
        return cls(
            pa.concat_arrays([old, new.cast(old.type)]),
            old_U, np.cumsum(old_U) - old_U, new_U, np.cumsum(new_U) - new_U, len(old),
        )  # fmt: skip

    def at(self, user: Ints, position: Ints) -> Ints:
        """Where the steps at these positions (0: the oldest) of these users' journeys stand in `steps`."""
        of_old = self.old_start_U[user] + position
        of_new = self.remembered + self.new_start_U[user] + position - self.old_U[user]
        at: Ints = np.where(position < self.old_U[user], of_old, of_new)
        return at

    def memory(self) -> pa.ListArray:
        """[U]: the latest MEMORY_STEPS steps, oldest first."""
        steps_U = self.old_U + self.new_U
        kept_U = np.minimum(steps_U, MEMORY_STEPS)
        user = np.repeat(np.arange(len(kept_U)), kept_U)
        within = np.arange(len(user)) - np.repeat(np.cumsum(kept_U) - kept_U, kept_U)
        at = self.at(user, within + (steps_U - kept_U)[user])
        return pa.ListArray.from_arrays(offsets(kept_U), self.steps.take(pa.array(at)))
