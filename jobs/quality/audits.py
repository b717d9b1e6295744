"""Audit a published partition: evaluate the rules of its table, its day and its dataset on the whole partition.

Facts come from the manifest, the schema, counts and other tables (`facts`); rules about rows come from the table's
contract and run on the flat rows that `Table.audit_duckdb_sql` computes (`outcomes`).
"""

from dataclasses import dataclass, field

import duckdb

from jobs.quality.audit_results import Audit, Outcome, manifest_digest
from jobs.quality.day_rules import day_rules
from jobs.quality.facts import Fact
from jobs.quality.outcomes import evaluate_rows, fact_outcome, not_evaluated
from jobs.quality.partition_counts import row_count
from jobs.quality.partition_facts import (
    content_facts,
    damaged_files,
    manifest_facts,
    schema_facts,
    unpublished_fact,
    unreadable_fact,
)
from jobs.quality.prediction_facts import prediction_facts, task_facts
from jobs.quality.rule_sentences import rule_columns
from jobs.quality.table_facts import exposure_facts, manifest_count_facts, row_order_fact, sequence_facts, sidecar_fact
from jobs.quality.trailing_baseline import baseline_facts
from lakehouse.duckdb_view import open_view
from lakehouse.feature_specs import newest_spec
from lakehouse.lake import Lake, Partition
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import DamagedFile
from schemas import tables
from schemas.contract import Expectation, Severity, Table
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.expectations import unique, unique_together
from schemas.tables import QUARANTINE
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.registry import registered

_LONGEST_MESSAGE = 200  # characters of an error of DuckDB


def audit_partition(
    lake: Lake, table_name: str, dataset: Dataset, day: str, *, spec: FeatureSpec | None = None
) -> Audit:
    """The outcome of every rule. `store_audit` stores it; profiles of the days that are compared are stored here.

    spec: its channels are those that `sequences` may have; by default the newest spec of the lake, if it has one.
    Raises UserError if a rule cannot be computed although the partition's files can be read: then the contract is
    wrong, or another partition.
    """
    partition = lake[table_name, dataset, day]
    manifest = partition.manifest
    if manifest is None or not partition.data_files():
        return Audit(table_name, dataset.name, day, 0, "", (), (fact_outcome(unpublished_fact(partition)),))
    table = registered(table_name).contract(dataset)
    rules = (*_key_rule(table), *table.expectations, *day_rules(table, dataset, day))
    facts = [*manifest_facts(partition, manifest), *manifest_count_facts(partition, dataset, manifest)]
    content = _Content(facts, [not_evaluated(rule) for rule in rules])
    try:
        _audit_content(content, partition, dataset, table, manifest, rules, spec)
    except DamagedFile as error:
        if not damaged_files(partition):  # then it is a file of another partition
            raise
        content.facts.append(unreadable_fact(str(error)))
    except duckdb.Error as error:
        raise UserError(
            f"cannot audit {table_name}/{dataset.name}/{day}, though its files are as stored: {_first_line(error)} "
            "(a rule of its contract that DuckDB cannot compute, or another partition)"
        ) from error
    if content.rows == 0 and table_name != QUARANTINE:
        content.notes.append("No rows: the rules about rows were not evaluated.")
    return Audit(
        table_name,
        dataset.name,
        day,
        content.rows,
        manifest.fingerprint,
        tuple(content.notes),
        (*map(fact_outcome, content.facts), *content.row_outcomes),
        manifest_digest(manifest),
    )


@dataclass(slots=True)
class _Content:
    """The results of an audit so far. If a file cannot be read to its end, the earlier results stay."""

    facts: list[Fact]
    row_outcomes: list[Outcome]
    rows: int = 0
    notes: list[str] = field(default_factory=list)


def _audit_content(
    content: _Content,
    partition: Partition,
    dataset: Dataset,
    table: Table,
    manifest: Manifest,
    rules: tuple[Expectation, ...],
    spec: FeatureSpec | None,
) -> None:
    """Measure all facts that need the data files, and evaluate the rules about rows.

    Raises duckdb.Error if a query fails.
    """
    with open_view(partition) as connection:
        content.rows = row_count(connection)
        columns = list(schema_facts(connection, partition, table))
        content.facts += columns
        if not all(fact.is_met for fact in columns if fact.severity is Severity.CRITICAL):
            content.notes.append("The rules about rows were not evaluated: the columns differ from the contract.")
            return
        content.facts += content_facts(connection, table, manifest)
        match table.name:
            case tables.FEATURE_SPEC:
                content.facts.append(sidecar_fact(connection, partition))
            case tables.EXPOSURES:
                content.facts += exposure_facts(connection, dataset.quality)
                content.facts += baseline_facts(partition.lake, dataset, partition.day)
            case tables.STEPS:
                content.facts.append(row_order_fact(partition))
            case tables.SEQUENCES:
                content.facts += sequence_facts(
                    connection, partition, dataset, spec or newest_spec(partition.lake, dataset)
                )
            case tables.USER_REWARD_RANKS:
                content.facts += prediction_facts(connection, partition.lake, dataset, partition.day)
            case tables.TASK_PREDICTIONS:
                content.facts += task_facts(connection, partition.lake, dataset, partition.day)
        content.row_outcomes = evaluate_rows(connection, table, rules, content.rows)


def _key_rule(table: Table) -> tuple[Expectation, ...]:
    """The rule that the key is unique, if the table's own rules do not contain it with a better reason."""
    if not table.key or any(set(rule_columns(e)) == set(table.key) and "unique" in e.rule for e in table.expectations):
        return ()
    reason = "the key identifies a row"
    if len(table.key) == 1:
        return (unique(table.key[0], rationale=reason),)
    return (unique_together(table.key, rationale=reason),)


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0][:_LONGEST_MESSAGE]
