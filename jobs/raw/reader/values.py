"""The texts of a record to typed values, with the reason if a text cannot be read.

A text means the same here and in Arrow's CSV reader, which reads most records: delimited.py.

- A whole number (bigint) has digits and may have a sign, as `-7` or `+5`. A number with a point or an exponent counts
  if its value is whole and less than 2**53: `1.0` and `1e3`. It must fit into 64 bits.
- A number (double) is decimal, as `2.5`, `.5` or `1e-3`, and finite. `NaN`, `Infinity` and hexadecimal are refused.
- Blanks and tabs around a number do not count. A text (string) is not changed: ` a` is not `a`.
- The empty text, a text of white space alone, and the null tokens of the layout are missing values.
- In JSON, `true` and `false` are the whole numbers 1 and 0.
"""

import re
from collections.abc import Sequence

from schemas.dataset import RawColumn, RawFile
from schemas.printable import printable

WHITE_SPACE = " \t\n\v\f\r"
LARGEST_WHOLE_FLOAT = 2**53 - 1  # 2**53 as a float may be 2**53 + 1 as well
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_NOUNS = {"bigint": "a whole number", "double": "a number", "string": "text"}
_SHOWN_LENGTH = 40

Value = int | float | str | None


def whole_number(text: str) -> int | None:
    """The whole number that the text stands for, None if it stands for none of 64 bits."""
    text = text.strip(" \t")
    if _WHOLE.fullmatch(text):
        value = int(text)
    else:
        decimal = number(text)
        if decimal is None or abs(decimal) > LARGEST_WHOLE_FLOAT or not decimal.is_integer():
            return None
        value = int(decimal)
    return value if -(2**63) <= value < 2**63 else None


def number(text: str) -> float | None:
    """The finite decimal number that the text stands for, or None."""
    text = text.strip(" \t")
    value = float(text) if _DECIMAL.fullmatch(text) else float("inf")
    return value if abs(value) < float("inf") else None


def is_missing(text: str, dtype: str, null_tokens: Sequence[str]) -> bool:
    return not text.strip(WHITE_SPACE) or (text if dtype == "string" else text.strip(" \t")) in null_tokens


def typed_values(texts: Sequence[str | None], layout: RawFile) -> tuple[list[Value], str | None]:
    """The value of each column of the layout, and why the row is refused, None if it is not.

    texts: in the order of the layout's columns, None for a missing value. A value that is missing or unreadable is
    None; the other values are there even in a refused row.
    """
    values: list[Value] = []
    reason = None
    for column, text in zip(layout.columns, texts, strict=True):
        value, problem = _typed_value(text, column, layout.null_tokens)
        values.append(value)
        reason = reason or problem
    return values, reason


def _typed_value(text: str | None, column: RawColumn, null_tokens: Sequence[str]) -> tuple[Value, str | None]:
    if text is None or is_missing(text, column.dtype, null_tokens):
        return None, None if column.nullable else f"{printable(column.name)} is missing"
    if column.dtype == "string":
        return text, None
    value = whole_number(text) if column.dtype == "bigint" else number(text)
    if value is None:
        return None, not_a_value(column, text)
    return value, None


def not_a_value(column: RawColumn, text: str) -> str:
    """The reason why a row with this text in this column is refused."""
    return f"{printable(column.name)} is not {_NOUNS[column.dtype]}: {printable(text, _SHOWN_LENGTH)}"
