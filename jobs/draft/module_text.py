"""A draft as the text of a contract module, with the reasons as comments and the open questions as UNANSWERED."""

from jobs.draft.contract_draft import Draft
from jobs.draft.dataset_code import CATEGORY, NUMBER, dataset_call
from jobs.draft.expressions import time_expression, time_function
from jobs.draft.python_code import Argument, Call, Node, assignment, call, comment_lines, elements, quoted, texts
from jobs.draft.roles import named_reasons
from jobs.draft.tables import Table
from jobs.draft.times import FROM_START
from jobs.draft.values import ColumnSample, shortened
from schemas.dataset import DELIMITED, JSON_LINES, PARQUET
from schemas.printable import printable

_UNANSWERED = "UNANSWERED"
_FORMATS = {JSON_LINES: "JSON_LINES", PARQUET: "PARQUET"}
_UTC = {"UTC", "+00:00", "+0000"}
_HELPER = """\
def {name}(name: str, doc: str, known: Known, duckdb_sql: str, *, static: bool = False) -> Derived:
    return Derived(Column(name, "{dtype}", doc, known, nullable=True, role=Role.{role}, static=static), duckdb_sql)"""


def module_text(draft: Draft) -> str:
    """The source of schemas/datasets/<name>.py."""
    dataset = assignment("DATASETS", elements(dataset_call(draft)))
    constants = [
        _docstring(draft),
        _imports(draft, _joined(dataset)),
        *([_start()] if draft.notation.kind == FROM_START else []),
        _zone(draft),
        *(assignment(view.upper(), _raw_file(draft, table, view)) for table, view in draft.views.items()),
        _time(draft),
    ]
    parts = ["\n\n".join(map(_joined, constants)), *_helpers(_joined(dataset)), _joined(dataset)]
    # Two blank lines around functions, otherwise one.
    return ("\n\n\n" if len(parts) > 2 else "\n\n").join(parts) + "\n"


def _joined(lines: list[str]) -> str:
    return "\n".join(lines)


def _helpers(dataset: str) -> list[str]:
    """The functions that the drafted columns call."""
    kinds = ((CATEGORY, "string", "CATEGORICAL"), (NUMBER, "double", "NUMERIC"))
    return [
        _HELPER.format(name=name, dtype=dtype, role=role) for name, dtype, role in kinds if f"{name}(" in dataset
    ]  # fmt: skip


def _docstring(draft: Draft) -> list[str]:
    files = ", ".join(map(printable, draft.log.file_names[:3])).replace("\\", "/").replace('"', "'")
    return [
        f'"""{draft.name}: drafted from {draft.log.rows:,} rows of {files}.',
        "",
        "A person has to answer every UNANSWERED below: docs/own-log.md explains the answers. Until then, the log",
        "cannot be read. The comments give the reasons of the draft; delete them, or keep those that help.",
        '"""',
    ]


def _imports(draft: Draft, dataset: str) -> list[str]:
    file_formats = {_FORMATS[table.file_format] for table in draft.views if table.file_format in _FORMATS}
    helpers = {name for name in ("Lookup", "Outcome", "Refusal") if f"{name}(" in dataset}
    notations = [draft.notation, *(outcome.side.table.notations[outcome.time] for outcome in draft.outcome_tables)]
    notations += [draft.log.notations[column.name] for column in draft.further_times]
    functions = {"hour_of", "weekday_of"} | {name for n in notations if (name := time_function(n)) is not None}
    is_open = draft.notation.is_naive or f" {_UNANSWERED}" in dataset or f"={_UNANSWERED}" in dataset
    modules = {
        "schemas.contract": {"Column", "Known", "Role"} | ({_UNANSWERED} if is_open else set()),
        "schemas.dataset": {"Dataset", "Derived", "Gain", "RawColumn", "RawFile", *helpers, *file_formats},
        "schemas.times": functions,
    }
    return [f"from {module} import {', '.join(sorted(names, key=_import_order))}" for module, names in modules.items()]


