"""The tables `steps` and `sequences` of one bucket of users, and the counts of its items, in a Spark worker."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import to_ints
from features.item_history import count_items, history_columns
from features.point_in_time import JOURNEY_POSITION, point_in_time_steps
from features.user_chunk import DS, RUNNING_TOTALS, SUMMARY, UserChunk
from features.visibility import STRICTLY_BEFORE, Side
from jobs.history.bucket_exposures import exposures_of_days, facts_of_exposures, in_order, whole_users
from jobs.history.item_history import CountFiles
from jobs.history.journey_summaries import (
    JOURNEYS_PER_READ,
    columns_of_summaries,
    summary_schema,
    to_summaries,
)
from jobs.history.windows import cut_windows
from jobs.spark.buckets import BucketWriter, StoredFile, files_of_bucket
from jobs.spark.partitions import day_chunks
from lakehouse.arrow_types import rows_where
from lakehouse.journeys import NewestRows
from lakehouse.storage.data_files import local_file
from lakehouse.storage.delta_table import DataFile, FilesByValue
from lakehouse.storage.store_path import located
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, SEQUENCES, STEPS
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps


@dataclass(frozen=True)
class BucketJob:
    """Steps and windows of some days, and item counts of some days, as the work of a task on one bucket of users.

    folders: of the tables exposures, journeys and the three that are built, by name. days: those to publish.
    exposures: the files of all days from the earlier journeys to the last of `days`. chunks: these days, in parts that
    are in memory together. earlier_journeys: the files of the journeys before the first exposure, by day; none without
    earlier history. counted: exposures whose items are counted, by day; those of `exposures` are read once for both.
    """

    dataset: Dataset
    folders: Mapping[str, str]
    window_steps: int
    days: Sequence[str]
    exposures: FilesByValue
    chunks: Sequence[Sequence[str]]
    earlier_journeys: FilesByValue
    counted: FilesByValue
    side: Side = STRICTLY_BEFORE  # any other only in tests that plant a leak

    def __call__(self, bucket: int) -> Iterator[StoredFile | CountFiles]:
        """Compute a bucket; store its files of both tables, and its item counts."""
        counted_alone = {day: files for day, files in self.counted.items() if day not in self.exposures}
        of_bucket = files_of_bucket(counted_alone, bucket)
        for days in day_chunks(counted_alone):
            rows = self._read({day: of_bucket[day] for day in days if day in of_bucket}, history_columns(self.dataset))
            yield from self._counts(rows, days)
        facts = facts_of_exposures(self.dataset)
        exposures = files_of_bucket(self.exposures, bucket)
        summaries = self._earlier_summaries(files_of_bucket(self.earlier_journeys, bucket).values())
        for days in self.chunks:
            rows = self._read({day: exposures[day] for day in days if day in exposures}, facts)
            yield from self._counts(rows, days)
            with (
                BucketWriter(steps(self.dataset), self.folders[STEPS], bucket) as step_writer,
                BucketWriter(sequences(self.dataset), self.folders[SEQUENCES], bucket) as window_writer,
            ):
                queries = [summaries]
                for chunk, computed in self._computed(rows, summaries, self.dataset.end_of_day_ms(days[-1])):
                    exposure_steps = computed.slice(0, len(chunk.user_N))
                    position_N = to_ints(exposure_steps.column(JOURNEY_POSITION))
                    is_requested = pc.is_in(exposure_steps.column(DS), pa.array(self.days))
                    step_writer.add(rows_where(exposure_steps, is_requested))
                    window_writer.add(cut_windows(chunk, position_N, self.dataset, self.window_steps, self.days))
                    if days != self.chunks[-1]:
                        queries.append(_summaries_after(chunk, computed, summaries.schema))
                summaries = _latest_of_each_user(queries)
            yield from (*step_writer.stored, *window_writer.stored)

    def _read(self, files: Mapping[str, DataFile], columns: Sequence[str]) -> pa.Table:
        return exposures_of_days(self.folders[EXPOSURES], files, self.dataset, columns)

    def _counts(self, exposures: pa.Table, days: Sequence[str]) -> Iterator[CountFiles]:
        """Store the item counts of those of the days that are to be counted."""
        if counted_days := [day for day in days if day in self.counted]:
            is_counted = pc.is_in(exposures.column(DS), value_set=pa.array(counted_days))
            items = count_items(rows_where(exposures, is_counted), self.dataset)
            yield CountFiles.store(located(self.folders[ITEM_HISTORY]), counted_days, items)

    def _computed(
        self, exposures: pa.Table, summaries: pa.Table, as_of_ms: int
    ) -> Iterator[tuple[UserChunk, pa.Table]]:
        """Chunks of whole users with their steps (features.point_in_time.point_in_time_steps)."""
        for rows in whole_users(in_order(exposures)):
            chunk = UserChunk.from_exposures(rows, summaries, as_of_ms)
            yield chunk, point_in_time_steps(chunk, self.dataset, self.side)

    def _earlier_summaries(self, files: Iterable[DataFile]) -> pa.Table:
        """The summaries of all users of the bucket who have a journey; see journey_summaries."""
        schema, folder = summary_schema(self.dataset, memory=False), located(self.folders[JOURNEYS])
        paths = [local_file(folder, file) for file in files]
        tables = NewestRows(paths).tables(columns_of_summaries(schema), JOURNEYS_PER_READ) if paths else ()
        return pa.concat_tables([schema.empty_table(), *(to_summaries(rows, schema) for rows in tables)])


def _summaries_after(chunk: UserChunk, computed: pa.Table, schema: pa.Schema) -> pa.Table:
    """The summaries of a chunk's users as of its end. computed: their steps and queries."""
    queries, exposures = computed.slice(len(chunk.user_N)), len(chunk.user_N)
    last_row_U = np.append(np.flatnonzero(np.diff(chunk.user_N)), exposures - 1)
    next_step = schema.field(SUMMARY).type.field("next_step").type
    fields = {
        "next_step": pa.StructArray.from_arrays(
            [queries.column(field.name).combine_chunks() for field in next_step], [field.name for field in next_step]
        ),
        **{name: queries.column(name).combine_chunks() for name in RUNNING_TOTALS},
        "exposed_at_ms": pa.array(chunk.exposed_at_ms_N[last_row_U]),
    }
    summary = pa.StructArray.from_arrays(list(fields.values()), list(fields))
    profile = {name: queries.column(name) for name in schema.names if name not in ("user_id", SUMMARY)}
    return pa.table({"user_id": chunk.user_id_U, **profile, SUMMARY: summary}).cast(schema)


def _latest_of_each_user(summaries: Sequence[pa.Table]) -> pa.Table:
    """One summary of each user, from the last table that has one: it stays right until the user's next exposure."""
    if len(summaries) == 1:
        return summaries[0]
    earlier, newer = summaries[0], pa.concat_tables(summaries[1:])
    is_replaced = pc.is_in(earlier.column("user_id"), value_set=newer.column("user_id"))
    return pa.concat_tables([earlier.filter(pc.invert(is_replaced)), newer])
