"""Text columns as codes: the distinct texts once, and for each row the number of its text (a dictionary of Arrow).

Most texts of a log are repeated, and a code is moved, sorted and written in a fraction of the time of a text. The
values of a column, and the bytes of a file that is written from it, do not depend on its form.
"""

import pyarrow as pa

CODED_TEXT = pa.dictionary(pa.int32(), pa.string())


def is_coded(values: pa.Array | pa.ChunkedArray) -> bool:
    return pa.types.is_dictionary(values.type)


def with_coded_text(schema: pa.Schema, *, plain: tuple[str, ...] = ()) -> pa.Schema:
    """The schema with its text columns as codes. plain: the columns that keep their type."""
    return pa.schema(
        field.with_type(CODED_TEXT) if pa.types.is_string(field.type) and field.name not in plain else field
        for field in schema
    )


def keeping_codes(schema: pa.Schema, rows: pa.Table) -> pa.Schema:
    """The schema for a cast of the rows that does not change their codes."""
    return pa.schema(
        field.with_type(CODED_TEXT) if pa.types.is_string(field.type) and is_coded(rows.column(field.name)) else field
        for field in schema
    )


def plain_text(rows: pa.Table) -> pa.Table:
    """The rows with texts in the place of codes."""
    fields = (
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in rows.schema
    )
    return rows.cast(pa.schema(fields))


def coded_in_row_order(rows: pa.Table) -> pa.Table:
    """The rows in one chunk, with codes that follow from the texts of the rows alone: from 0, in the order of the rows.

    So equal rows give equal files, and no text is stored that no row has.
    """
    rows = rows.combine_chunks()
    columns = [_coded_in_row_order(column) if is_coded(column) else column for column in rows.columns]
    return pa.table(columns, rows.schema.names)


def _coded_in_row_order(values: pa.ChunkedArray) -> pa.DictionaryArray:
    values = values.combine_chunks()
    codes = values.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(codes.indices, values.dictionary.take(codes.dictionary))
