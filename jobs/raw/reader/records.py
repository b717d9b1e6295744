"""Cuts the bytes of a delimited text file into records.

A record ends with its line, except that a line end inside a quoted field belongs to the record. Quotes enclose whole
fields, and a quote inside them is doubled. If a quoted field does not end properly (text follows its closing quote, or
no quote closes it within LARGEST_RECORD bytes), the record is its first line alone, so that one stray quote does not
swallow the rows after it. In tab-separated text, where quotes are often ordinary characters, a field with a tab and a
line end in it does not end properly either: it would be several rows.

Lines end in LF or CRLF. In a file whose first line ends in a lone CR, a lone CR ends every line as well; in any other
file it is a character like others.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

LARGEST_RECORD = 1 << 20  # bytes, with its line end; a longer record is refused
LARGEST_RAW = 64 << 20  # of a longer record only the beginning is stored
SHORTENED_RAW = 64 << 10
BLOCK_SIZE = 4 << 20
_LF, _CR = 10, 13
_ANY_LINE_END = re.compile(rb"\r\n?|\n")


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """separator: one byte or more. quote: one byte, b"" if quotes have no meaning.

    lone_cr: whether a lone CR ends a line.
    """

    separator: bytes
    quote: bytes
    lone_cr: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """Records that follow one another.

    starts: of each record, and the end of the last one; offsets in `data`. is_well_formed: all quotes enclose fields.
    size: of a single record whose end is left out of `data` because it is longer than LARGEST_RAW; otherwise 0.
    """

    data: bytes
    starts: np.ndarray
    is_well_formed: bool
    size: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def largest(self) -> int:
        """The number of bytes of the longest record."""
        return max(self.size, int(np.diff(self.starts).max(initial=0)))

    @property
    def smallest(self) -> int:
        """The number of bytes of the shortest record, with its line end."""
        return int(np.diff(self.starts).min(initial=self.starts[-1]))

    def records(self) -> list[bytes]:
        """The records without their line ends."""
        starts = self.starts.tolist()
        return [without_line_end(self.data[a:b]) for a, b in pairwise(starts)]


def without_line_end(record: bytes) -> bytes:
    if record.endswith(b"\n"):
        record = record[:-1]
    return record.removesuffix(b"\r")


def cut_blocks(
    stream: Readable, dialect: Dialect, length: int | None = None, block_size: int = BLOCK_SIZE
) -> Iterator[Block]:
    """The records of a stream that begins with a record, in blocks.

    length: records that begin behind this many bytes are left out; None for all records.
    """
    remainder, is_last, offset = b"", False, 0
    while not is_last:
        piece = stream.read(block_size)
        is_last = not piece
        data = remainder + piece
        starts, is_well_formed = record_starts(data, dialect, is_last=is_last)
        if length is not None and starts[-1] >= length - offset:
            starts = starts[: 1 + int(np.searchsorted(starts, length - offset))]
            is_last = True
        if len(starts) > 1:
            yield Block(data[: starts[-1]], starts, is_well_formed)
        remainder = data[starts[-1] :]
        offset += int(starts[-1])
        if len(remainder) > LARGEST_RECORD and not is_last:
            block, remainder, size = _long_record(remainder, stream, dialect, block_size)
            yield block
            offset += size
            is_last = length is not None and offset >= length


def _long_record(start: bytes, stream: Readable, dialect: Dialect, block_size: int) -> tuple[Block, bytes, int]:
    """One record that has no line end in its first bytes `start`; the bytes behind it; its size."""
    pieces, size, remainder = [start], len(start), b""
    ends_in_cr = start.endswith(b"\r")
    while piece := stream.read(block_size):
        if dialect.lone_cr and ends_in_cr:  # the line end was not complete
            end = 1 if piece.startswith(b"\n") else 0
        else:
            end = _line_end(piece, 0, dialect, is_last=False)
        ends_in_cr = piece.endswith(b"\r")
        part = piece if end < 0 else piece[:end]
        size += len(part)
        if size <= LARGEST_RAW:
            pieces.append(part)
        if end >= 0:
            remainder = piece[end:]
            break
    data = b"".join(pieces)
    is_whole = len(data) == size
    if not is_whole:
        data = data[:SHORTENED_RAW]
    return Block(data, np.array([0, len(data)]), False, 0 if is_whole else size), remainder, size


def record_starts(data: bytes, dialect: Dialect, *, is_last: bool) -> tuple[np.ndarray, bool]:
    """The start of each whole record and the end of the last one, and whether all quotes enclose fields.

    data: begins with a record. is_last: whether the stream ends with the data, so that the last line needs no line end.
    """
    is_quoted = bool(dialect.quote) and dialect.quote in data
    if not is_quoted:
        return _with_end(_line_starts(data, dialect, is_last=is_last), data, is_last=is_last), True
    starts = None if dialect.lone_cr else _well_formed_starts(data, dialect, is_last=is_last)
    if starts is not None:
        return starts, True
    return _walked_starts(data, dialect, is_last=is_last), False


def lines_are_records(data: bytes, dialect: Dialect) -> bool:
    """Whether each of these whole lines is a record, in any file that has them."""
    if not dialect.quote or dialect.quote not in data:
        return True
    starts = _well_formed_starts(data, dialect, is_last=True)
    return starts is not None and len(starts) == len(
        _with_end(_line_starts(data, dialect, is_last=True), data, is_last=True)
    )


def _line_starts(data: bytes, dialect: Dialect, *, is_last: bool) -> np.ndarray:
    """0 and the offset behind each line end."""
    values = np.frombuffer(data, np.uint8)
    ends = values == _LF
    if dialect.lone_cr:
        lone = values == _CR
        lone[:-1] &= ~ends[1:]
        if len(lone) and not is_last:
            lone[-1] = False  # an LF may follow
        ends = ends | lone
    return np.concatenate([[0], np.flatnonzero(ends) + 1])


def _with_end(starts: np.ndarray, data: bytes, *, is_last: bool) -> np.ndarray:
    """With the end of a last line that has no line end."""
    return np.append(starts, len(data)) if is_last and starts[-1] < len(data) else starts


def _well_formed_starts(data: bytes, dialect: Dialect, *, is_last: bool) -> np.ndarray | None:
    """As record_starts, for data in which all quotes enclose fields; None for other data.

    In such data, a line end with an odd number of quotes before it is inside a field. None for a separator of several
    bytes as well: its quotes are looked at one by one.
    """
    if len(dialect.separator) > 1:
        return None
    values = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(values == dialect.quote[0])
    lines = _line_starts(data, dialect, is_last=is_last)
    starts = lines[np.searchsorted(quotes, lines) % 2 == 0]
    if dialect.separator == b"\t" and len(starts) < len(lines):
        return None
    starts = _with_end(starts, data, is_last=is_last)
    if len(data) - starts[-1] > LARGEST_RECORD or np.diff(starts).max(initial=0) > LARGEST_RECORD:
        return None
    quotes = quotes[: np.searchsorted(quotes, starts[-1])]
    if len(quotes) % 2:
        return None
    opening, closing = quotes[::2], quotes[1::2]
    padded = np.concatenate([[_LF], values[: starts[-1]], [_LF, _LF]])
    preceding, following, second_following = padded[opening], padded[closing + 2], padded[closing + 3]
    separator = dialect.separator[0]
    # A quote that is doubled closes a part of the field and opens the next.
    doubled = np.zeros(len(opening) + 1, bool)
    doubled[1:-1] = opening[1:] == closing[:-1] + 1
    is_opening = (preceding == separator) | (preceding == _LF) | doubled[:-1]
    ends_line = (following == _LF) | ((following == _CR) & (second_following == _LF))
    is_closing = (following == separator) | ends_line | doubled[1:]
    return starts if is_opening.all() and is_closing.all() else None


def _walked_starts(data: bytes, dialect: Dialect, *, is_last: bool) -> np.ndarray:
    """As record_starts, record by record."""
    starts = [0]
    while starts[-1] < len(data):
        end = _record_end(data, starts[-1], dialect, is_last=is_last)
        if end < 0:
            break
        starts.append(end)
    return np.array(starts)


def _record_end(data: bytes, start: int, dialect: Dialect, *, is_last: bool) -> int:
    """The offset behind the record that begins at `start`, -1 if the data end before."""
    line_end = _line_end(data, start, dialect, is_last=is_last)
    if data.find(dialect.quote, start, line_end if line_end >= 0 else len(data)) < 0:
        return line_end
    end = _end_by_quotes(data, start, dialect, is_last=is_last)
    if end is None or end - start > LARGEST_RECORD or (end < 0 and len(data) - start > LARGEST_RECORD):
        return line_end
    return end


def _end_by_quotes(data: bytes, start: int, dialect: Dialect, *, is_last: bool) -> int | None:
    """As _record_end; None if a quoted field does not end properly."""
    position = start
    while position < len(data):
        if data[position] != dialect.quote[0]:
            line_end = _line_end(data, position, dialect, is_last=is_last)
            separator = data.find(dialect.separator, position, line_end if line_end >= 0 else len(data))
            if separator < 0:
                return line_end
            position = separator + len(dialect.separator)
            continue
        closing = closing_quote(data, position + 1, dialect.quote, start + LARGEST_RECORD)
        if closing < 0:
            return None if is_last or len(data) - start > LARGEST_RECORD else -1
        if dialect.separator == b"\t" and _has_tab_and_line_end(data[position:closing]):
            return None
        next_bytes = data[closing + 1 : closing + 1 + max(2, len(dialect.separator))]
        is_cut = len(next_bytes) < len(dialect.separator) and dialect.separator.startswith(next_bytes)
        if not is_last and (is_cut or next_bytes == b"\r"):
            return -1
        if not next_bytes.startswith(dialect.separator):
            return closing + 1 + _length_of_line_end(next_bytes) if _ends_record(next_bytes, dialect) else None
        position = closing + 1 + len(dialect.separator)
    return len(data) if is_last else -1


def _has_tab_and_line_end(field: bytes) -> bool:
    return b"\t" in field and (b"\n" in field or b"\r" in field)


def closing_quote(data: bytes, start: int, quote: bytes, end: int | None = None) -> int:
    """The offset of the quote that closes a field whose text begins at `start`, -1 if no quote before `end` does."""
    position = data.find(quote, start, end)
    while position >= 0 and data[position + 1 : position + 2] == quote:
        position = data.find(quote, position + 2, end)
    return position


def _ends_record(next_bytes: bytes, dialect: Dialect) -> bool:
    return next_bytes in (b"", b"\r") or next_bytes.startswith((b"\n", b"\r") if dialect.lone_cr else (b"\n", b"\r\n"))


def _length_of_line_end(next_bytes: bytes) -> int:
    match = _ANY_LINE_END.match(next_bytes)
    return match.end() if match else 0


def _line_end(data: bytes, start: int, dialect: Dialect, *, is_last: bool) -> int:
    """The offset behind the line of the byte at `start`, -1 if the data end before."""
    if not dialect.lone_cr:
        position = data.find(b"\n", start)
        if position >= 0:
            return position + 1
    elif (match := _ANY_LINE_END.search(data, start)) and (is_last or match.end() < len(data) or data.endswith(b"\n")):
        return match.end()
    return len(data) if is_last else -1
