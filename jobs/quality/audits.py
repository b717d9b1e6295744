"""Audit a published partition: its table's rules, asked of the whole partition with Great Expectations.

Two suites, both derived from the table's contract: one over a single row of facts (manifest, types, counts;
see `jobs.quality.partition_facts`), one over the flat rows that `Table.audit_duckdb_sql` makes, of which only the
columns that some rule mentions are loaded.
"""

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from jobs.quality.audit_results import ABOUT_ROWS, FAILED, HOLDS, NOT_ASKED, Audit, Outcome
from jobs.quality.partition_facts import (
    Fact,
    content_facts,
    day_rules,
    labels_fact,
    manifest_facts,
    schema_facts,
    sidecar_fact,
    table_facts,
    user_facts,
)
from jobs.quality.partition_view import data_files, flat_frame, flat_types, opened, read_fault, row_count
from jobs.quality.rule_sentences import rule_columns, rule_name, rule_sentence
from jobs.quality.trailing_baseline import prediction_facts, usual_facts
from lakehouse.feature_specs import spec_of_version, table_contract
from lakehouse.files import file_sha256
from lakehouse.lake import Lake
from lakehouse.manifest import MANIFEST, read_manifest
from schemas.contract import Expectation, Severity, Table
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.expectations import not_null, unique, unique_together
from schemas.lean_imports import hide_modules, load_lazily
from schemas.tables import EXPOSURES, FEATURE_SPEC, QUARANTINE, SEQUENCES, USER_REWARD_RANKS
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import DEFAULT_STEPS

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # no call home; read when a context is made

# Neither Spark nor a database is asked here, no picture drawn, no distribution tested: 3 of the 4 CPU seconds that the
# import takes, at each audit of a day.
# Where Spark is loaded already, Great Expectations looks at it, and Spark looks for google's packages in turn.
with (
    hide_modules(*(("sqlalchemy",) if "pyspark" in sys.modules else ("pyspark", "sqlalchemy", "google"))),
    load_lazily("altair", "scipy.stats"),
):
    import great_expectations as gx
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

_EXAMPLES = 3


def audit_partition(
    lake: Lake,
    table_name: str,
    dataset: Dataset,
    ds: str,
    *,
    spec: FeatureSpec | None = None,
    steps: int = DEFAULT_STEPS,
) -> Audit:
    """Ask all rules of a published partition. `store` keeps the result; profiles of the days compared are kept here.

    spec (default: the published one that the manifest names) and steps matter for `sequences` only.
    UserError where a rule cannot be computed though the partition's own files can be read: that is no fault of it.
    """
    partition = lake[table_name, dataset, ds].path
    manifest = read_manifest(partition)
    if manifest is None or not data_files(partition):
        return Audit(table_name, dataset.name, ds, 0, "", (), tuple(_ask_facts([_unpublished(partition)])))

    if table_name == SEQUENCES and spec is None:
        spec = spec_of_version(lake, dataset.name, manifest.spec_version)
    manifest_sha256 = file_sha256(partition / MANIFEST)
    table = table_contract(table_name, dataset, lake, spec, steps)
    rules = (*_key_rule(table), *table.expectations, *day_rules(table, dataset, ds))
    facts = [
        *manifest_facts(lake, table, dataset, ds, manifest),
        *table_facts(lake, table, dataset, ds, manifest, spec),
    ]
    rows, notes, about_rows = 0, [], [_not_asked(rule) for rule in rules]
    try:
        with opened(partition) as connection:
            rows = row_count(connection)
            schema = list(schema_facts(connection, partition, table))
            facts += schema
            if all(fact.holds for fact in schema if fact.severity is Severity.CRITICAL):
                facts += content_facts(connection, table, manifest)
                if table_name == FEATURE_SPEC:
                    facts.append(sidecar_fact(partition, connection))
                if table_name == EXPOSURES:
                    facts += usual_facts(lake, dataset, ds)
                if table_name == SEQUENCES:
                    facts.append(labels_fact(connection, lake, dataset, ds, manifest))
                    facts += user_facts(connection, lake, dataset, ds)
                if table_name == USER_REWARD_RANKS:
                    facts += prediction_facts(connection, lake, dataset, ds)
                about_rows = _ask_rows(connection, table, rules, rows)
            else:
                notes.append("The rules about rows were not asked: the columns are not what the contract says.")
    except duckdb.Error as error:
        fault = read_fault(partition)
        if fault is None:
            where = f"{table_name}/{dataset.name}/{ds}"
            raise UserError(
                f"cannot audit {where}, though its own files can be read: {_first_line(error)}"
                " (a rule of its contract that DuckDB cannot compute, or a broken file of another partition)"
            ) from error
        facts.append(_unreadable(fault))
    if rows == 0 and table_name != QUARANTINE:
        notes.append("No rows: the rules about rows hold trivially.")
    return Audit(
        table_name,
        dataset.name,
        ds,
        rows,
        manifest.fingerprint,
        tuple(notes),
        (*_ask_facts(facts), *about_rows),
        manifest_sha256,
    )


def _unpublished(partition: Path) -> Fact:
    has_manifest, has_data = read_manifest(partition) is not None, bool(data_files(partition))
    return Fact(
        "expect_partition_to_be_published",
        f"{'a' if has_manifest else 'no'} manifest and {'some' if has_data else 'no'} Parquet files",
        "a manifest and some Parquet files",
        "The folder holds a manifest and at least one Parquet file.", "a job publishes both or nothing",
    )  # fmt: skip


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0][:200]


