"""Audits of whole partitions: columns, files, manifest, and the tables that a partition must agree with."""

import shutil
import socket
from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest
from audit_cases import (
    DATASETS,
    IN_RANGE,
    NOT_NULL,
    SCORED,
    TYPE,
    UNIQUE,
    audited,
    failures,
    rows_of,
)
from audit_samples import (
    DAY,
    EVERY_USER,
    sample,
    spec_of,
    spec_with,
    write_partition,
)

from jobs.quality.audit_results import HOLDS, NOT_EVALUATED, PASS
from jobs.quality.audits import audit_partition
from jobs.quality.outcomes import flat_frame
from lakehouse.duckdb_view import rows_sql
from lakehouse.lake import Lake
from lakehouse.lineage import LINEAGE, record
from lakehouse.storage.scratch import work_folder
from schemas.contract import Expectation
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.quality import Limit, RowRule
from schemas.tables.registry import TABLES, RegisteredTable, registered


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_valid_partition_passes_and_every_rule_is_evaluated(lake, dataset, name):
    audit = audited(lake, dataset, name)
    assert failures(audit) == {}
    assert audit.verdict == PASS
    assert {o.status for o in audit.outcomes} == {HOLDS}
    table = registered(name).contract(get_dataset(dataset))
    names = {o.name for o in audit.outcomes}
    assert {f"{TYPE}({c.name})" for c in table.columns} <= names
    assert {f"{NOT_NULL}({c.name})" for c in table.columns if not c.nullable} <= names
    assert len(names) == len(audit.outcomes)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "feature_spec"])  # a spec always has rows
def test_an_empty_partition_passes(lake, name):
    audit = audited(lake, "criteo", name, [])
    assert audit.verdict == PASS
    assert any("No rows" in note for note in audit.notes) is (name != "quarantine")
    about_rows = {o.status for o in audit.outcomes if o.about == "rows" and not o.name.startswith("expect_table")}
    assert about_rows <= {NOT_EVALUATED}


def test_a_dataset_sets_the_limits_of_its_exposures(lake):
    contract, rows = get_dataset("criteo"), rows_of("criteo", "exposures")
    for row in rows:
        row |= {"click": 0, "conversion": 0, "conversion_at_ms": None, "channel": None}
    counts = {"rows_in": 20, "duplicates": 0, "quarantined": 12}
    table, quarantined = sample("quarantine", contract)
    write_partition(lake, table, contract, quarantined[:1] * 12)
    audited(lake, "criteo", "exposures", rows, counts=counts)
    limits = {"min_gain_rate": 0.0, "unknown_channels": Limit(1.0, "x"), "mostly_refused": Limit(0.7, "x")}
    generous = replace(contract, quality=replace(contract.quality, **limits))
    assert failures(audit_partition(lake, "exposures", contract, DAY)) == {
        "expect_column_mean_to_be_between(click)": "warning", f"{NOT_NULL}(channel)": "warning",
        "expect_most_rows_to_be_usable": "critical",
    }  # fmt: skip
    assert set(failures(audit_partition(lake, "exposures", generous, DAY))) == {"expect_few_rows_to_be_refused"}


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_feature_spec_without_a_readable_file_fails(lake, content):
    contract = get_dataset("criteo")
    assert audited(lake, "criteo", "feature_spec").verdict == PASS
    file = lake.spec("criteo", spec_of(contract).version)
    file.unlink() if content is None else file.write_text(content)
    audit = audit_partition(lake, "feature_spec", contract, DAY)
    assert failures(audit) == {"expect_sidecar_to_agree_with_rows": "critical"}
    assert ("is missing" if content is None else "is damaged") in audit.failed[0].observed


def test_a_stored_spec_that_keeps_another_feature_fails_and_names_it(lake):
    contract = get_dataset("criteo")
    changed_spec = spec_with(contract, kept=True)
    audit = audited(lake, "criteo", "feature_spec", stored_spec=changed_spec, spec_version=changed_spec.version)
    assert failures(audit) == {"expect_sidecar_to_agree_with_rows": "critical"}
    assert spec_of(contract).features[0].name in audit.failed[0].observed


@pytest.mark.parametrize("name", TABLES)
def test_with_a_missing_column_no_rule_about_rows_is_evaluated(lake, name):
    def without_last(schema: pa.Schema) -> pa.Schema:
        return schema.remove(len(schema) - 1)

    column = sample(name, get_dataset("criteo"))[0].columns[-1].name
    audit = audited(lake, "criteo", name, schema=without_last)
    assert failures(audit) == {f"{TYPE}({column})": "critical"}
    assert audit.failed[0].observed.startswith("no such column")
    assert {o.status for o in audit.outcomes if o.about == "rows"} <= {NOT_EVALUATED}
    assert any("not evaluated" in note for note in audit.notes)


def test_a_column_of_another_type_fails(lake):
    def bend(schema: pa.Schema) -> pa.Schema:
        return schema.set(schema.get_field_index("cost"), pa.field("cost", pa.float32()))

    audit = audited(lake, "criteo", "exposures", schema=bend)
    assert failures(audit) == {f"{TYPE}(cost)": "critical"}
    assert audit.describe(audit.failed[0]) == "found FLOAT, not DOUBLE"


