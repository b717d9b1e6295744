"""Column types: from Spark's DDL, in which contracts are written, to DuckDB."""

import re

_SCALARS = {
    "boolean": "BOOLEAN",
    "int": "INTEGER",
    "bigint": "BIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
}
_TOKEN = re.compile(r"\s*(?:`([^`]+)`|(\w+)|([<>:,]))\s*")


def duckdb_type(dtype: str) -> str:
    """DuckDB's spelling of a type: array<struct<`a`: int>> becomes STRUCT("a" INTEGER)[].

    Raises ValueError if dtype is not a scalar of the contracts, an array, a map or a struct.
    """
    tokens = [(quoted or word or sign) for quoted, word, sign in _TOKEN.findall(dtype)]
    if _TOKEN.sub("", dtype):
        raise ValueError(f"cannot read the column type {dtype!r}")
    tokens.reverse()  # a stack: the next token is the last
    try:
        result = _type(tokens)
    except (IndexError, KeyError) as error:
        raise ValueError(f"cannot read the column type {dtype!r}") from error
    if tokens:
        raise ValueError(f"cannot read the column type {dtype!r}")
    return result


def _type(tokens: list[str]) -> str:
    name = tokens.pop()
    if name not in ("array", "map", "struct"):
        return _SCALARS[name]
    _expect(tokens, "<")
    if name == "array":
        result = f"{_type(tokens)}[]"
    elif name == "map":
        key = _type(tokens)
        _expect(tokens, ",")
        result = f"MAP({key}, {_type(tokens)})"
    else:
        fields = [_field(tokens)]
        while tokens[-1] == ",":
            tokens.pop()
            fields.append(_field(tokens))
        result = f"STRUCT({', '.join(fields)})"
    _expect(tokens, ">")
    return result


def _field(tokens: list[str]) -> str:
    name = tokens.pop()
    _expect(tokens, ":")
    return f'"{name}" {_type(tokens)}'


def _expect(tokens: list[str], sign: str) -> None:
    if tokens.pop() != sign:
        raise KeyError(sign)
