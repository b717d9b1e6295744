"""Each rule of every table: a valid partition passes, and one planted fault fails exactly its rule."""

import json
import socket
import sys
from dataclasses import replace

import duckdb
import pyarrow as pa
import pytest
from audit_samples import (
    DAY,
    Rows,
    sample,
    shown_in_windows,
    spec_of,
    spec_with,
    write_basis,
    write_partition,
)

from jobs import audit_table
from jobs.quality.audit_results import FAIL, HOLDS, NOT_EVALUATED, PASS, WARN, Audit, stored_audits
from jobs.quality.audits import audit_partition
from jobs.quality.outcomes import flat_frame
from jobs.reports.data_docs import INDEX
from lakehouse.feature_specs import table_contract
from lakehouse.lake import Lake
from lakehouse.manifest import MANIFEST
from lakehouse.staging import staging_folder
from schemas.contract import Expectation
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.quality import Limit, RowRule
from schemas.splits import split_of
from schemas.tables.registry import TABLES

DATASETS = ("criteo", "kuairand", "kuairand_tab")
UNIQUE, IN_SET = "expect_column_values_to_be_unique", "expect_column_values_to_be_in_set"
BETWEEN, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
TYPE, FINITE = "expect_column_values_to_be_of_type", "expect_column_values_to_be_finite"
LABELS, SCORED = "expect_label_count_to_equal_exposures", "expect_every_user_to_be_scored"


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def audited(lake: Lake, dataset: str, name: str, rows: Rows | None = None, **options) -> Audit:
    """The audit of a sample partition, or of these rows in its place."""
    contract = get_dataset(dataset)
    table, valid = sample(name, contract)
    write_basis(lake, name, contract, empty=rows == [])
    write_partition(lake, table, contract, valid if rows is None else rows, **options)
    return audit_partition(lake, name, contract, DAY)


def rows_of(dataset: str, name: str) -> Rows:
    return sample(name, get_dataset(dataset))[1]


def failures(audit: Audit) -> dict[str, str]:
    return {outcome.name: outcome.severity for outcome in audit.failed}


def run(monkeypatch, lake: Lake, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["audit_table", "--lake", str(lake.root), *arguments])
    audit_table.main()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_valid_partition_passes_and_every_rule_is_asked(lake, dataset, name):
    audit = audited(lake, dataset, name)
    assert failures(audit) == {}
    assert audit.verdict == PASS
    assert {o.status for o in audit.outcomes} == {HOLDS}
    table = table_contract(name, get_dataset(dataset), lake)
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


