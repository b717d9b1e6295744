"""Records of a text file in groups: plain ones are read together, which is fast, and all others one by one."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from jobs.raw.reader.records import LARGEST_RECORD

_SMALLEST_GROUP = 16  # no group of this many records or fewer is halved again to find a record that is not plain


def reason_for_bytes(record: bytes, size: int) -> str | None:
    """Why a record is refused before its text is read. size: of the whole record; `record` may be its beginning."""
    if size > LARGEST_RECORD:
        shortened = f", of which the first {len(record):,} are here" if size > len(record) else ""
        return f"the row has {size:,} bytes, more than {LARGEST_RECORD:,}{shortened}"
    return "the row has a NUL byte" if b"\x00" in record else None


def plain_groups(
    records: list[bytes], read_together: Callable[[list[bytes]], list[pa.Array] | None]
) -> Iterator[tuple[list[bytes], list[pa.Array] | None]]:
    """Halves the records until those of a group can be read together, or the group is small.

    read_together: the values of records by column, None if one of them is not plain. Yields each group with its values.
    """
    if not records:
        return
    values = read_together(records)
    if values is not None or len(records) <= _SMALLEST_GROUP:
        yield records, values
    else:
        half = len(records) // 2
        yield from plain_groups(records[:half], read_together)
        yield from plain_groups(records[half:], read_together)
