"""Splits one record of a delimited text file into its fields."""

from jobs.raw.reader.records import Dialect, closing_quote


def split_fields(record: bytes, dialect: Dialect, limit: int | None = None) -> list[bytes] | None:
    """The fields without their quotes; None if a quoted field does not end properly.

    limit: no more than this many fields are returned, and the rest of the record is left out.
    """
    if not dialect.quote or dialect.quote not in record:
        return record.split(dialect.separator) if limit is None else record.split(dialect.separator, limit)[:limit]
    fields: list[bytes] = []
    position = 0
    while limit is None or len(fields) < limit:
        if record[position : position + 1] == dialect.quote:
            end = closing_quote(record, position + 1, dialect.quote) + 1
            if end == 0 or record[end : end + len(dialect.separator)] not in (b"", dialect.separator):
                return None
            fields.append(record[position + 1 : end - 1].replace(2 * dialect.quote, dialect.quote))
        else:
            end = record.find(dialect.separator, position)
            end = len(record) if end < 0 else end
            fields.append(record[position:end])
        if end >= len(record):
            return fields
        position = end + len(dialect.separator)
    return fields
