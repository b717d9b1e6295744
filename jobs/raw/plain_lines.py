"""Reads plain lines of a delimited text file with Arrow, and separates the lines that it must leave to Spark.

A line is plain if Arrow and Spark's CSV reader agree on its values: the right number of fields, printable ASCII without
blanks, quotes around whole fields only, and numbers in ordinary notation. Nearly all lines of a log are plain, and
Arrow reads them in a tenth of Spark's time.
"""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from schemas.dataset import RawFile

ARROW_TYPES = {"bigint": pa.int64(), "double": pa.float64(), "string": pa.string()}
_SMALLEST_SPLIT = 16  # no group of this many lines or fewer is halved again to find the line that is not plain
_WHITE_SPACE = "".join(map(chr, range(33)))  # the characters that Spark trims from a line


def parse_lines(line: pa.Array, source: pa.Array, layout: RawFile) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Groups of lines, each with the values of its columns, or with None if Spark must read the group.

    source: the name of each line's file. A group has the columns line and source. The order of the lines is not kept,
    and blank lines are left out.
    """
    lines = pa.table([line, source], names=["line", "source"])
    separator = re.escape(layout.separator)
    # Usually all lines are plain and unquoted. One check of the joined text then replaces four checks of each line.
    text = _joined(line)
    if not pc.match_substring_regex(text, f'[^!-~{separator}\n]|0[xX]|"').as_py():
        values = _values(text, layout)
        if values is not None and len(values) == len(lines):  # Arrow reads no row from a blank last line
            yield lines, values
            return
    odd = pc.match_substring_regex(line, f"[^!-~{separator}]|0[xX]")
    quoted = pc.match_substring(line, '"')
    fields = pc.add(pc.count_substring(line, layout.separator), 1)
    unquoted = pc.and_not(pc.and_not(pc.equal(fields, len(layout.columns)), odd), quoted)
    field = f'(?:[^{separator}"]*|"[^"]*")'
    quoted_fields = pc.and_not(
        pc.and_(quoted, pc.match_substring_regex(line, f"^{field}(?:{separator}{field})*$")), odd
    )
    for_spark = [lines.filter(pc.invert(pc.or_(unquoted, quoted_fields)))]
    for plain in (unquoted, quoted_fields):
        for group, values in _parse_halves(lines.filter(plain), layout):
            if values is None:
                for_spark.append(group)
            else:
                yield group, values
    group = pa.concat_tables(for_spark)
    group = group.filter(pc.not_equal(pc.ascii_trim(group.column("line"), characters=_WHITE_SPACE), ""))
    if len(group):
        yield group, None


def _parse_halves(lines: pa.Table, layout: RawFile) -> Iterator[tuple[pa.Table, pa.Table | None]]:
    """Halves the lines until all lines of a group are plain, or the group is small."""
    if not len(lines):
        return
    values = _values(_joined(lines.column("line").combine_chunks()), layout)
    if values is not None or len(lines) <= _SMALLEST_SPLIT:
        yield lines, values
    else:
        half = len(lines) // 2
        yield from _parse_halves(lines.slice(0, half), layout)
        yield from _parse_halves(lines.slice(half), layout)


def _joined(line: pa.Array) -> pa.StringScalar:
    """The lines as one text, as in a file."""
    return pc.binary_join(pa.ListArray.from_arrays([0, len(line)], line), "\n")[0]


def _values(text: pa.StringScalar, layout: RawFile) -> pa.Table | None:
    """The values by column, or None if a line has a wrong number of fields or a value is missing or malformed."""
    content = text.as_buffer()
    try:
        values = pa_csv.read_csv(
            pa.BufferReader(content),
            read_options=pa_csv.ReadOptions(
                column_names=[column.name for column in layout.columns], use_threads=False, block_size=content.size + 1
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=layout.separator, quote_char='"', double_quote=False, ignore_empty_lines=False
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={column.name: ARROW_TYPES[column.dtype] for column in layout.columns},
                null_values=[""], strings_can_be_null=True,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        return None
    for column in layout.columns:
        value = values.column(column.name)
        if value.null_count and not column.nullable:
            return None
        if column.dtype == "double" and not pc.all(pc.is_finite(value), min_count=0).as_py():
            return None
    return values
