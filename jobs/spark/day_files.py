"""Writes ordered rows to one Parquet file a day, inside a Spark worker; `partitions.publish_days` publishes them."""

import platform
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.errors import UserError

# Held rows are parts of tables that stay whole as long as one part is held; beyond this they are copied out.
_MOST_SHARED_BYTES = 256 * 2**20


class DayFiles:
    """Writes FOLDER/DAY.parquet, in row groups of `rows_at_once` however the rows come: equal rows, equal pages.

    Of each day in the making, two groups are in memory: one that is held and one in the writer's buffers; and of what
    came with the held rows _MOST_SHARED_BYTES and one table more.
    """

    def __init__(self, folder: Path, rows_at_once: int) -> None:
        self._folder, self._rows_at_once = folder, rows_at_once
        self._held: dict[str, list[pa.Table]] = defaultdict(list)
        self._shared_bytes = 0
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            writer.close()

    def add(self, rows: pa.Table, days: pa.ChunkedArray) -> None:
        """Rows, and of each its day; where there is none it is called so, and not lost.

        Where the rows of a day lie side by side none is copied.
        """
        coded = pc.fill_null(days, str(None)).combine_chunks().dictionary_encode()
        day_R = coded.indices.to_numpy()
        if (np.diff(day_R) < 0).any():
            order_R = np.argsort(day_R, kind="stable")
            rows, day_R = rows.take(pa.array(order_R)), day_R[order_R]
        count_D = np.bincount(day_R)
        for day, start, count in zip(coded.dictionary.to_pylist(), np.cumsum(count_D) - count_D, count_D, strict=True):
            held = self._held[day]
            held.append(rows.slice(start, count))
            if sum(map(len, held)) >= self._rows_at_once:
                self._write(day, whole_groups_only=True)
        self._shared_bytes += rows.nbytes
        if self._shared_bytes > _MOST_SHARED_BYTES:
            for day, held in self._held.items():  # one after the other: a second copy of all would be as large as all
                self._held[day] = [_copied(held)]
            self._shared_bytes = 0

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
            rows = _copied([rows.slice(to_write)])  # a slice would keep what has been written
        self._held[day] = [rows]

    def _writer(self, day: str, schema: pa.Schema) -> pq.ParquetWriter:
        if day not in self._writers:
            self._make_folder()
            # To collect the distinct values of a column of numbers takes longer than zstd takes to do without, and
            # nobody looks for a list by its smallest value.
            self._writers[day] = pq.ParquetWriter(
                self._file(day), schema, compression="zstd", store_schema=False,
                use_dictionary=[path for field in schema for path in _texts(field, field.name)],
                write_statistics=[field.name for field in schema if not pa.types.is_nested(field.type)],
            )  # fmt: skip
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


def _copied(held: list[pa.Table]) -> pa.Table:
    """In one piece, which keeps no more in memory than itself."""
    rows = pa.concat_tables(held).combine_chunks()
    return rows if len(held) > 1 else rows.take(pa.array(np.arange(len(rows))))


def _texts(field: pa.Field, path: str) -> Iterator[str]:
    """The paths of a field's columns of text, as Parquet names them."""
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _texts(inner, f"{path}.{inner.name}")
    elif pa.types.is_list(field.type):
        yield from _texts(field.type.value_field, f"{path}.list.element")
    elif pa.types.is_string(field.type):
        yield path
