"""Reads raw files into typed rows, split by split: plain Python and Arrow, for Spark's workers and for single files.

    for table in read_file(open_source(path, layout), layout): ...

The rows are the same however a file is split.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from jobs.raw.reader.delimited import block_tables
from jobs.raw.reader.json_lines import json_tables
from jobs.raw.reader.parquet_files import parquet_tables, row_groups
from jobs.raw.reader.records import BLOCK_SIZE, LARGEST_RECORD, Block, Readable, cut_blocks, lines_are_records
from jobs.raw.reader.source_files import SourceFile, content
from schemas.dataset import JSON_LINES, PARQUET, RawFile

SPLIT_SIZE = 32 << 20


@dataclass(frozen=True, slots=True)
class Split:
    """A part of a file: the records that begin from byte `start` to before byte `end`; row groups of a Parquet file.

    end: None for the end of the file.
    """

    source: SourceFile
    start: int
    end: int | None = None
    size: int = 0  # bytes, about


def plan_splits(source: SourceFile, split_size: int = SPLIT_SIZE) -> list[Split]:
    """Splits that together have every record of the file once. Raises what source_files.content raises."""
    if source.format == PARQUET:
        return _group_splits(source, split_size)
    whole_file = Split(source, source.body, None, source.size)
    if source.size <= split_size or not _can_be_split(source):
        return [whole_file]
    starts = [source.body, *range(source.body + split_size, source.size, split_size)]
    ends = [*starts[1:], None]
    return [Split(source, start, end, split_size) for start, end in zip(starts, ends, strict=True)]


def read_split(split: Split, layout: RawFile, block_size: int = BLOCK_SIZE) -> Iterator[pa.Table]:
    """The rows of a split as tables with typed_rows.typed_schema.

    Raises NothingToDoYet if the file changes during the read or may not be complete, UserError if it is damaged.
    """
    source = split.source
    if source.format == PARQUET:
        yield from parquet_tables(source, layout, split.start, split.end or split.start)
        return
    tables: Callable[[Block, SourceFile, RawFile], Iterator[pa.Table]] = (
        json_tables if source.format == JSON_LINES else block_tables
    )
    with content(source) as stream:
        start = _skip_to(stream, split.start, is_first=split.start == source.body)
        length = None if split.end is None else split.end - start
        if length is None or length > 0:
            for block in cut_blocks(stream, source.dialect, length, block_size):
                yield from tables(block, source, layout)


def read_file(source: SourceFile, layout: RawFile) -> Iterator[pa.Table]:
    """All rows of a file in their order, but rows that are read one by one follow the others of their block."""
    for split in plan_splits(source):
        yield from read_split(split, layout)


def _skip_to(stream: Readable, start: int, *, is_first: bool) -> int:
    """Skip to the first record that begins at `start` or after it; its offset."""
    position, goal = 0, start if is_first else start - 1
    if hasattr(stream, "seek") and not is_first:
        stream.seek(goal)
        position = goal
    while position < goal and (piece := stream.read(min(BLOCK_SIZE, goal - position))):
        position += len(piece)
    while not is_first and (line := stream.readline(BLOCK_SIZE)):  # type: ignore[attr-defined]
        position += len(line)
        if line.endswith(b"\n"):
            break
    return position


def _can_be_split(source: SourceFile) -> bool:
    """Whether every line end of the file ends a record, so that a split may begin after any of them."""
    if source.compression or source.is_transcoded or source.dialect.lone_cr:
        return False
    if not source.dialect.quote:
        return True
    unfinished_line = b""
    with content(source) as stream:
        for piece in iter(partial(stream.read, BLOCK_SIZE), b""):
            lines, line_end, tail = (unfinished_line + piece).rpartition(b"\n")
            if not lines_are_records(lines + line_end, source.dialect):
                return False
            unfinished_line = tail
            if len(unfinished_line) > LARGEST_RECORD:
                if source.dialect.quote in unfinished_line:
                    return False
                unfinished_line = unfinished_line[
                    -2:
                ]  # of a long line without quotes, only what is before the next byte counts
    return lines_are_records(unfinished_line, source.dialect)


def _group_splits(source: SourceFile, split_size: int) -> list[Split]:
    splits: list[Split] = []
    first, size, sizes = 0, 0, row_groups(source)
    for k, group_size in enumerate(sizes):
        size += group_size
        if size >= split_size or k == len(sizes) - 1:
            splits.append(Split(source, first, k + 1, size))
            first, size = k + 1, 0
    return splits
