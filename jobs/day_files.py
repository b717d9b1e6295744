"""Rows in order to one Parquet file a day, in a worker's own hands: jobs.lake_io.publish_days publishes them."""

import platform
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import UserError


class DayFiles:
    """Writes FOLDER/DAY.parquet, in row groups of `rows_at_once` however the rows come: equal rows, equal pages.

    Of each day in the making, two groups are in memory: one that is held and one in the writer's buffers.
    """

    def __init__(self, folder: Path, rows_at_once: int) -> None:
        self._folder, self._rows_at_once = folder, rows_at_once
        self._held: dict[str, list[pa.Table]] = defaultdict(list)
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, rows: pa.Table, days: pa.ChunkedArray) -> None:
        """Rows, and of each its day; where there is none it is called so, and not lost."""
        days = pc.fill_null(days, str(None))
        for day in pc.unique(days).to_pylist():
            held = self._held[day]
            held.append(rows.filter(pc.equal(days, day)))
            if sum(map(len, held)) >= self._rows_at_once:
                self._write(day, whole_groups_only=True)

    def files(self) -> list[tuple[str, Path]]:
        """Ends all files; each with its day."""
        for day in self._held:
            self._write(day, whole_groups_only=False)
        for writer in self._writers.values():
            writer.close()
        return [(day, self._file(day)) for day in self._writers]

    def _write(self, day: str, *, whole_groups_only: bool) -> None:
        # In one piece: where chunks end, pages would end.
        rows = pa.concat_tables(self._held[day]).combine_chunks()
        to_write = len(rows) - len(rows) % self._rows_at_once if whole_groups_only else len(rows)
        if to_write:
            self._writer(day, rows.schema).write_table(rows.slice(0, to_write), row_group_size=self._rows_at_once)
            rows = rows.take(np.arange(to_write, len(rows)))  # a copy: a slice would keep what has been written
        self._held[day] = [rows]

    def _writer(self, day: str, schema: pa.Schema) -> pq.ParquetWriter:
        if day not in self._writers:
            self._make_folder()
            self._writers[day] = pq.ParquetWriter(self._file(day), schema, compression="zstd", store_schema=False)
        return self._writers[day]

    def _make_folder(self) -> None:
        """The folder around it is the job's: where it is gone so is the job, or it was never seen from here."""
        try:
            self._folder.mkdir(exist_ok=True)
        except FileNotFoundError as error:
            raise UserError(
                f"{platform.node()} does not find {self._folder.parent}: every Spark worker needs the lake's own folder"
                " under the same path (docs/deploy.md); or the job that asked is gone"
            ) from error

    def _file(self, day: str) -> Path:
        return self._folder / f"{day}.parquet"
