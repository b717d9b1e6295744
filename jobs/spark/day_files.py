"""Writes ordered rows to one Parquet file a day, inside a Spark worker; partitions.commit_built_days publishes them."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.spark.coded_text import coded_in_row_order

_DAY = "_day"
# Rows that have come in are sorted by day together once there are as many as in this number of row groups.
_GROUPS_PER_SORT = 8
# A buffered slice keeps the whole table in memory that it was cut from; beyond this many bytes slices are copied.
_MAX_SHARED_BYTES = 256 * 2**20


class DayFiles:
    """Writes FOLDER/DAY.parquet in row groups of `rows_per_group`.

    Equal rows give equal files, whatever tables they come in. For each day that is being written, up to two row groups
    are in memory: one in the buffer and one in the writer. _GROUPS_PER_SORT row groups come on top, and tables of which
    buffered rows are slices: they may take _MAX_SHARED_BYTES, and one table more.
    """

    def __init__(self, folder: Path, rows_per_group: int) -> None:
        self._folder, self._rows_per_group = folder, rows_per_group
        self._unsorted: list[pa.Table] = []
        self._buffers: dict[str, list[pa.Table]] = defaultdict(list)
        self._shared_bytes = 0
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, rows: pa.Table, days: pa.ChunkedArray) -> None:
        """Add rows with their days. Rows without a day go to the file of the day "None"."""
        self._unsorted.append(rows.append_column(_DAY, pc.fill_null(days, str(None))))
        if sum(map(len, self._unsorted)) >= _GROUPS_PER_SORT * self._rows_per_group:
            self._sort()

    def _sort(self) -> None:
        """Move the rows that have come in to the buffers of their days."""
        if not self._unsorted:
            return
        rows = pa.concat_tables(self._unsorted)
        self._unsorted = []
        coded, rows = rows.column(_DAY).combine_chunks().dictionary_encode(), rows.drop_columns(_DAY)
        day_R = coded.indices.to_numpy()
        if (np.diff(day_R) < 0).any():
            order_R = np.argsort(day_R, kind="stable")
            rows, day_R = rows.take(pa.array(order_R)), day_R[order_R]
        count_D = np.bincount(day_R)
        for day, start, count in zip(coded.dictionary.to_pylist(), np.cumsum(count_D) - count_D, count_D, strict=True):
            buffer = self._buffers[day]
            buffer.append(rows.slice(start, count))
            if sum(map(len, buffer)) >= self._rows_per_group:
                self._write(day, whole_groups_only=True)
        self._shared_bytes += rows.nbytes
        if self._shared_bytes > _MAX_SHARED_BYTES:
            # One day after another: copies of all days together would take as much memory again.
            for day, buffer in self._buffers.items():
                self._buffers[day] = [_copied(buffer)]
            self._shared_bytes = 0

    def finish(self) -> list[tuple[str, Path]]:
        """Write what is buffered and close all files; returns each file with its day."""
        self._sort()
        for day in self._buffers:
            self._write(day, whole_groups_only=False)
        for writer in self._writers.values():
            writer.close()
        return [(day, self._file(day)) for day in self._writers]

    def _write(self, day: str, *, whole_groups_only: bool) -> None:
        # In one chunk: the writer ends a page where a chunk ends.
        rows = pa.concat_tables(self._buffers[day]).combine_chunks()
        to_write = len(rows) - len(rows) % self._rows_per_group if whole_groups_only else len(rows)
        for start in range(0, to_write, self._rows_per_group):
            group = coded_in_row_order(rows.slice(start, min(self._rows_per_group, to_write - start)))
            self._writer(day, rows.schema).write_table(group)
        if to_write:
            # A slice would keep the written rows in memory.
            rows = _copied([rows.slice(to_write)]) if to_write < len(rows) else rows.schema.empty_table()
        self._buffers[day] = [rows]

    def _writer(self, day: str, schema: pa.Schema) -> pq.ParquetWriter:
        if day not in self._writers:
            # Collecting the distinct values of a column of numbers takes longer than compressing it without them, and
            # no reader skips row groups by the smallest value of a list or of a text, except by the user, who orders
            # the rows.
            self._writers[day] = pq.ParquetWriter(
                self._file(day), schema, compression="zstd", store_schema=False, write_page_checksum=True,
                use_dictionary=[path for field in schema for path in _text_paths(field, field.name)],
                write_statistics=[f.name for f in schema if pa.types.is_primitive(f.type) or f.name == "user_id"],
            )  # fmt: skip
        return self._writers[day]

    def _file(self, day: str) -> Path:
        return self._folder / f"{day}.parquet"


def _copied(tables: list[pa.Table]) -> pa.Table:
    """The rows in one chunk that shares no memory with the tables."""
    rows = pa.concat_tables(tables).combine_chunks()
    return rows if len(tables) > 1 else rows.take(pa.array(np.arange(len(rows))))


def _text_paths(field: pa.Field, path: str) -> Iterator[str]:
    """The paths of a field's text columns, as Parquet names them."""
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _text_paths(inner, f"{path}.{inner.name}")
    elif pa.types.is_list(field.type):
        yield from _text_paths(field.type.value_field, f"{path}.list.element")
    elif pa.types.is_string(field.type) or pa.types.is_dictionary(field.type):
        yield path
