"""Checks of a contract when it is loaded: names, references of expressions, quotes.

The functions raise ValueError with one sentence. jobs/raw/contract_sql.py lets DuckDB read the expressions as well.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from schemas.contract import DuckDbSql
from schemas.logs.parts import Lookup, Outcome, RawFile

# A name in double quotes; a quote in it is doubled.
_NAME = r'"((?:[^"]|"")*)"'
_TEXT_OR_NAME = re.compile(rf"'(?:[^']|'')*'|{_NAME}|--[^\n]*")  # or a comment
_REFERENCE = re.compile(rf"(?<![\w.\"])([A-Za-z_]\w*)\s*\.\s*(?:{_NAME}|([A-Za-z_]\w*)\b(?!\s*\())")
_VARIABLES = re.compile(r"\b(?:lambda\s+([\w\s,]+):|for\s+([\w\s,]+)\s+in\b)")


def check_unique(names: Iterable[str], kind: str) -> None:
    """Raises ValueError if two names are equal. SQL does not distinguish capital letters."""
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise ValueError(f"{kind} {name} is declared twice")
        seen.add(name.lower())


def check_known(names: Iterable[str], known: Collection[str], kind: str) -> None:
    """Raises ValueError for a name that is not among the known ones. kind: what the name is for, in the error."""
    for name in names:
        if name not in known:
            raise ValueError(f"{kind} names {name!r}, which is not one of: {', '.join(known)}")


def check_expression(name: str, duckdb_sql: DuckDbSql, views: Mapping[str, Collection[str] | None]) -> None:
    """Raises ValueError for an expression with an open quote or bracket, or with a name that no view has.

    name: what the expression is for. views: the columns of each view; None if only DuckDB can know them.
    """
    try:
        _check_text(duckdb_sql, views)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_text(duckdb_sql: DuckDbSql, views: Mapping[str, Collection[str] | None]) -> None:
    code = _without_texts(duckdb_sql)
    if not code.strip():
        raise ValueError("the expression is empty")
    syntax = re.sub(_NAME, "", code).replace("''", "")
    if re.search(r"['\"]", syntax):
        raise ValueError(f"a quote is not closed in: {duckdb_sql}")
    if "`" in syntax:
        raise ValueError(f"a contract is DuckDB SQL: write names in double quotes, not in backticks, in: {duckdb_sql}")
    _check_brackets(syntax, duckdb_sql)
    variables = {name.strip() for groups in _VARIABLES.findall(code) for name in "".join(groups).split(",")}
    for view, quoted_name, plain_name in _REFERENCE.findall(code):
        column = quoted_name.replace('""', '"') or plain_name
        if view in variables:
            continue
        if view not in views:
            raise ValueError(f"{view}.{column}: there is no view {view}, only {', '.join(views)}")
        columns = views[view]
        if columns is not None and column.lower() not in {name.lower() for name in columns}:
            raise ValueError(f"{view}.{column}: the file of {view} has no such column")


def check_files(log: RawFile, log_key: Sequence[str], lookups: Sequence[Lookup], outcomes: Sequence[Outcome]) -> None:
    """Raises ValueError for views, raw columns or keys that do not fit together."""
    outcome_files = dict.fromkeys(outcome.file for outcome in outcomes if outcome.file is not None)
    files = (log, *outcome_files, *(lookup.file for lookup in lookups))
    check_unique((file.view for file in files), "the view")
    for file in files:
        check_unique((column.name for column in file.columns), f"{file.view}: the raw column")
        for column in file.columns:
            check_known([column.dtype], ("bigint", "double", "string"), f"{file.view}.{column.name}: dtype")
    check_unique(log_key, "log_key: the column")
    check_known(log_key, _dtypes(log), "log_key")
    for lookup in lookups:
        name, side = f"lookup {lookup.noun}", _dtypes(lookup.file)
        check_known([lookup.key], side, f"{name}: key")
        check_known([lookup.newest_by] if lookup.newest_by else [], side, f"{name}: newest_by")
        check_known([lookup.log_key], _dtypes(log), f"{name}: log_key")
        if side[lookup.key] != _dtypes(log)[lookup.log_key]:
            raise ValueError(f"{name}: {lookup.key} and {lookup.log_key} have different types")


def check_outcomes(log: RawFile, log_key: Sequence[str], outcomes: Sequence[Outcome], is_exposure: DuckDbSql) -> None:
    """Raises ValueError for an outcome whose rows cannot be recognised, joined or dated."""
    for outcome in outcomes:
        name, file = f"outcome {outcome.gain}", outcome.file or log
        if not outcome.match or outcome.within_hours < 0:
            raise ValueError(f"{name} needs match, and within_hours of at least 0")
        file_match = outcome.file_match or outcome.match
        check_known(outcome.match, log_key, f"{name}: match")
        check_known(file_match, _dtypes(file), f"{name}: file_match")
        if len(file_match) != len(outcome.match):
            raise ValueError(f"{name}: match and file_match have different lengths")
        for log_column, file_column in zip(outcome.match, file_match, strict=True):
            if _dtypes(log)[log_column] != _dtypes(file)[file_column]:
                raise ValueError(f"{name}: {log_column} and {file_column} have different types")
        nullable = {c.name for c in log.columns if c.nullable} & set(outcome.match)
        nullable |= {c.name for c in file.columns if c.nullable} & set(file_match)
        if nullable:
            raise ValueError(f"{name}: match {', '.join(sorted(nullable))} must not be nullable")
        if outcome.file is None and not (outcome.condition and is_exposure):
            raise ValueError(f"{name} is in the log: it needs a condition, and the dataset needs is_exposure")
        if outcome.file is not None and not outcome.at_ms:
            raise ValueError(f"{name} needs at_ms: without its time a gain would be known too early")
    if is_exposure and all(outcome.file is not None for outcome in outcomes):
        raise ValueError("is_exposure needs outcomes in the log; leave other rows out with a refusal")


def columns_in(duckdb_sql: DuckDbSql, view: str) -> set[str]:
    """The columns of a view that an expression names."""
    references = _REFERENCE.findall(_without_texts(duckdb_sql))
    return {quoted.replace('""', '"') or plain for name, quoted, plain in references if name == view}


def _without_texts(duckdb_sql: DuckDbSql) -> str:
    """The expression with '' in place of each text, without comments. Names in double quotes stay."""
    replacements = {"'": "''", "-": ""}
    return _TEXT_OR_NAME.sub(lambda match: replacements.get(match[0][0], match[0]), duckdb_sql)


def _check_brackets(code: str, duckdb_sql: DuckDbSql) -> None:
    depth = 0
    for character in code:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            break
    if depth:
        raise ValueError(f"the brackets do not match in: {duckdb_sql}")


def _dtypes(file: RawFile) -> dict[str, str]:
    return {column.name: column.dtype for column in file.columns}
