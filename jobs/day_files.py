"""Rows in order to one Parquet file a day, in a worker's own hands: jobs.lake_io.publish_users publishes them."""

from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

# A window of 20 steps has some kilobytes: with a month of days at once, a worker holds some hundred megabytes.
ROWS_AT_ONCE = 2_048


class DayFiles:
    """Writes FOLDER/DAY.parquet, in row groups of ROWS_AT_ONCE however the rows come: equal rows, equal pages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, list[pa.Table]] = defaultdict(list)
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, rows: pa.Table, days: pa.ChunkedArray) -> None:
        """Rows, and of each its day."""
        for day in pc.unique(days).to_pylist():
            held = self._held[day]
            held.append(rows.filter(pc.equal(days, day)))
            if sum(map(len, held)) >= ROWS_AT_ONCE:
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
        to_write = len(rows) - len(rows) % ROWS_AT_ONCE if whole_groups_only else len(rows)
        if to_write:
            self._writer(day, rows.schema).write_table(rows.slice(0, to_write), row_group_size=ROWS_AT_ONCE)
        self._held[day] = [rows.slice(to_write)]

    def _writer(self, day: str, schema: pa.Schema) -> pq.ParquetWriter:
        if day not in self._writers:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writers[day] = pq.ParquetWriter(self._file(day), schema, compression="zstd", store_schema=False)
        return self._writers[day]

    def _file(self, day: str) -> Path:
        return self._folder / f"{day}.parquet"


def arrow_schema(ddl: str) -> pa.Schema:
    """Of columns in Spark's DDL."""
    return to_arrow_schema(StructType.fromDDL(ddl), timezone="UTC")
