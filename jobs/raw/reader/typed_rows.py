"""The table into which every format of raw file is read."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jobs.raw.reader.records import Block
from jobs.raw.reader.values import Value
from schemas.dataset import RawFile

REASON, RAW, SOURCE = "_reason", "_raw", "_source_file"
ARROW_TYPES = {"bigint": pa.int64(), "double": pa.float64(), "string": pa.string()}


def typed_schema(layout: RawFile) -> pa.Schema:
    """The columns of the layout, REASON (why the row is refused, null if it is not), RAW (its bytes), SOURCE."""
    columns = [(column.name, ARROW_TYPES[column.dtype]) for column in layout.columns]
    return pa.schema([*columns, (REASON, pa.string()), (RAW, pa.binary()), (SOURCE, pa.string())])


def plain_table(columns: Sequence[pa.Array], raw: pa.Array, name: str, layout: RawFile) -> pa.Table:
    """Rows that are not refused. columns: in the order of the layout."""
    reasons = pa.nulls(len(raw), pa.string())
    return pa.Table.from_arrays([*columns, reasons, raw, pa.repeat(name, len(raw))], schema=typed_schema(layout))


def table_of_rows(
    rows: Sequence[tuple[Sequence[Value], str | None]], raw: Sequence[bytes], name: str, layout: RawFile
) -> pa.Table:
    """Rows that were read one by one, each with its values and its reason."""
    values = zip(*(values for values, _ in rows), strict=True) if rows else [()] * len(layout.columns)
    arrays = [pa.array(column, ARROW_TYPES[c.dtype]) for column, c in zip(values, layout.columns, strict=True)]
    reasons = pa.array([reason for _, reason in rows], pa.string())
    return pa.Table.from_arrays(
        [*arrays, reasons, pa.array(raw, pa.binary()), pa.repeat(name, len(raw))], schema=typed_schema(layout)
    )


def raw_records(block: Block) -> pa.Array:
    """The bytes of the records without their line ends."""
    data, count = block.data, len(block)
    line_end = b"\r\n" if b"\r" in data else b"\n"
    has_last = data.endswith(line_end)
    line_ends = count - (not has_last)
    if any(data.count(part) != line_ends for part in {line_end, b"\n", line_end[:1]}):
        return pa.array(block.records(), pa.binary())
    # Each record ends in the same way and has no line end in itself: all of them are removed in one step.
    offsets = block.starts - len(line_end) * np.minimum(np.arange(count + 1), line_ends)
    text = data.translate(None, line_end)
    return pa.BinaryArray.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(text)]
    )