# (table, dataset, row, change, the rules that fail). One fault, one rule.
FAULTS = [
    ("exposures", "criteo", 3, {"exposure_id": 100}, {f"{UNIQUE}(exposure_id)"}),
    ("exposures", "criteo", 0, {"user_id": None}, {f"{NOT_NULL}(user_id)"}),
    ("exposures", "criteo", 0, {"cost": -1.0}, {f"{BETWEEN}(cost)"}),
    ("exposures", "criteo", 0, {"cost": float("nan")}, {f"{FINITE}(cost)"}),
    ("exposures", "criteo", 0, {"click": 2}, {f"{IN_SET}(click)"}),
    ("exposures", "criteo", 0, {"click": 1, "conversion": 1}, {f"{IN_SET}(conversion_has_time)"}),
    ("exposures", "criteo", 1, {"conversion_at_ms": 5}, {f"{IN_SET}(conversion_has_time)"}),
    ("exposures", "kuairand", 0, {"channel": "huge"}, {f"{IN_SET}(channel)"}),
    ("exposures", "kuairand", 0, {"propensity": 0.0}, {f"{BETWEEN}(propensity)"}),
    ("exposures", "kuairand", 0, {"propensity": float("inf")}, {f"{FINITE}(propensity)", f"{BETWEEN}(propensity)"}),
    ("quarantine", "criteo", 0, {"reason": ""}, {"expect_column_value_lengths_to_be_between(reason)"}),
    ("quarantine", "criteo", 0, {"reason": None}, {f"{NOT_NULL}(reason)"}),
    ("journeys", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("journeys", "criteo", 1, {"memory": []}, {f"{BETWEEN}(steps)"}),
    ("journeys", "criteo", 1, {"memory": None}, {f"{NOT_NULL}(memory)", f"{IN_SET}(in_order)",
                                                 f"{IN_SET}(counts_all)"}),
    ("journeys", "criteo", 1, {"pending": [{"known_at_ms": 5, "channel": "a", "gain": "click"}]},
     {f"{BETWEEN}(next_known_ms)"}),
    ("feature_spec", "criteo", 0, {"role": "text"}, {f"{IN_SET}(role)"}),
    ("feature_spec", "criteo", 0, {"reason": ""}, {f"{IN_SET}(explained)"}),
    ("feature_spec", "criteo", 0, {"name": "other"}, {"expect_sidecar_to_agree_with_rows"}),
    ("sequences", "criteo", 1, {"user_id": 0, "split": split_of(0)},
     {"expect_compound_columns_to_be_unique(user_id, window)"}),
    ("sequences", "criteo", 1, {"split": "dev"}, {f"{IN_SET}(split)", f"{IN_SET}(split_is_right)"}),
    ("channel_policies", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", 0.75), ("b", 0.2)]}, {f"{BETWEEN}(total)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", 1.5), ("b", -0.5)]}, {f"{BETWEEN}(lowest)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", float("nan")), ("b", 1.0)]}, {f"{NOT_NULL}(total)"}),
    ("channel_policies", "criteo", 0, {"channel": "b"}, {f"{IN_SET}(is_best)"}),
    ("channel_policies", "criteo", 0, {"channel": "elsewhere"}, {f"{IN_SET}(is_best)"}),
    ("channel_policies", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("user_reward_ranks", "criteo", 0, {"rank": 9}, {f"{IN_SET}(rank_is_right)"}),
    ("user_reward_ranks", "criteo", 0, {"predicted_reward": 1.1}, {f"{BETWEEN}(predicted_reward)"}),
    ("user_reward_ranks", "criteo", 0, {"predicted_click": -0.1}, {f"{BETWEEN}(predicted_click)"}),
    ("user_reward_ranks", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("channel_allocation", "criteo", 0, {"channel": "b"}, {f"{UNIQUE}(channel)"}),
    ("channel_allocation", "criteo", 0, {"explicit": 0.4}, {f"{BETWEEN}(explicit_total)"}),
    ("channel_allocation", "criteo", 0, {"implicit": 0.5}, {f"{BETWEEN}(implicit_total)"}),
    ("channel_allocation", "criteo", 0, {"initial": 0.4}, {f"{BETWEEN}(initial_total)"}),
    ("channel_allocation", "criteo", 0, {"gained": 11}, {f"{IN_SET}(counts_nest)"}),
    ("channel_allocation", "criteo", 1, {"position": 2}, {f"{IN_SET}(in_place)"}),
    ("budget_plan", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("budget_plan", "criteo", 2, {"expected_reward": 1.5}, {f"{BETWEEN}(expected_reward)"}),
    ("budget_plan", "criteo", 2, {"expected_cost_nano": -1}, {f"{BETWEEN}(expected_cost_nano)"}),
    ("budget_plan", "criteo", 2, {"selected": True}, {f"{IN_SET}(within_budget)", f"{IN_SET}(within_bound)"}),
    ("budget_plan", "criteo", 1, {"expected_reward": 0.5}, {f"{IN_SET}(within_bound)"}),
    ("budget_plan", "criteo", 3, {"budget_nano": 79}, {f"{IN_SET}(within_budget)"}),
    ("budget_plan", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("prequential", "criteo", 1, {"head": "channel"}, {f"{UNIQUE}(head)"}),
    ("prequential", "criteo", 1, {"head": "weather"}, {f"{IN_SET}(head)"}),
    ("prequential", "criteo", 1, {"trained_through": "2030-01-01"}, {f"{IN_SET}(is_unseen)"}),
    ("prequential", "criteo", 1, {"logloss": -0.1}, {f"{BETWEEN}(logloss)"}),
    ("prequential", "criteo", 1, {"predicted_rate": 1.5}, {f"{BETWEEN}(predicted_rate)"}),
    ("prequential", "criteo", 1, {"predicted_rate": -0.5}, {f"{BETWEEN}(predicted_rate)"}),
    ("prequential", "criteo", 1, {"rate": 1.5}, {f"{BETWEEN}(rate)"}),
    ("prequential", "criteo", 1, {"labels": 5_000, "predicted_rate": None}, {f"{NOT_NULL}(calibration)"}),
    ("prequential", "criteo", 1, {"labels": 5_000, "rate": None}, {f"{NOT_NULL}(calibration)"}),
    ("promotions", "criteo", 1, {"check": "channel"}, {f"{UNIQUE}(check)"}),
    ("promotions", "criteo", 1, {"decision": "perhaps"}, {f"{IN_SET}(decision)"}),
    ("promotions", "criteo", 1, {"decision": "promoted"}, {f"{IN_SET}(follows)"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dataset", "at", "change", "rules"), FAULTS)
def test_one_fault_in_a_row_fails_exactly_its_rule(lake, name, dataset, at, change, rules):
    rows = rows_of(dataset, name)
    rows[at] |= change
    audit = audited(lake, dataset, name, rows)
    assert failures(audit) == dict.fromkeys(rules, "critical")
    assert audit.verdict == FAIL


@pytest.mark.parametrize(("rate", "predicted", "labels", "failed"), [
    (0.25, 0.5, 5_000, True),
    (0.5, 0.25, 5_000, True),
    (0.0, 0.3, 5_000, True),  # the worst there is: nothing of what was predicted came
    (0.3, 0.0, 5_000, True),
    (0.25, 0.3, 5_000, False),
    (0.0, 0.0, 5_000, False),
    (0.0, 0.3, 5, False),  # of five labels nothing can be said
    (None, None, 0, False),
])  # fmt: skip
def test_a_badly_calibrated_day_is_a_warning(lake, rate, predicted, labels, failed):
    rows = rows_of("criteo", "prequential")
    rows[1] |= {"rate": rate, "predicted_rate": predicted, "labels": labels}
    wanted = {f"{BETWEEN}(calibration)": "warning"} if failed else {}
    assert failures(audited(lake, "criteo", "prequential", rows)) == wanted


def test_every_rule_of_every_table_has_a_planted_fault():
    """No rule of a contract may go without a test that sees it fail."""
    planted = {(name, rule) for name, _, _, _, rules in FAULTS for rule in rules} | {
        (name, rule) for name, rules in PLANTED_ELSEWHERE.items() for rule in rules
    }
    for name in TABLES:
        for dataset in ("criteo", "kuairand"):
            contract = get_dataset(dataset)
            for expectation in sample(name, contract)[0].expectations:
                assert _planted(name, expectation, planted), f"{name}: {expectation}"


PLANTED_ELSEWHERE = {
    "exposures": {f"{NOT_NULL}(channel)", "expect_column_mean_to_be_between(click)",
                  f"{IN_SET}(conversion)", f"{IN_SET}(long_view)"}
                 | {f"{IN_SET}({rule.name})" for name in ("criteo", "kuairand")
                    for rule in get_dataset(name).quality.rows},  # see test_planted_faults.py
    "prequential": {f"{BETWEEN}(calibration)"},
    "journeys": {f"{IN_SET}({c})" for c in ("in_order", "counts_all", "no_step_twice", "no_gain_without_exposure")},
    "feature_spec": {f"{UNIQUE}(name)", f"{IN_SET}(encodable)"},
    "sequences": {f"{IN_SET}({c})" for c in ("length", "left_padded", "labels_valid", "in_order", "lists_aligned",
                                             "steps_filled", "labelled_once", "enough_context")},
    "channel_policies": {f"{IN_SET}(policies_differ)", f"{IN_SET}(recommendations_differ)"},
    "user_reward_ranks": {f"{UNIQUE}(user_id)", f"{BETWEEN}(predicted_conversion)", f"{BETWEEN}(predicted_long_view)"},
    "channel_allocation": {f"{BETWEEN}({name})" for name in ("explicit", "implicit", "initial")},
}  # fmt: skip


def _planted(name: str, expectation: Expectation, planted: set[tuple[str, str]]) -> bool:
    columns = expectation.kwargs.get("column_list") or [expectation.kwargs.get("column", "")]
    return (name, f"{expectation.rule}({', '.join(columns)})") in planted


@pytest.mark.parametrize(
    ("dataset", "gain"), [("criteo", "conversion"), ("kuairand", "long_view"), ("kuairand", "click")]
)
def test_a_gain_is_binary(lake, dataset, gain):
    rows = rows_of(dataset, "exposures")
    rows[1][gain] = 3
    assert f"{IN_SET}({gain})" in failures(audited(lake, dataset, "exposures", rows))


def test_one_conversion_without_a_click_among_hundreds_fails(lake):
    rows = [
        {**row, "exposure_id": 8 * k + at} for k in range(50) for at, row in enumerate(rows_of("criteo", "exposures"))
    ]
    rows[201]["click"] = 0
    audit = audited(lake, "criteo", "exposures", rows)
    assert failures(audit) == {f"{IN_SET}(conversion_follows_a_click)": "critical"}
    assert audit.describe(audit.failed[0]) == "1 of 400 rows, e.g. exposure_id 201"


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("shift_days", [-1, 1])
def test_an_exposure_of_another_day_fails(lake, dataset, shift_days):
    rows = rows_of(dataset, "exposures")
    rows[0]["exposed_at_ms"] += shift_days * 86_400_000
    assert failures(audited(lake, dataset, "exposures", rows)) == {f"{BETWEEN}(exposed_at_ms)": "critical"}


@pytest.mark.parametrize("at", ["first", "last"])
def test_a_kuairand_day_is_a_day_in_shanghai(lake, at):
    rows = rows_of("kuairand", "exposures")
    start = duckdb.sql("SELECT epoch_ms(TIMESTAMP '2017-01-01 16:00:00')").fetchall()[0][0]
    rows[0]["exposed_at_ms"] = start if at == "first" else start + 86_400_000 - 1
    rows[0] |= dict.fromkeys(("hour", "log_hour"), 0 if at == "first" else 23)
    assert audited(lake, "kuairand", "exposures", rows).verdict == PASS
    rows[0]["exposed_at_ms"] += -1 if at == "first" else 1
    assert audited(lake, "kuairand", "exposures", rows).verdict == FAIL


@pytest.mark.parametrize("gain", ["click", "conversion"])
def test_a_predicted_gain_is_a_probability(lake, gain):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[0][f"predicted_{gain}"] = 1.5
    assert failures(audited(lake, "criteo", "user_reward_ranks", rows)) == {f"{BETWEEN}(predicted_{gain})": "critical"}


def test_ties_in_the_rank_go_by_user_id(lake):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[1]["rank"], rows[2]["rank"] = rows[2]["rank"], rows[1]["rank"]
    audit = audited(lake, "criteo", "user_reward_ranks", rows)
    assert failures(audit) == {f"{IN_SET}(rank_is_right)": "critical"}
    assert set(audit.failed[0].examples) == {"user_id 3", "user_id 5"}


def test_a_user_ranked_twice_fails(lake):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[2]["user_id"] = 3
    assert failures(audited(lake, "criteo", "user_reward_ranks", rows))[f"{UNIQUE}(user_id)"] == "critical"


def test_warnings_are_reported_and_do_not_fail(lake):
    clicks, channels = rows_of("criteo", "exposures"), rows_of("criteo", "exposures")
    for row in clicks:
        row |= {"click": 0, "conversion": 0, "conversion_at_ms": None}
    channels[0]["channel"] = None
    for rows, name, rule in (
        (clicks, "exposures", "expect_column_mean_to_be_between(click)"),
        (channels, "exposures", f"{NOT_NULL}(channel)"),
    ):  # fmt: skip
        audit = audited(lake, "criteo", name, rows)
        assert failures(audit) == {rule: "warning"}
        assert audit.verdict == WARN


def test_what_is_unusual_in_the_exposures_of_a_day_is_for_the_dataset_to_say(lake):
    contract, rows = get_dataset("criteo"), rows_of("criteo", "exposures")
    for row in rows:
        row |= {"click": 0, "conversion": 0, "conversion_at_ms": None, "channel": None}
    counts = {"rows_in": 20, "duplicates": 0, "quarantined": 12}
    table, refused = sample("quarantine", contract)
    write_partition(lake, table, contract, refused[:1] * 12)
    audited(lake, "criteo", "exposures", rows, counts=counts)
    limits = {"min_gain_rate": 0.0, "unknown_channels": Limit(1.0, "x"), "mostly_refused": Limit(0.7, "x")}
    generous = replace(contract, quality=replace(contract.quality, **limits))
    assert failures(audit_partition(lake, "exposures", contract, DAY)) == {
        "expect_column_mean_to_be_between(click)": "warning", f"{NOT_NULL}(channel)": "warning",
        "expect_most_rows_to_be_usable": "critical",
    }  # fmt: skip
    assert set(failures(audit_partition(lake, "exposures", generous, DAY))) == {"expect_few_rows_to_be_refused"}


def test_a_journey_out_of_order_fails(lake):
    rows = rows_of("criteo", "journeys")
    rows[2]["memory"].reverse()
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{IN_SET}(in_order)": "critical"}


def test_equal_times_in_a_journey_are_ordered_by_id(lake):
    rows = rows_of("criteo", "journeys")
    for step in rows[2]["memory"]:
        step["exposed_at_ms"] = rows[2]["memory"][0]["exposed_at_ms"]
    assert audited(lake, "criteo", "journeys", rows).verdict == PASS
    rows[2]["memory"].reverse()
    assert audited(lake, "criteo", "journeys", rows).verdict == FAIL


def test_a_journey_that_counts_less_than_it_remembers_fails(lake):
    rows = rows_of("criteo", "journeys")
    rows[2]["next_step"]["seen_exposures"] = 2
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{IN_SET}(counts_all)": "critical"}


def test_a_journey_that_knows_a_later_day_fails(lake):
    rows = rows_of("criteo", "journeys")
    rows[2]["memory"][-1]["exposed_at_ms"] += 86_400_000
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{BETWEEN}(newest_ms)": "critical"}


def test_a_memory_longer_than_promised_fails(lake):
    rows = rows_of("criteo", "journeys")
    step = rows[0]["memory"][0]
    rows[0]["memory"] = [{**step, "exposure_id": k} for k in range(41)]
    rows[0]["next_step"]["seen_exposures"] = 41
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{BETWEEN}(steps)": "critical"}


def _policies_of(users: int, channel: str, *, source: str = "model", sure: float = 0.98) -> Rows:
    other = "a" if channel == "b" else "b"
    first = rows_of("criteo", "channel_policies")[0]
    return [{**first, "channel": channel, "source": source, "policy": [(channel, sure), (other, 1 - sure)]}
            for _ in range(users)]  # fmt: skip


@pytest.mark.parametrize(("parts", "rules"), [
    ([(200, "b", "model", 0.98)], {"policies_differ": "critical"}),
    ([(200, "b", "model", 0.98), (100, "a", "initial", 0.6)], {"policies_differ": "critical"}),
    ([(200, "b", "model", 0.98), (2, "a", "model", 0.98)], {"policies_differ": "critical"}),
    ([(200, "b", "model", 0.6), (2, "a", "model", 0.6)], {"recommendations_differ": "warning"}),
    ([(200, "b", "model", 0.98), (20, "a", "model", 0.98)], {}),
    ([(9, "b", "model", 0.98)], {}),
    ([(200, "b", "initial", 0.98), (20, "a", "model", 0.6), (20, "b", "model", 0.6)], {}),
])  # fmt: skip
def test_policies_that_the_model_gives_to_nearly_everyone_alike_are_told(lake, parts, rules):
    contract = get_dataset("criteo")
    rows = [row for users, channel, source, sure in parts
            for row in _policies_of(users, channel, source=source, sure=sure)]  # fmt: skip
    rows = [{**row, "user_id": k} for k, row in enumerate(rows)]
    table, users = sample("journeys", contract)
    write_partition(lake, table, contract, [{**users[0], "user_id": row["user_id"]} for row in rows])
    write_partition(lake, sample("channel_policies", contract)[0], contract, rows)
    audit = audit_partition(lake, "channel_policies", contract, DAY)
    assert failures(audit) == {f"{IN_SET}({rule})": severity for rule, severity in rules.items()}
    assert [o.rows for o in audit.failed] == [sum(p[0] for p in parts if p[2] == "model")] * len(rules)


def _swap(row, name, one, other):
    row[name][one], row[name][other] = row[name][other], row[name][one]


def _not_left_padded(row):
    for value in row.values():
        if isinstance(value, list):
            value.append(value.pop(0))


def _all_lists(row, change):
    for name, value in row.items():
        if isinstance(value, list):
            row[name] = change(value)


# In the sample, user 2's window has 4 real steps: positions 16-19, labels 17-19.
WINDOW_FAULTS = [
    ("too short", lambda row: _all_lists(row, lambda v: v[1:]), {"length"}),
    ("not left padded", _not_left_padded, {"left_padded"}),
    ("label on padding", lambda row: _swap(row, "is_label", 3, 17), {"labels_valid", "enough_context"}),
    ("no label", lambda row: row.update(is_label=[False] * 20), {"labels_valid", "enough_context", LABELS}),
    ("unsorted", lambda row: _swap(row, "exposed_at_ms", 17, 18), {"in_order"}),
    ("a step without a time", lambda row: row["exposed_at_ms"].__setitem__(16, None), {"in_order", "steps_filled"}),
    ("a list too short", lambda row: row["click"].pop(0), {"lists_aligned", "steps_filled"}),
    ("an optional list too short", lambda row: row["channel"].pop(0), {"lists_aligned"}),
    ("an optional list missing", lambda row: row.update(channel=None), {"lists_aligned"}),
    ("a value on padding", lambda row: row["cost"].__setitem__(0, 0.0), {"steps_filled"}),
    ("a real step without a count", lambda row: row["seen_click"].__setitem__(19, None), {"steps_filled"}),
    ("too few channels", lambda row: row["new_exposures_by_channel"].__setitem__(19, [1]), {"steps_filled"}),
    ("labelled twice", lambda row: row["exposure_id"].__setitem__(19, 102), {"labelled_once"}),
    ("history left out", lambda row: row["seen_exposures"].__setitem__(17, 30), {"enough_context"}),
]


@pytest.mark.parametrize(("change", "columns"), [f[1:] for f in WINDOW_FAULTS], ids=[f[0] for f in WINDOW_FAULTS])
def test_a_faulty_window_fails(lake, change, columns):
    rows = rows_of("criteo", "sequences")
    change(rows[2])
    audit = audited(lake, "criteo", "sequences", rows)
    assert failures(audit) == {c if c == LABELS else f"{IN_SET}({c})": "critical" for c in columns}


def test_every_window_of_a_doubled_day_is_counted_and_no_other(lake):
    rows = rows_of("criteo", "sequences")
    sound = {**rows[1], "window": 2, "exposure_id": [i and 5_000 + i for i in rows[1]["exposure_id"]]}
    audit = audited(lake, "criteo", "sequences", [*rows, *({**row, "window": 1} for row in rows[1:]), sound])
    assert {o.name: o.rows for o in audit.failed if o.about == "rows"} == {f"{IN_SET}(labelled_once)": 6}


def test_a_label_of_another_day_fails(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["exposed_at_ms"] = [t and t - 86_400_000 for t in rows[2]["exposed_at_ms"]]
    assert failures(audited(lake, "criteo", "sequences", rows)) == {
        f"{BETWEEN}(first_label_ms)": "critical", f"{BETWEEN}(last_label_ms)": "critical"}  # fmt: skip


def test_context_may_come_from_an_earlier_day(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["exposed_at_ms"][16] -= 86_400_000
    assert audited(lake, "criteo", "sequences", rows).verdict == PASS


def test_a_user_in_another_split_fails(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["split"] = "test" if rows[2]["split"] != "test" else "train"
    assert failures(audited(lake, "criteo", "sequences", rows)) == {f"{IN_SET}(split_is_right)": "critical"}


def test_windows_must_have_the_length_that_was_asked_for(lake):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "sequences")
    audit = audit_partition(lake, "sequences", contract, DAY, steps=10)
    assert failures(audit) == {f"{IN_SET}(length)": "critical"}


def test_sequences_of_a_spec_that_nobody_has_fail(lake):
    audit = audited(lake, "criteo", "sequences", spec_version="0123456789ab")
    assert failures(audit) == {"expect_feature_spec_to_be_at_hand": "critical"}


def test_sequences_are_audited_by_the_spec_they_name_not_by_the_newest(lake):
    contract = get_dataset("criteo")
    table, rows = sample("feature_spec", contract)
    audited(lake, "criteo", "sequences")
    newer = replace(spec_of(contract), channels=("a", "b", "c"))
    write_partition(lake, table, contract, rows, ds="2017-01-09", sidecar=newer.to_json(), spec_version=newer.version)
    assert audit_partition(lake, "sequences", contract, DAY).verdict == PASS
    assert audit_partition(lake, "sequences", contract, DAY, spec=newer).verdict == FAIL


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"kept": True}, {"encodable"}),
        ({"kept": True, "role": "numeric", "std": 0.0}, {"encodable"}),
        ({"kept": True, "role": "numeric", "std": 1.0, "reason": ""}, set()),
    ],
)
def test_what_is_kept_can_be_encoded(lake, change, rules):
    rows = rows_of("criteo", "feature_spec")
    rows[0] |= {"reason": "", **change}
    audit = audited(lake, "criteo", "feature_spec", rows, sidecar=spec_with(get_dataset("criteo"), kept=True))
    assert failures(audit) == {f"{IN_SET}({rule})": "critical" for rule in rules}


def test_a_feature_decided_twice_fails(lake):
    rows = rows_of("criteo", "feature_spec")
    assert failures(audited(lake, "criteo", "feature_spec", [*rows, rows[0]])) == {f"{UNIQUE}(name)": "critical"}


@pytest.mark.parametrize("sidecar", [None, "{}", "not json"])
def test_a_feature_spec_without_a_readable_sidecar_fails(lake, sidecar):
    audit = audited(lake, "criteo", "feature_spec", sidecar=sidecar)
    assert failures(audit) == {"expect_sidecar_to_agree_with_rows": "critical"}
    assert "unreadable" in audit.failed[0].observed


def test_a_sidecar_that_keeps_another_feature_fails_and_names_it(lake):
    contract = get_dataset("criteo")
    audit = audited(lake, "criteo", "feature_spec", sidecar=spec_with(contract, kept=True))
    assert failures(audit) == {"expect_sidecar_to_agree_with_rows": "critical"}
    assert spec_of(contract).features[0].name in audit.failed[0].observed


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_column_fails_and_nothing_else_is_judged(lake, name):
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


def test_another_type_deep_inside_a_nested_column_fails_where_they_differ(lake):
    def bend(schema: pa.Schema) -> pa.Schema:
        at = schema.get_field_index("pending")
        entry = pa.struct([("known_at_ms", pa.int32()), ("channel", pa.string()), ("gain", pa.string())])
        return schema.set(at, pa.field("pending", pa.list_(entry)))

    rows = rows_of("criteo", "journeys")
    for row in rows:
        row["pending"] = []
    audit = audited(lake, "criteo", "journeys", rows, schema=bend)
    assert failures(audit) == {f"{TYPE}(pending)": "critical"}
    assert "INTEGER" in audit.failed[0].observed


def test_a_column_that_the_contract_does_not_know_is_a_warning(lake):
    audit = audited(lake, "criteo", "exposures", schema=lambda s: s.append(pa.field("attribution_2", pa.int64())))
    assert failures(audit) == {"expect_table_columns_to_be_in_contract": "warning"}
    assert "attribution_2" in audit.failed[0].observed


@pytest.mark.parametrize("chosen", ["* EXCLUDE (cost), 'much' AS cost", "* EXCLUDE (cost)"])
def test_a_file_that_differs_from_the_others_is_seen(lake, chosen):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "exposures")
    file = lake["exposures", "criteo", DAY].path / "1-part.parquet"
    rows = f"read_parquet('{file}', hive_partitioning = false)"
    duckdb.sql(f"COPY (SELECT {chosen} FROM {rows}) TO '{file}.new' (FORMAT parquet)")
    file.with_name(f"{file.name}.new").replace(file)
    found = failures(audit_partition(lake, "exposures", contract, DAY))
    assert set(found) == {f"{TYPE}(cost)", "expect_fingerprint_to_equal_manifest"}


def test_a_row_count_unlike_the_manifest_fails(lake):
    audit = audited(
        lake, "criteo", "exposures", rows=None, **{"counts": {"rows_in": 9, "duplicates": 1, "quarantined": 0}}
    )
    assert audit.verdict == PASS
    manifest = lake["exposures", "criteo", DAY].path / MANIFEST
    stated = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(stated | {"rows": 9, "counts": stated["counts"] | {"rows_in": 10}}))
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
def test_a_raw_row_that_is_nowhere_fails(lake, counts):
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == {"expect_rows_in_to_be_accounted_for": "critical"}


@pytest.mark.parametrize("name", ["channel_policies", "user_reward_ranks", "budget_plan"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_user_of_the_journeys_who_is_not_scored_fails(lake, dataset, name):
    audit = audited(lake, dataset, name, rows_of(dataset, name)[:-1])
    assert failures(audit) == {SCORED: "critical"}
    assert audit.failed[0].observed == "3, not 4"
    table, rows = sample(name, get_dataset(dataset))
    write_partition(Lake(lake.root / "other"), table, get_dataset(dataset), rows)
    audit = audit_partition(Lake(lake.root / "other"), name, get_dataset(dataset), DAY)
    assert failures(audit) == {SCORED: "critical"}


@pytest.mark.parametrize("policy", ["explicit", "implicit", "initial"])
def test_a_negative_share_fails(lake, policy):
    rows = rows_of("criteo", "channel_allocation")
    rows[0][policy], rows[1][policy] = -0.5, 1.5
    assert failures(audited(lake, "criteo", "channel_allocation", rows)) == {f"{BETWEEN}({policy})": "critical"}


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_exposure_that_is_no_label_fails(lake, dataset):
    audit = audited(lake, dataset, "sequences", rows_of(dataset, "sequences")[:-1])
    assert failures(audit) == {LABELS: "critical"}
    assert audit.failed[0].observed == "6, not 10"


@pytest.mark.parametrize("told_by", ["journeys", "exposures"])
def test_only_the_first_exposure_ever_of_a_user_is_no_label(lake, told_by):
    """User 0's first exposure is yesterday's; of the other three users it is today's."""
    contract, yesterday = get_dataset("criteo"), "2017-01-01"
    table, rows = sample(told_by, contract)
    write_partition(lake, table, contract, [r for r in rows if r["user_id"] == 0][:1], ds=yesterday)
    inputs = {f"exposures/dataset=criteo/ds={yesterday}": "f" * 64} if told_by == "exposures" else {}
    audit = audited(lake, "criteo", "sequences", inputs=inputs)
    assert failures(audit) == {LABELS: "critical"}
    assert audit.failed[0].observed == "10, not 11"
    exposures, _ = sample("exposures", contract)
    write_partition(lake, exposures, contract, [r for r in shown_in_windows(contract) if r["exposure_id"] != 0])
    assert audit_partition(lake, "sequences", contract, DAY).verdict == PASS


def test_refused_rows_must_be_in_quarantine(lake):
    counts = {"rows_in": 11, "duplicates": 0, "quarantined": 3}
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == {"expect_quarantine_to_hold_the_refused_rows": "critical"}
    audited(lake, "criteo", "quarantine")
    assert audited(lake, "criteo", "exposures", counts=counts).verdict == PASS


@pytest.mark.parametrize(("quarantined", "failed"), [(8, set()), (9, {"expect_most_rows_to_be_usable"})])
def test_a_day_mostly_refused_fails(lake, quarantined, failed):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows[:1] * quarantined)
    counts = {"rows_in": 8 + quarantined, "duplicates": 0, "quarantined": quarantined}
    audit = audited(lake, "criteo", "exposures", counts=counts)
    assert failures(audit) == dict.fromkeys(failed, "critical")
    assert [o.observed for o in audit.failed] == ["9 of 17, not at most 50%"] * len(failed)


@pytest.mark.parametrize(("rows_in", "failed"), [(6, set()), (5, {"expect_most_rows_to_be_usable"})])
def test_a_log_mostly_undated_fails(lake, rows_in, failed):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows, ds=UNDATED, counts={"rows_in": rows_in})
    assert failures(audit_partition(lake, "quarantine", contract, UNDATED)) == dict.fromkeys(failed, "critical")


def test_files_changed_after_publishing_fail(lake):
    audited(lake, "criteo", "exposures")
    extra = lake["exposures", "criteo", DAY].path / "2-part.parquet"
    duckdb.sql(f"COPY (SELECT * FROM '{extra.parent}/0-part.parquet' LIMIT 0) TO '{extra}' (FORMAT parquet)")
    audit = audit_partition(lake, "exposures", get_dataset("criteo"), DAY)
    assert failures(audit) == {"expect_fingerprint_to_equal_manifest": "critical"}


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:40] + b"\xff" * 200 + b[240:]]
)
def test_a_damaged_file_fails_in_one_line(lake, damage):
    audited(lake, "criteo", "journeys")
    file = lake["journeys", "criteo", DAY].path / "0-part.parquet"
    file.write_bytes(damage(file.read_bytes()))
    audit = audit_partition(lake, "journeys", get_dataset("criteo"), DAY)
    assert {"expect_fingerprint_to_equal_manifest", "expect_files_to_be_readable"} == set(failures(audit))
    assert "\n" not in audit.describe(audit.failed[-1])


def test_a_rule_that_duckdb_cannot_compute_is_no_fault_of_the_files(lake):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "exposures")
    broken = replace(contract, quality=replace(contract.quality, rows=(RowRule("holds", "clikc = 1", "x"),)))
    with pytest.raises(UserError, match=f"cannot audit exposures/criteo/{DAY}, though its own files.*clikc"):
        audit_partition(lake, "exposures", broken, DAY)


def test_a_broken_file_of_another_partition_is_no_fault_of_this_one(lake):
    audited(lake, "criteo", "sequences")
    shown = lake["exposures", "criteo", DAY].path / "0-part.parquet"
    shown.write_bytes(shown.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"cannot audit sequences/criteo/{DAY}, though its own files can be read"):
        audit_partition(lake, "sequences", get_dataset("criteo"), DAY)


def test_a_partition_of_another_day_fails(lake):
    audited(lake, "criteo", "quarantine")
    lake["quarantine", "criteo", DAY].path.rename(lake["quarantine", "criteo", "2017-01-05"].path)
    audit = audit_partition(lake, "quarantine", get_dataset("criteo"), "2017-01-05")
    assert failures(audit) == {"expect_manifest_to_name_the_partition": "critical"}


@pytest.mark.parametrize("left", ["_manifest.json", "0-part.parquet"])
def test_half_a_partition_fails(lake, left):
    audited(lake, "criteo", "exposures")
    for path in lake["exposures", "criteo", DAY].path.iterdir():
        if path.name != left:
            path.unlink()
    audit = audit_partition(lake, "exposures", get_dataset("criteo"), DAY)
    assert failures(audit) == {"expect_partition_to_be_published": "critical"}


def test_findings_name_counts_and_examples_with_their_key(lake):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    rows[5]["cost"] = -1.0
    audit = audited(lake, "criteo", "exposures", rows)
    assert {o.name: audit.describe(o) for o in audit.failed} == {
        f"{UNIQUE}(exposure_id)": "2 of 8 rows, e.g. 100, 100",
        f"{BETWEEN}(cost)": "1 of 8 rows, e.g. -1 (exposure_id 105)",
    }


def test_a_rule_that_cannot_be_computed_is_an_error_of_ours_not_a_pass(lake, monkeypatch):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, rows)
    broken = replace(table, expectations=(Expectation("expect_column_mean_to_be_between",
                                                      {"column": "reason", "min_value": 0}, "nonsense"),))  # fmt: skip
    monkeypatch.setattr("jobs.quality.audits.table_contract", lambda *_: broken)
    with pytest.raises(RuntimeError, match="cannot compute expect_column_mean_to_be_between"):
        audit_partition(lake, "quarantine", contract, DAY)