def test_another_type_inside_a_nested_column_fails_and_shows_the_difference(lake):
    def bend(schema: pa.Schema) -> pa.Schema:
        position = schema.get_field_index("pending")
        entry = pa.struct([("known_at_ms", pa.int32()), ("channel", pa.string()), ("gain", pa.string())])
        return schema.set(position, pa.field("pending", pa.list_(entry)))

    rows = rows_of("criteo", "journeys")
    for row in rows:
        row["pending"] = []
    audit = audited(lake, "criteo", "journeys", rows, schema=bend)
    assert failures(audit) == {f"{TYPE}(pending)": "critical"}
    assert "INTEGER" in audit.failed[0].observed


def test_an_undeclared_column_is_a_warning(lake):
    audit = audited(lake, "criteo", "exposures", schema=lambda s: s.append(pa.field("attribution_2", pa.int64())))
    assert failures(audit) == {"expect_table_columns_to_be_in_contract": "warning"}
    assert "attribution_2" in audit.failed[0].observed


@pytest.mark.parametrize("columns", ["* EXCLUDE (cost), 'much' AS cost", "* EXCLUDE (cost)"])
def test_a_file_with_other_columns_fails(lake, columns):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "exposures")
    partition = lake["exposures", "criteo", DAY]
    counts = partition.manifest.counts
    with work_folder() as work:
        first, second = partition.files()
        shutil.copy(first, work / "part-0.parquet")
        rows = f"read_parquet('{second}', hive_partitioning = false)"
        duckdb.sql(f"COPY (SELECT {columns} FROM {rows}) TO '{work}/part-1.parquet' (FORMAT parquet)")
        partition.publish(work, inputs={}, code="0", counts=counts)
    assert set(failures(audit_partition(lake, "exposures", contract, DAY))) == {f"{TYPE}(cost)"}


def test_a_row_count_that_differs_from_the_manifest_fails(lake):
    audit = audited(
        lake, "criteo", "exposures", rows=None, **{"counts": {"rows_in": 9, "duplicates": 1, "quarantined": 0}}
    )
    assert audit.verdict == PASS
    partition = lake["exposures", "criteo", DAY]
    stated = partition.manifest
    counts = {**stated.counts, "rows_in": 10}
    record(lake.table(LINEAGE, "criteo"), [replace(stated, rows=9, counts=counts)], {})
    audit = audit_partition(lake, "exposures", get_dataset("criteo"), DAY)
    assert failures(audit) == {"expect_table_row_count_to_equal_manifest": "critical"}
    assert audit.failed[0].observed == "8, not 9"


@pytest.mark.parametrize(
    "counts",
    [
        {"rows_in": 9, "duplicates": 0, "quarantined": 0},
        {"rows_in": 8, "duplicates": 1, "quarantined": 0},
        {"duplicates": 0, "quarantined": 0},
    ],
)
def test_a_lost_raw_row_fails(lake, counts):
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == {"expect_rows_in_to_be_accounted_for": "critical"}


@pytest.mark.parametrize("name", EVERY_USER)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_user_of_the_journeys_who_is_not_scored_fails(lake, dataset, name):
    audit = audited(lake, dataset, name, rows_of(dataset, name)[:-1])
    assert failures(audit) == {SCORED: "critical"}
    assert audit.failed[0].observed == "3, not 4"
    table, rows = sample(name, get_dataset(dataset))
    write_partition(Lake(lake.root / "other"), table, get_dataset(dataset), rows)
    audit = audit_partition(Lake(lake.root / "other"), name, get_dataset(dataset), DAY)
    assert failures(audit) == {SCORED: "critical"}


def test_the_quarantine_must_have_all_quarantined_rows(lake):
    counts = {"rows_in": 11, "duplicates": 0, "quarantined": 3}
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == {"expect_quarantine_to_hold_the_refused_rows": "critical"}
    audited(lake, "criteo", "quarantine")
    assert audited(lake, "criteo", "exposures", counts=counts).verdict == PASS


@pytest.mark.parametrize(("quarantined", "failed"), [(8, set()), (9, {"expect_most_rows_to_be_usable"})])
def test_a_day_fails_if_most_rows_are_in_quarantine(lake, quarantined, failed):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows[:1] * quarantined)
    counts = {"rows_in": 8 + quarantined, "duplicates": 0, "quarantined": quarantined}
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == dict.fromkeys(failed, "critical")
    assert [o.observed for o in audit.failed] == ["9 of 17, not at most 50%"] * len(failed)


@pytest.mark.parametrize(("rows_in", "failed"), [(6, set()), (5, {"expect_most_rows_to_be_usable"})])
def test_a_log_fails_if_most_rows_have_no_day(lake, rows_in, failed):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows, ds=UNDATED, counts={"rows_in": rows_in})
    assert failures(audit_partition(lake, "quarantine", contract, UNDATED)) == dict.fromkeys(failed, "critical")


