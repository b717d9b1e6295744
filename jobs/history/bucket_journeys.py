"""The table `journeys` of one bucket of users, from the files of the bucket, in a Spark worker."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from features.user_chunk import DS, UserChunk
from features.visibility import STRICTLY_BEFORE, Side
from jobs.history.bucket_exposures import exposures_of_bucket, rows_of, user_numbers, user_spans
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
    """The journeys as of the end of a day, as the work of a task on one bucket of users.

    folders: of the tables exposures and journeys, by name. exposures: the files of all days from the earlier journeys
    to the day. chunks: these days, in parts that are in memory together. earlier_journeys: the files of the journeys
    before the first exposure, none without earlier history.
    """

    dataset: Dataset
    folders: Mapping[str, str]
    exposures: FilesByValue
    chunks: Sequence[Sequence[str]]
    earlier_journeys: Sequence[DataFile]
    side: Side = STRICTLY_BEFORE  # any other only in tests that plant a leak

    def __call__(self, bucket: int) -> Iterator[StoredFile]:
        """Fold a bucket, and store its file of the last day."""
        exposures = files_of_bucket(self.exposures, bucket)
        earlier = [
            local_file(located(self.folders[JOURNEYS]), file)
            for file in files_of_bucket({"": self.earlier_journeys}, bucket).values()
        ]
        with work_folder() as work:
            for days in self.chunks:
                files = {day: exposures[day] for day in days if day in exposures}
                # Those of a bucket are too large for the memory, also between two chunks of days.
                folder = self.folders[JOURNEYS] if days == self.chunks[-1] else str(work)
                writer = BucketWriter(journeys(self.dataset), folder, bucket, ROWS_PER_GROUP_WITH_LISTS)
                with writer:
                    for rows in self._folded(files, earlier, self.dataset.end_of_day_ms(days[-1])):
                        writer.add(rows.append_column(DS, pa.repeat(days[-1], len(rows))))
                earlier = [work / stored.file.path for stored in writer.stored]
            yield from writer.stored

    def _folded(self, files: Mapping[str, DataFile], earlier: Sequence[Path], as_of_ms: int) -> Iterator[pa.Table]:
        """The table `journeys` as of a time, by user. earlier: the file of the journeys before, if there are any."""
        exposures = exposures_of_bucket(self.folders[EXPOSURES], files, self.dataset)
        with earlier_journeys(earlier, self.dataset) as known:
            user_JN = user_numbers(pa.chunked_array([*known.user_id.chunks, *exposures.column("user_id").chunks]))
            user_J, user_N = np.split(user_JN, [len(known.user_id)])
            users = user_JN.max(initial=-1) + 1
            journeys_U, exposures_U = (np.bincount(user, minlength=users) for user in (user_J, user_N))
            for span in user_spans(exposures_U, journeys_U, JOURNEYS_PER_READ):
                summaries = known.next_summaries(journeys_U[span.start : span.stop].sum())
                rows = exposures.slice(*rows_of(span, user_N))
                yield journeys_after(UserChunk.of_all_users(rows, summaries, as_of_ms), self.dataset, self.side)
