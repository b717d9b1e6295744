"""Reads small raw files without Spark, in several ways that must agree."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.raw.reader import delimited, read, records
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import plan_splits, read_split
from jobs.raw.reader.typed_rows import RAW, REASON, typed_schema
from schemas.dataset import RawFile

Row = tuple[Any, ...]  # the values of the layout's columns, the reason, the bytes


def rows_of(path: Path, layout: RawFile, split_size: int = 1 << 30, block_size: int = 1 << 22) -> list[Row]:
    """All rows of a file, sorted by their bytes."""
    source = open_raw_file(path, layout)
    splits = plan_splits(source, split_size)
    tables = [table for split in splits for table in read_split(split, layout, block_size)]
    table = pa.concat_tables([typed_schema(layout).empty_table(), *tables])
    names = [*(column.name for column in layout.columns), REASON, RAW]
    return sorted(
        zip(*(table.column(name).to_pylist() for name in names), strict=True), key=lambda row: (row[-1], str(row))
    )


def read_bytes(data: bytes, folder: Path, layout: RawFile, **sizes: int) -> list[Row]:
    path = folder / "read.csv"
    path.write_bytes(data)
    return rows_of(path, layout, **sizes)


def expected_records(data: bytes, separator: bytes, *, lone_cr: bool, largest: int) -> list[bytes]:
    """The records of a delimited text with quotes, by a regular expression instead of by walking through the bytes."""
    ends = rb"\r\n" if lone_cr else rb"\n"
    field = rb'(?:"(?:[^"]|"")*+"|(?!")[^' + separator + ends + rb"]*+)"
    line_end = rb"(?:\r\n?|\n|\Z)" if lone_cr else rb"(?:\r?\n|\r?\Z)"
    record = re.compile(field + rb"(?:" + separator + field + rb")*+" + line_end)
    line = re.compile(rb"[^\r\n]*(?:\r\n?|\n|\Z)" if lone_cr else rb"[^\n]*(?:\n|\Z)")
    cut_records, position = [], 0
    while position < len(data):
        match = record.match(data, position)
        if match is None or match.end() - position > largest:
            match = line.match(data, position)
        cut_records.append(records.without_line_end(match[0]))
        position = match.end()
    return cut_records


def with_largest_record(patch: Any, size: int) -> None:
    """Limits of a few bytes, so that small texts exceed them."""
    for module in (records, delimited, read):
        patch.setattr(module, "LARGEST_RECORD", size)