def test_files_changed_after_publishing_fail(lake):
    audited(lake, "criteo", "exposures")
    file = lake["exposures", "criteo", DAY].files()[1]
    duckdb.sql(f"COPY (SELECT * FROM '{file}' ORDER BY exposure_id DESC) TO '{file}.new' (FORMAT parquet)")
    file.with_name(f"{file.name}.new").replace(file)
    audit = audit_partition(lake, "exposures", get_dataset("criteo"), DAY)
    assert set(failures(audit)) == {
        "expect_files_to_have_the_content_of_their_names",
        "expect_files_to_be_readable",
    }


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:40] + b"\xff" * 200 + b[240:]]
)
def test_a_damaged_file_fails_in_one_line(lake, damage):
    audited(lake, "criteo", "journeys")
    file = lake["journeys", "criteo", DAY].files()[0]
    file.write_bytes(damage(file.read_bytes()))
    audit = audit_partition(lake, "journeys", get_dataset("criteo"), DAY)
    assert {"expect_files_to_have_the_content_of_their_names", "expect_files_to_be_readable"} == set(failures(audit))
    assert "\n" not in audit.describe(audit.failed[-1])


def test_a_rule_that_duckdb_cannot_compute_does_not_fail_the_audit(lake):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "exposures")
    broken = replace(contract, quality=replace(contract.quality, rows=(RowRule("holds", "clikc = 1", "x"),)))
    with pytest.raises(UserError, match=f"cannot audit exposures/criteo/{DAY}, though its files.*clikc"):
        audit_partition(lake, "exposures", broken, DAY)


def test_a_partition_without_a_manifest_fails(lake):
    audited(lake, "criteo", "exposures")
    shutil.rmtree(lake.table(LINEAGE, "criteo"))
    audit = audit_partition(lake, "exposures", get_dataset("criteo"), DAY)
    assert failures(audit) == {"expect_partition_to_be_published": "critical"}


def test_a_failed_rule_has_counts_and_examples_with_their_key(lake):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    rows[5]["cost"] = -1.0
    audit = audited(lake, "criteo", "exposures", rows)
    assert {o.name: audit.describe(o) for o in audit.failed} == {
        f"{UNIQUE}(exposure_id)": "2 of 8 rows, e.g. 100, 100",
        f"{IN_RANGE}(cost)": "1 of 8 rows, e.g. -1 (exposure_id 105)",
    }


def test_a_rule_that_great_expectations_cannot_compute_is_an_error(lake, monkeypatch):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows)
    broken = replace(table, expectations=(Expectation("expect_column_mean_to_be_between",
                                                      {"column": "reason", "min_value": 0}, "nonsense"),))  # fmt: skip
    monkeypatch.setitem(TABLES, "quarantine", RegisteredTable("quarantine", "", lambda _: broken))
    with pytest.raises(RuntimeError, match="cannot compute expect_column_mean_to_be_between"):
        audit_partition(lake, "quarantine", contract, DAY)


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        (("source_file",), f"{UNIQUE}(source_file)"),
        (("source_file", "reason"), "expect_compound_columns_to_be_unique(source_file, reason)"),
    ],
)
def test_a_key_is_unique_without_a_rule_of_the_contract(lake, monkeypatch, key, rule):
    contract = get_dataset("criteo")
    table, sample_rows = sample("quarantine", contract)
    rows = [{**row, "source_file": f"{k}.csv"} for k, row in enumerate(sample_rows)]
    write_partition(lake, table, contract, [*rows, rows[0]])
    keyed = replace(table, key=key)
    monkeypatch.setitem(TABLES, "quarantine", RegisteredTable("quarantine", "", lambda _: keyed))
    assert failures(audit_partition(lake, "quarantine", contract, DAY)) == {rule: "critical"}


def test_an_audit_opens_no_connection(lake, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert audited(lake, "criteo", "exposures").verdict == PASS


def test_only_columns_that_rules_mention_are_loaded(lake, monkeypatch):
    contract = get_dataset("kuairand")
    table, rows = sample("exposures", contract)
    write_partition(lake, table, contract, rows)
    small = rows_sql([lake["exposures", "kuairand", DAY]])
    with work_folder() as staged:
        duckdb.sql(
            f"SELECT * EXCLUDE (range) REPLACE (row_number() OVER () AS exposure_id) FROM {small}, range(25_000)"
        ).write_parquet(f"{staged}/part-0.parquet")
        counts = {"rows_in": 200_000, "duplicates": 0, "quarantined": 0}
        lake["exposures", "kuairand", DAY].publish(staged, inputs={}, code="0", counts=counts)
    loaded = []

    def recorded(*arguments):
        loaded.append(flat_frame(*arguments))
        return loaded[0]

    monkeypatch.setattr("jobs.quality.outcomes.flat_frame", recorded)
    audit = audit_partition(lake, "exposures", contract, DAY)
    assert (audit.rows, audit.verdict) == (200_000, PASS)
    assert set(loaded[0].columns) == {
        "exposure_id",
        "exposed_at_ms",
        "cost",
        "click",
        "long_view",
        "channel",
        "propensity",
        *(rule.name for rule in contract.quality.rows),
    }
    assert len(table.columns) > 40