def _unreadable(error: duckdb.Error) -> Fact:
    return Fact(
        "expect_files_to_be_readable", _first_line(error), "readable",
        "The data files can be read to their end.", "a reader downstream would stop in the middle",
    )  # fmt: skip


def _key_rule(table: Table) -> tuple[Expectation, ...]:
    """The key is unique, unless the table's own rules say so with a better reason."""
    if not table.key or any(set(rule_columns(e)) == set(table.key) and "unique" in e.rule for e in table.expectations):
        return ()
    why = "the key tells rows apart"
    if len(table.key) == 1:
        return (unique(table.key[0], why=why),)
    return (unique_together(table.key, why=why),)


def _ask_facts(facts: Sequence[Fact]) -> list[Outcome]:
    """One row, one column a fact."""
    frame = pd.DataFrame([{fact.name: fact.found for fact in facts}])
    rule = "expect_column_distinct_values_to_be_in_set"
    suite = [Expectation(rule, {"column": f.name, "value_set": [f.wanted]}, f.why, f.severity) for f in facts]
    return [
        Outcome(
            fact.name, fact.about, fact.sentence, fact.why, fact.severity.value,
            HOLDS if answer.success else FAILED,
            fact.observation,
            fact.rows,
            fact.examples,
        )
        for fact, answer in zip(facts, _answers(frame, suite, "BOOLEAN_ONLY"), strict=True)
    ]  # fmt: skip


def _ask_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, rules: Sequence[Expectation], rows: int
) -> list[Outcome]:
    """The rules over the flat view. Without rows only rules about the table as a whole are asked."""
    kinds = flat_types(connection, table)
    mentioned = dict.fromkeys(column for rule in rules for column in rule_columns(rule))
    # A computed number that is null or NaN would slip through every comparison.
    computed = [c for c in mentioned if c not in table.column_names and kinds[c] == "DOUBLE"]
    rules = [*rules, *(not_null(c, why="a value that cannot be computed cannot be judged") for c in computed)]
    asked = [rule for rule in rules if rows or rule.rule.startswith("expect_table_")]
    frame = flat_frame(connection, table, {c: kinds[c] for c in dict.fromkeys((*table.key, *mentioned))})
    answers = _answers(frame, asked, "BASIC")
    found = {
        id(rule): _row_outcome(rule, answer, frame, table.key) for rule, answer in zip(asked, answers, strict=True)
    }
    return [found.get(id(rule)) or _not_asked(rule) for rule in rules]


def _row_outcome(rule: Expectation, answer: Any, frame: pd.DataFrame, key: Sequence[str]) -> Outcome:
    result = answer.result
    values = result.get("partial_unexpected_list", [])
    return Outcome(
        rule_name(rule), ABOUT_ROWS, rule_sentence(rule), rule.why, rule.severity.value,
        HOLDS if answer.success else FAILED,
        _shown(result["observed_value"]) if "observed_value" in result else "",
        result.get("unexpected_count"),
        _examples(rule, values, frame, key),
    )  # fmt: skip


def _examples(rule: Expectation, values: list[Any], frame: pd.DataFrame, key: Sequence[str]) -> tuple[str, ...]:
    """A few rows that break the rule: their value, and the key by which to find them."""
    columns = rule_columns(rule)
    if not values or len(columns) != 1:
        return tuple(" ".join(f"{k} {_shown(v)}" for k, v in value.items()) for value in values)
    (column,) = columns
    shown = []
    for row in frame[frame[column].isin(values)].head(_EXAMPLES).to_dict("records"):
        where = " ".join(f"{k} {_shown(row[k])}" for k in key if k != column)
        value = "" if isinstance(row[column], bool) else _shown(row[column])
        shown.append(f"{value} ({where})" if value and where else value or where)
    return tuple(shown)


def _not_asked(rule: Expectation) -> Outcome:
    return Outcome(rule_name(rule), ABOUT_ROWS, rule_sentence(rule), rule.why, rule.severity.value, NOT_ASKED)


def _shown(value: Any) -> str:
    text = "empty" if pd.isna(value) else f"{value:.12g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _answers(frame: pd.DataFrame, suite: Sequence[Expectation], detail: str) -> list[Any]:
    """Great Expectations' results, in the order of the suite.

    RuntimeError where a rule cannot be computed at all: the contract is at fault, not the data.
    """
    if not suite:
        return []
    questions = [
        ExpectationConfiguration(type=e.rule, kwargs=dict(e.kwargs), severity=e.severity.value, meta={"at": k})
        for k, e in enumerate(suite)
    ]
    batch = _batches().get_batch({"dataframe": frame})
    results = batch.validate(
        gx.ExpectationSuite("audit", expectations=questions),
        result_format={"result_format": detail, "partial_unexpected_count": _EXAMPLES},
    ).results
    for result in results:
        if raised := _raised(result.exception_info):
            raise RuntimeError(f"cannot compute {result.expectation_config.type}: {raised}")
    return sorted(results, key=lambda result: result.expectation_config.meta["at"])


def _raised(info: dict[str, Any]) -> str:
    """The message of an exception inside Great Expectations, which nests them by metric; empty if there is none."""
    parts = [info] if "raised_exception" in info else list(info.values())
    return "; ".join(str(part["exception_message"]) for part in parts if part["raised_exception"])


@cache
def _batches() -> BatchDefinition:
    """A context in memory; nothing is written, nothing calls home."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return (
        context.data_sources.add_pandas("audit")
        .add_dataframe_asset("frame")
        .add_batch_definition_whole_dataframe("all")
    )
