"""A lake with a single bucket of users, whose steps and windows are built in this process, without Spark."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from user_chunks import user_chunk

from features.visibility import STRICTLY_BEFORE, Side
from jobs import build_journeys
from jobs.history.bucket_journeys import JourneyJob
from jobs.history.bucket_steps import BucketJob
from jobs.history.item_history import CountFiles
from jobs.history.journeys import journeys_after
from jobs.spark.buckets import StoredFile
from jobs.spark.partitions import commit_built_days
from lakehouse.arrow_types import stored_schema
from lakehouse.lake import Lake
from lakehouse.storage.data_files import read_file
from lakehouse.storage.delta_table import DataFile
from lakehouse.storage.scratch import work_folder
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, ITEM_HISTORY, JOURNEYS, SEQUENCES, STEPS
from schemas.tables.exposures import exposures
from schemas.tables.journeys import journeys
from schemas.tables.sequences import sequences
from schemas.tables.steps import steps


class BucketLake:
    """frame: contract columns of exposures plus ds. days: those with exposures."""

    def __init__(self, folder: Path, dataset: Dataset, frame: pd.DataFrame) -> None:
        self.lake, self.dataset, self.frame = Lake(folder), dataset, frame
        self.days = sorted(frame.ds.unique())
        for day in self.days:
            self.publish_exposures(day, frame)

    def publish_exposures(self, day: str, frame: pd.DataFrame) -> None:
        """Publish the exposures of the day that the frame has, which are more or other ones than before."""
        self._publish(exposures(self.dataset), day, user_chunk(frame[frame.ds == day], self.dataset, 0).exposures)

    def publish_journeys(self, day: str) -> None:
        """Journeys as of the end of the day, from all exposures up to it."""
        chunk = user_chunk(self.frame[self.frame.ds <= day], self.dataset, self.dataset.end_of_day_ms(day))
        self._publish(journeys(self.dataset), day, journeys_after(chunk, self.dataset, STRICTLY_BEFORE))

    def build_journeys(
        self, day: str, *, chunks: Sequence[Sequence[str]] | None = None, journeys_day: str | None = None
    ) -> DataFile:
        """Store the file of `journeys` as of the end of the day. The arguments are those of `build`."""
        read_days = [d for d in self.days if (journeys_day or "") < d <= day]
        job = JourneyJob(
            dataset=self.dataset,
            folders={table: str(self.lake.table(table, self.dataset)) for table in (EXPOSURES, JOURNEYS)},
            exposures=self.lake.present(EXPOSURES, self.dataset, read_days),
            chunks=chunks or [read_days],
            published={day: 1},
            earlier_journeys=self.lake.present(JOURNEYS, self.dataset, [journeys_day] if journeys_day else []),
        )
        (stored,) = job(0)
        assert stored.day == day
        return stored.file

    def update_journeys(self, day: str) -> None:
        """Publish the journeys of the day and of the days that it is read with, as jobs.build_journeys does."""
        edition = build_journeys.present_edition(self.lake, self.dataset, day)
        job = build_journeys.journey_job(self.lake, self.dataset, day, None)
        files = {day: (file,) for _, day, file in job(0)}
        build_journeys.publish(self.lake, job, files, edition)

    def build(
        self, days: Sequence[str], *, chunks: Sequence[Sequence[str]] | None = None, journeys_day: str | None = None,
        window_steps: int = 20, side: Side = STRICTLY_BEFORE, counted: Sequence[str] = (),
    ) -> list[StoredFile | CountFiles]:  # fmt: skip
        """Store the files of `steps` and `sequences` of these days, and count the items of the days `counted`.

        chunks: all days up to the last, in parts. journeys_day: of the published journeys to start from.
        """
        read_days = [day for day in self.days if (journeys_day or "") < day <= max(days, default="")]
        tables = (EXPOSURES, ITEM_HISTORY, JOURNEYS, STEPS, SEQUENCES)
        job = BucketJob(
            dataset=self.dataset,
            folders={table: str(self.lake.table(table, self.dataset)) for table in tables},
            window_steps=window_steps,
            days=days,
            exposures=self.lake.present(EXPOSURES, self.dataset, read_days),
            chunks=chunks or ([read_days] if days else []),
            earlier_journeys=self.lake.present(JOURNEYS, self.dataset, [journeys_day] if journeys_day else []),
            counted=self.lake.present(EXPOSURES, self.dataset, counted),
            side=side,
        )
        return list(job(0))

    def publish(self, stored: Sequence[StoredFile], days: Sequence[str]) -> None:
        """Publish the files of both tables, built from the present exposures."""
        inputs = self.lake.history_inputs(EXPOSURES, self.dataset, days)
        for table in (steps(self.dataset), sequences(self.dataset)):
            files = {day: (file,) for name, day, file in stored if name == table.name}
            commit_built_days(
                self.lake, table, self.dataset, days, files, inputs=inputs.__getitem__,
                replaces=self.lake.present(table.name, self.dataset, days),
            )  # fmt: skip

    def read(self, stored: Sequence[StoredFile], table: str) -> pa.Table:
        """The rows of these files of a table, oldest day first, with ds."""
        folder = self.lake.table(table, self.dataset)
        files = sorted((day, file) for name, day, file in stored if name == table)
        tables = [(day, read_file(folder, file)) for day, file in files]
        return pa.concat_tables([rows.append_column("ds", pa.repeat(day, len(rows))) for day, rows in tables])

    def _publish(self, table: Table, day: str, rows: pa.Table) -> None:
        with work_folder() as staged:
            schema = stored_schema(table)
            pq.write_table(rows.select(schema.names).cast(schema), staged / "part-0.parquet")
            self.lake[table.name, self.dataset, day].publish(staged, inputs={}, code="0")
