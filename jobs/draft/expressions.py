"""DuckDB SQL, and Python that composes it, for the columns of a draft."""

import re

from jobs.draft.python_code import Node, call, quoted
from jobs.draft.times import DIGITS, EPOCH, FROM_START, ISO, PATTERN, TimeNotation
from jobs.draft.values import ColumnSample
from schemas.contract import quoted_name

# The functions of schemas/times.py.
_EPOCH_FUNCTIONS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


def reference(view: str, name: str) -> str:
    """A raw column in DuckDB SQL."""
    return f"{view}.{name}" if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else f"{view}.{quoted_name(name)}"


def text_literal(text: str) -> str:
    """The text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def column_name(name: str, used_names: set[str]) -> str:
    """The name of a column of `exposures` for a raw column, different from the used names; it is added to them."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII).strip("_") or "column"
    word = word if word[0].isalpha() else f"column_{word}"
    unique, number = word, 2
    while unique.lower() in used_names:
        unique, number = f"{word}_{number}", number + 1
    used_names.add(unique.lower())
    return unique


def time_expression(view: str, column: ColumnSample, notation: TimeNotation) -> Node:
    """Python that gives the milliseconds since 1970. A naive time needs the module's constant ZONE."""
    source = quoted(reference(view, column.name))
    if notation.kind == EPOCH and notation.unit in _EPOCH_FUNCTIONS:
        return call(_EPOCH_FUNCTIONS[notation.unit], source)
    if notation.kind == EPOCH:  # nanoseconds
        return quoted(f"(try_cast({reference(view, column.name)} AS bigint) // 1000000)")
    if notation.kind == FROM_START:
        return call("seconds", f'f"TRY({reference(view, column.name)} + {{START_S}})"')
    if notation.kind == ISO:
        return call("iso_time", source, "ZONE") if notation.is_naive else call("iso_time", source)
    if notation.kind == DIGITS:
        return call("digits_time", source, quoted(notation.pattern), "ZONE")
    zone = ["ZONE"] if notation.is_naive else []
    return call("pattern_time", source, quoted(notation.pattern), *zone)


def time_function(notation: TimeNotation) -> str | None:
    """The function of schemas/times.py that the expression calls."""
    functions = {
        EPOCH: _EPOCH_FUNCTIONS.get(notation.unit),
        FROM_START: "seconds",
        ISO: "iso_time",
        DIGITS: "digits_time",
        PATTERN: "pattern_time",
    }
    return functions.get(notation.kind)


def flag_expression(view: str, column: ColumnSample) -> str:
    """1 or 0; NULL for any other text."""
    source = reference(view, column.name)
    if column.dtype != "string" or column.flag_words is None:
        return f"cast({source} AS int)"
    no, yes = column.flag_words
    return f"CASE lower({source}) WHEN {text_literal(yes)} THEN 1 WHEN {text_literal(no)} THEN 0 END"


def flag_refusal(view: str, column: ColumnSample) -> tuple[str, str]:
    """The reason and the condition that refuse a row whose flag is neither yes nor no."""
    source = reference(view, column.name)
    if column.dtype != "string" or column.flag_words is None:
        return f"{column.name} is neither 0 nor 1", f"{source} NOT IN (0, 1)"
    no, yes = column.flag_words
    return (
        f"{column.name} is neither {yes} nor {no}",
        f"lower({source}) NOT IN ({text_literal(yes)}, {text_literal(no)})",
    )


def value_expression(view: str, column: ColumnSample, *, is_category: bool) -> str:
    """A feature: a category as a string, a number as a double. A number that stands for "missing" becomes null."""
    source = reference(view, column.name)
    if column.has_decimal_commas and not is_category:
        return f"try_cast(replace({source}, ',', '.') AS double)"
    if column.usual_missing_number is not None:
        source = f"nullif({source}, {column.usual_missing_number})"
    if is_category:
        return source if column.dtype == "string" else f"cast({source} AS varchar)"
    return source if column.dtype == "double" and "nullif" not in source else f"cast({source} AS double)"


def is_category(column: ColumnSample) -> bool:
    """Whether the values are names rather than amounts: words, ids, and few whole numbers."""
    if column.has_decimal_commas or column.dtype == "double":
        return False
    is_id = re.search(r"(?:^|_)id$|id$|code$|(?:^|_)(?:hash|key)$", column.name.lower()) is not None
    return column.dtype == "string" or is_id or len(column.counts) <= 30
