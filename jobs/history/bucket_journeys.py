"""The table `journeys` of one bucket of users, from the files of the bucket, in a Spark worker."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.columns import numbers_in_order
from features.user_chunk import DS, UserChunk
from features.visibility import STRICTLY_BEFORE, Side
from jobs.history.bucket_exposures import exposures_of_bucket, rows_of, user_spans
from jobs.history.journey_summaries import JOURNEYS_PER_READ, earlier_journeys
from jobs.history.journeys import journeys_after
from jobs.spark.buckets import BucketWriter, StoredFile, files_of_bucket
from jobs.spark.partitions import ROWS_PER_GROUP_WITH_LISTS
from lakehouse.storage.data_files import local_file
from lakehouse.storage.delta_table import DataFile, FilesByValue
from lakehouse.storage.scratch import work_folder
from lakehouse.storage.store_path import located
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, JOURNEYS
from schemas.tables.journeys import journeys


@dataclass(frozen=True)
class JourneyJob:
    """The journeys as of the end of days, as the work of a task on one bucket of users.

    folders: of the tables exposures and journeys, by name. exposures: the files of all days from the earlier journeys
    on. chunks: these days, in parts that are in memory together. published: the days to publish, each of which ends a
    chunk, with the number of partitions that are read for the journeys as of this day: 1 for a partition with all users
    (lakehouse.journeys). earlier_journeys: the files of the journeys before the first exposure, by day; none without
    earlier history.
    """

    dataset: Dataset
    folders: Mapping[str, str]
    exposures: FilesByValue
    chunks: Sequence[Sequence[str]]
    published: Mapping[str, int]
    earlier_journeys: FilesByValue
    side: Side = STRICTLY_BEFORE  # any other only in tests that plant a leak

    def __call__(self, bucket: int) -> Iterator[StoredFile]:
        """Fold a bucket, and store its files of the published days."""
        exposures, folder = files_of_bucket(self.exposures, bucket), located(self.folders[JOURNEYS])
        newest = [local_file(folder, file) for file in files_of_bucket(self.earlier_journeys, bucket).values()]
        with work_folder() as work:
            for days in self.chunks:
                day, files = days[-1], {day: exposures[day] for day in days if day in exposures}
                has_all_users = self.published.get(day, 1) == 1
                # The journeys of a bucket are too large for the memory, also between two chunks of days.
                target = folder if day in self.published else work
                writer = BucketWriter(journeys(self.dataset), str(target), bucket, ROWS_PER_GROUP_WITH_LISTS)
                with writer:
                    for rows in self._folded(files, newest, self.dataset.end_of_day_ms(day), has_all_users):
                        writer.add(rows.append_column(DS, pa.repeat(day, len(rows))))
                if day in self.published:
                    yield from writer.stored
                if days is not self.chunks[-1]:  # in a store, the files would be fetched for nothing
                    written = [local_file(target, stored.file) for stored in writer.stored]
                    newest = written if has_all_users else [*newest, *written]

    def _folded(
        self, files: Mapping[str, DataFile], newest: Sequence[Path], as_of_ms: int, has_all_users: bool
    ) -> Iterator[pa.Table]:
        """Rows of `journeys` as of a time, by user. newest: the files of the journeys before, oldest first.

        has_all_users: or only those whose journey changes.
        """
        exposures = exposures_of_bucket(self.folders[EXPOSURES], files, self.dataset)
        known = earlier_journeys(newest, self.dataset, exposures, None if has_all_users else as_of_ms)
        user_JN = numbers_in_order(pa.chunked_array([*known.user_id.chunks, *exposures.column("user_id").chunks]))
        user_J, user_N = np.split(user_JN, [len(known.user_id)])
        users = user_JN.max(initial=-1) + 1
        journeys_U, exposures_U = (np.bincount(user, minlength=users) for user in (user_J, user_N))
        for span in user_spans(exposures_U, journeys_U, JOURNEYS_PER_READ):
            summaries = known.next_summaries(journeys_U[span.start : span.stop].sum())
            rows = exposures.slice(*rows_of(span, user_N))
            yield journeys_after(UserChunk.from_all_users(rows, summaries, as_of_ms), self.dataset, self.side)