@pytest.mark.parametrize(
    ("key", "rule"),
    [(("raw",), f"{UNIQUE}(raw)"), (("raw", "reason"), "expect_compound_columns_to_be_unique(raw, reason)")],
)
def test_a_key_is_unique_even_where_no_rule_says_so(lake, monkeypatch, key, rule):
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, [*rows, rows[0]])
    monkeypatch.setattr("jobs.quality.audits.table_contract", lambda *_: replace(table, key=key))
    assert failures(audit_partition(lake, "quarantine", contract, DAY)) == {rule: "critical"}


def test_the_command_stops_the_day_on_a_critical_failure(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    audited(lake, "criteo", "exposures", rows)
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposures", "--from", DAY, "--to", DAY)
    assert (
        f"critical exposures/criteo/{DAY}: {UNIQUE}(exposure_id): 2 of 8 rows, e.g. 100, 100"
        " — an exposure counted twice distorts every rate\n"
    ) in capsys.readouterr().out


def test_tables_of_one_command_are_all_audited_and_stop_the_day_together(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    audited(lake, "criteo", "exposures", rows)
    audited(lake, "criteo", "quarantine")
    asked = ("--dataset", "criteo", "--table", "exposures", "quarantine", "--from", DAY, "--to", DAY)
    with pytest.raises(UserError, match=f"^exposures/criteo/{DAY} failed its audit: "):
        run(monkeypatch, lake, *asked)
    said = capsys.readouterr().out
    assert f"pass quarantine/criteo/{DAY}: " in said
    assert "e.g. 100, 100" in said
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, *asked, "--new")
    assert "quarantine/" not in capsys.readouterr().out  # passed before


def test_the_command_goes_on_after_warnings(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[0]["channel"] = None
    audited(lake, "criteo", "exposures", rows)
    run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposures")
    assert f"warning exposures/criteo/{DAY}: {NOT_NULL}(channel): 1 of 8 rows" in capsys.readouterr().out


def test_the_command_keeps_results_and_pages_for_each_day(lake, monkeypatch, capsys):
    contract = get_dataset("criteo")
    table, rows = sample("channel_policies", contract)
    days = ["2017-01-02", "2017-01-04"]
    users, journeys = sample("journeys", contract)
    for day in days:
        write_partition(lake, users, contract, journeys, ds=day)
        write_partition(lake, table, contract, rows, ds=day)
    asked = ("--dataset", "criteo", "--table", "channel_policies")
    run(monkeypatch, lake, *asked, "--from", "2017-01-01", "--to", "2017-01-04")
    assert "no partition for 2017-01-01, 2017-01-03" in capsys.readouterr().out
    assert [a.ds for a in stored_audits(lake, contract)] == days
    stored = Audit.from_json((lake.audits("criteo") / "channel_policies" / f"{days[0]}.json").read_text())
    assert stored == audit_partition(lake, "channel_policies", contract, days[0])
    for page in (INDEX, *(f"channel_policies/{day}.html" for day in days)):
        assert (lake.docs("criteo") / page).is_file()
    assert not list(lake.staging.iterdir())


def test_the_command_refuses_a_range_without_partitions(lake, monkeypatch):
    audited(lake, "criteo", "exposures")
    asked = ("--dataset", "criteo", "--table", "exposures")
    with pytest.raises(UserError, match=r"no exposures for criteo from 2016-01-01 to 2016-01-03 in .*there are"):
        run(monkeypatch, lake, *asked, "--from", "2016-01-01", "--to", "2016-01-03")
    with pytest.raises(UserError, match="unknown table 'exposure'"):
        run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposure")


def test_a_range_without_refused_rows_is_fine_and_undated_ones_are_audited(lake, monkeypatch, capsys):
    asked = ("--dataset", "criteo", "--table", "quarantine", "--from", DAY, "--to", DAY)
    with pytest.raises(UserError, match="no such folder"):
        run(monkeypatch, lake, *asked)
    lake.root.mkdir()
    run(monkeypatch, lake, *asked)
    assert "no partition to audit" in capsys.readouterr().out
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, [rows[0] | {"reason": ""}], ds=UNDATED, counts={"rows_in": 9})
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, *asked)


def test_nothing_calls_home(lake, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert audited(lake, "criteo", "exposures").verdict == PASS


def test_a_day_of_200_000_exposures_loads_only_the_columns_that_rules_mention(lake, monkeypatch):
    contract = get_dataset("kuairand")
    table, rows = sample("exposures", contract)
    write_partition(lake, table, contract, rows)
    small = lake["exposures", "kuairand", DAY].path
    with staging_folder(lake) as staged:
        duckdb.sql(
            "SELECT * EXCLUDE (range) REPLACE (row_number() OVER () AS exposure_id)"
            f" FROM read_parquet('{small}/*.parquet', hive_partitioning = false), range(25_000)"
        ).write_parquet(f"{staged}/0-part.parquet")
        counts = {"rows_in": 200_000, "duplicates": 0, "quarantined": 0}
        lake["exposures", "kuairand", DAY].publish(staged, rows=200_000, inputs={}, code="0", counts=counts)
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