def _import_order(name: str) -> tuple[int, str]:
    """Constants, classes, functions: the order of ruff's import sorting."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _start() -> list[str]:
    return [
        *comment_lines(
            "The times count seconds from the start of the log. If its first day is unknown, any day serves."
        ),
        "START_S = 1_483_228_800  # 2017-01-01 UTC",
    ]


def _zone(draft: Draft) -> list[str]:
    notation = draft.notation
    if notation.is_naive:
        reason = (
            f"The times of {draft.time} name no zone. In which zone was the clock? For example Europe/Berlin, or UTC."
        )
        return [*comment_lines(reason), f"ZONE = {_UNANSWERED}"]
    reason = "Days and hours are counted in this zone. "
    if notation.zones and set(notation.zones) <= _UTC:
        reason += f"{draft.time} is written in UTC; name the users' own zone if their days should count."
    elif notation.zones:
        reason += f"{draft.time} has the zones {', '.join(notation.zones[:4])}; name the users' own zone."
    else:
        reason += "The log does not name it: name the users' own zone if their days should count."
    return [*comment_lines(reason), 'ZONE = "UTC"']


def _raw_file(draft: Draft, table: Table, view: str) -> Call:
    keywords: dict[str, Node] = {"view": quoted(view), "patterns": texts(*draft.patterns[table])}
    if table.file_format != DELIMITED:
        keywords["format"] = _FORMATS[table.file_format]
    else:
        keywords |= {"separator": quoted(table.separator)} if table.separator != "," else {}
        keywords |= {"quote": quoted("")} if not table.quote else {}
        keywords |= {"header": "False"} if not table.has_header else {}
        keywords |= {"encoding": quoted(table.encoding)} if table.encoding != "utf-8" else {}
    if tokens := sorted({token for column in table.columns for token in column.null_tokens if token}):
        keywords["null_tokens"] = texts(*tokens)
    columns = [Argument(_raw_column(column), "", _facts(column)) for column in table.columns if column.name]
    words = {column.name: token for column in table.columns for token in tokens if token in column.counts}
    warning = "; ".join(
        f"{token} is a value of {name} as well, and will be missing there" for name, token in words.items()
    )
    comments = {"null_tokens": warning}
    arguments = [Argument(node, keyword, comments.get(keyword, "")) for keyword, node in keywords.items()]
    return call("RawFile", *arguments, columns=elements(*columns))


def _raw_column(column: ColumnSample) -> Call:
    dtype = [quoted(column.dtype)] if column.dtype != "bigint" else []
    keywords = {"nullable": "True"} if column.missing_share else {}
    return call("RawColumn", quoted(column.name), *dtype, **keywords)


def _facts(column: ColumnSample) -> str:
    """The facts by which a person recognises a column, in one line."""
    distinct = len(column.counts)
    if not distinct:
        return "always missing in the sample"
    examples = ", ".join(shortened(value) for value, _ in column.counts.most_common(3))
    facts = [f"always {examples}" if distinct == 1 else f"{distinct:,} values: {examples}"]
    facts += [f"missing in {column.missing_share:.1%}"] if column.missing_share else []
    facts += [f"refused as unreadable: {', '.join(map(shortened, column.unreadable[:3]))}"] if column.unreadable else []
    if column.usual_missing_number is not None:
        facts += [f"{column.usual_missing_number} seems to mean missing"]
    return "; ".join(facts)


def _time(draft: Draft) -> list[str]:
    comments = [f"Candidates for the time: {named_reasons(draft.log.times[:3])}."]
    if draft.notation.is_ambiguous:
        comments.append("Day and month could be exchanged in these times: check the pattern.")
    expression = time_expression("log", draft.log.column(draft.time), draft.notation)
    return [*comment_lines("\n".join(comments)), *assignment("EXPOSED_AT_MS", expression)]
