"""Encoding, separator, quotes and header of a delimited text file, from its first bytes."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from jobs.draft.times import time_notation
from jobs.draft.values import column_sample, is_number
from schemas.errors import UserError

_SEPARATORS = (",", "\t", ";", "|", "\x01", "^", "~")
_LONG_SEPARATORS = ("::", "||", "|||", "~~", "^^", ";;", "@@", "##", "\t|\t", "|~|", "~|~", "<|>", "\t\t")
_RECORDS_PROBED = 1_000
_SEPARATOR_NAMES = {"\t": "tab", "\x01": "the byte 01"}
# Bytes that are letters or quotes in Windows-1252 and control characters in ISO-8859-1.
_WINDOWS_BYTES = bytes(range(0x80, 0xA0))


class NotATable(UserError):
    """The file is complete and has no table, for example a description of the log."""


@dataclass(frozen=True, slots=True)
class TextLayout:
    """The layout of a delimited text file.

    quote: the character around fields that contain the separator; "" if quotes have no meaning.
    names: of the columns, from the header; column_1, column_2, ... without one.
    records: the fields of the sampled records, without the header. A record with another number of fields is left out.
    damaged: the number of these records.
    repeated: the names of columns that the contract cannot name, because another one is called so. They have no name
        in names.
    """

    encoding: str
    separator: str
    quote: str
    has_header: bool
    names: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    damaged: int
    repeated: tuple[str, ...] = ()

    @property
    def separator_name(self) -> str:
        return _SEPARATOR_NAMES.get(self.separator, f"'{self.separator}'")


def text_layout(content: bytes, name: str, *, is_whole: bool, max_records: int) -> TextLayout:
    """The layout of a file that begins with these bytes. name: of the file, for messages.

    is_whole: whether these are all bytes of the file; otherwise the last line may be cut off and is not read.
    Raises NotATable if no separator divides the lines into equally many fields.
    """
    encoding = detected_encoding(content)
    text = content.decode(encoding, errors="replace").removeprefix("\ufeff")
    if not is_whole:
        text = text[: max(text.rfind("\n"), text.rfind("\r")) + 1]
    if not text.strip():
        raise UserError(f"{name} is empty: a draft needs a file with rows")
    if "\0" in text:
        raise NotATable(f"{name} is not a text file: it has NUL bytes")
    separator = _separator(text, name)
    quote, records = _quote_and_records(text, separator, max_records + 1)
    width = Counter(map(len, records)).most_common(1)[0][0]
    whole_records = [tuple(record) for record in records if len(record) == width]
    has_header = len(records[0]) == width and is_header(records[0], whole_records[1:])
    header = tuple(field.strip() for field in records[0])
    names = header_names(header) if has_header else tuple(f"column_{k + 1}" for k in range(width))
    repeated = tuple(dict.fromkeys(old for old, new in zip(header, names, strict=False) if old and not new))
    rows = whole_records[1:] if has_header else whole_records[:max_records]
    return TextLayout(
        encoding, separator, quote, has_header, names, tuple(rows), len(records) - len(whole_records), repeated
    )  # fmt: skip


def detected_encoding(content: bytes) -> str:
    """UTF-8 if the bytes are UTF-8; otherwise the encoding that the byte order mark or the bytes suggest."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        # The decoder of a stream accepts a character that is cut off by the end of the sample.
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return "cp1252" if any(byte in _WINDOWS_BYTES for byte in content) else "latin-1"
    return "utf-8"


def is_header(first: Sequence[str], records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record has names and not values.

    No name is a number or a time. An index column that a tool saved has no name, and neither has what follows a
    separator at the lines' ends. Above columns of words only, the names are different from each other, and none of them
    is one of the words below it.
    """
    names = [field.strip() for field in first]
    columns = list(zip(*records, strict=True)) or [()] * len(names)
    if any(not name and k > 0 and any(column) for k, (name, column) in enumerate(zip(names, columns, strict=True))):
        return False
    if any(is_number(name) or time_notation(column_sample("first", [name])) for name in names):
        return False
    if any(_differs_from_words(column) for column in columns) and len(set(header_names(names))) > 1:
        return True
    are_different = len(set(names)) == len(names)
    return are_different and all(name not in column for name, column in zip(names, columns, strict=True))


def header_names(header: Sequence[str]) -> tuple[str, ...]:
    """The names by which a contract can name the columns: "" for all columns of a name that the header has twice.

    Spark does not distinguish capital letters: of names that differ in nothing else, the first one counts.
    """
    counts, names = Counter(header), list[str]()
    for name in header:
        is_taken = counts[name] > 1 or name.lower() in {earlier.lower() for earlier in names}
        names.append("" if is_taken else name)
    return tuple(names)


def _differs_from_words(texts: Sequence[str]) -> bool:
    column = column_sample("below", texts)
    return bool(column.values) and (column.dtype != "string" or time_notation(column) is not None)


def _separator(text: str, name: str) -> str:
    """The separator that gives nearly all lines the same number of fields; of several, the one with the most.

    A part of a longer one, such as | of ||, does not count.
    """
    width_and_share = {}
    for separator in (s for s in (*_SEPARATORS, *_LONG_SEPARATORS) if s in text):
        try:
            widths = Counter(map(len, _quote_and_records(text, separator, _RECORDS_PROBED)[1]))
        except csv.Error:
            continue
        if widths:
            width, records = widths.most_common(1)[0]
            width_and_share[separator] = (width, records / widths.total())
    regular = {s: width for s, (width, share) in width_and_share.items() if share >= 0.9 and width > 1}
    if not regular:
        first_line = text.lstrip().splitlines()[0]
        raise NotATable(
            f"{name}: no separator divides its lines into equally many fields; its first line is: {first_line[:200]}"
        )
    longest = {s: width for s, width in regular.items() if not any(_is_part(s, longer, text) for longer in regular)}
    return max(longest, key=lambda s: longest[s])


def _is_part(separator: str, longer: str, text: str) -> bool:
    if separator == longer or separator not in longer:
        return False
    remainder = text.replace(longer, "\n")
    return separator not in remainder and f"\n{longer[-1]}" not in remainder


def _quote_and_records(text: str, separator: str, limit: int) -> tuple[str, list[list[str]]]:
    """The quote and the records. Quotes have no meaning if a field that one opens swallows further lines.

    With a separator of several characters they have one only if they enclose every field in which they occur.
    """
    if len(separator) > 1:
        text_lines = (line.rstrip("\r\n") for line in io.StringIO(text))
        fields = [line.split(separator) for line in islice(filter(None, text_lines), limit)]
        if not all(_is_enclosed(field) for record in fields for field in record if '"' in field):
            return "", fields
        return '"', [[_without_quotes(field) for field in record] for record in fields]
    records = _records(text, separator, limit)
    swallowed = any("\n" in field and separator in field for record in records for field in record)
    if swallowed:
        lines = _records(text, separator, limit, csv.QUOTE_NONE)
        if len(set(map(len, lines))) == 1:
            return "", lines
    return '"', records


def _is_enclosed(field: str) -> bool:
    return len(field) > 1 and field.startswith('"') and field.endswith('"') and '"' not in field[1:-1].replace('""', "")


def _without_quotes(field: str) -> str:
    return field[1:-1].replace('""', '"') if field.startswith('"') else field


def _records(text: str, separator: str, limit: int, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL) -> list[list[str]]:
    """The first records that are not blank, read as RFC 4180 with this separator."""
    records: list[list[str]] = []
    for record in csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting):
        if record:
            records.append(record)
        if len(records) >= limit:
            break
    return records
