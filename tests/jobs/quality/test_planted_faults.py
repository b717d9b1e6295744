"""Faults planted in partitions that the jobs have built: each fault fails its rule and no other.

Faults in a single row, at least one for each rule of every table, are in test_row_rules.py.
"""

from dataclasses import replace

import pytest
from built_lake import replant
from lakes import linked_copy

from jobs.quality.audit_results import PASS
from jobs.quality.audits import audit_partition
from lakehouse.duckdb_view import rows_sql
from lakehouse.journeys import read_journeys
from schemas.dataset import get_dataset
from schemas.days import day_before
from schemas.tables.registry import TABLES

pytestmark = pytest.mark.spark
IN_SET, IN_RANGE = "expect_column_values_to_be_in_set", "expect_column_values_to_be_between"
FILLED = "expect_column_values_to_be_filled_as_usual"
CRITICAL, WARNING = "critical", "warning"


@pytest.mark.parametrize("dataset", ["kuairand", "criteo"])
def test_without_a_fault_no_rule_of_any_table_fails(built_lakes, dataset):
    lake, day = built_lakes[dataset]
    for table in TABLES:
        if day in lake.days(table, dataset):
            audit = audit_partition(lake, table, get_dataset(dataset), day)
            assert (table, audit.verdict, [audit.describe(o) for o in audit.failed]) == (table, PASS, [])


def changed(**values: str) -> str:
    """All rows, with new values in these columns."""
    return f"SELECT * REPLACE ({', '.join(f'{sql} AS {name}' for name, sql in values.items())}) FROM rows"


def in_first(**values: str) -> str:
    """All rows, with new values in the first row by its key."""
    first = "exposure_id = (SELECT min(exposure_id) FROM rows)"
    return changed(**{name: f"CASE WHEN {first} THEN {sql} ELSE {name} END" for name, sql in values.items()})


def in_one_of(n: int, **values: str) -> str:
    """All rows, with new values in every nth exposure."""
    chosen = f"exposure_id % {n} = 0"
    return changed(**{name: f"CASE WHEN {chosen} THEN {sql} ELSE {name} END" for name, sql in values.items()})


K, C = "kuairand", "criteo"
# The fault in words; dataset, table, and the SELECT of the faulty rows; the rule that must fail, and its severity.
FAULTS = [
    ("an exposure counted twice", K, "exposures", "FROM rows UNION ALL (FROM rows LIMIT 1)",
     "expect_column_values_to_be_unique(exposure_id)", CRITICAL),
    ("an exposure of the next day", K, "exposures", in_first(exposed_at_ms="exposed_at_ms + 86400000"),
     f"{IN_RANGE}(exposed_at_ms)", CRITICAL),
    ("hours shifted by a time zone", K, "exposures", changed(hour="((hour + 8) % 24)::INT"),
     f"{IN_SET}(hour_is_of_the_time_stamp)", CRITICAL),
    ("hours shifted by a time zone", C, "exposures", changed(hour="((hour + 8) % 24)::INT"),
     f"{IN_SET}(hour_is_of_the_time_stamp)", CRITICAL),
    ("the log's own clock elsewhere", K, "exposures", in_one_of(5, log_hour="((log_hour + 8) % 24)::INT"),
     f"{IN_SET}(log_clock_agrees)", CRITICAL),
    ("a channel outside the contract", K, "exposures", in_first(channel="'huge'"), f"{IN_SET}(channel)", CRITICAL),
    ("a negative cost", C, "exposures", in_first(cost="-1.0"), f"{IN_RANGE}(cost)", CRITICAL),
    ("a click that counts twice", K, "exposures", in_first(click="2"), f"{IN_SET}(click)", CRITICAL),
    ("a probability of zero", K, "exposures", in_first(propensity="0.0"), f"{IN_RANGE}(propensity)", CRITICAL),
    ("a number that is not a number", K, "exposures", in_first(watched_share="'nan'::DOUBLE"),
     "expect_column_values_to_be_finite(watched_share)", CRITICAL),
    ("clicks on videos that were not played", K, "exposures",
     changed(play_time_ms="CASE WHEN click = 1 THEN 0 ELSE 5000 END"), f"{IN_SET}(click_was_played)", CRITICAL),
    ("a play of weeks", K, "exposures", in_first(play_time_ms="9e9"), f"{IN_SET}(play_ends_within_a_day)", CRITICAL),
    ("one conversion without a click", C, "exposures",
     in_first(click="0", conversion="1", conversion_at_ms="exposed_at_ms + 1000"),
     f"{IN_SET}(conversion_follows_a_click)", CRITICAL),
    ("a conversion before its exposure", C, "exposures", in_first(click="1", conversion="1", conversion_at_ms="5"),
     f"{IN_SET}(conversion_has_time)", CRITICAL),
    ("a conversion that comes too late", C, "exposures",
     in_first(click="1", conversion="1", conversion_at_ms="exposed_at_ms + 2592000001"),
     f"{IN_SET}(conversion_comes_within_30_days)", CRITICAL),
    ("no clicks at all", K, "exposures", changed(click="0"), "expect_column_mean_to_be_between(click)", WARNING),
    ("channels unknown", K, "exposures", in_one_of(6, channel="NULL"), "expect_column_values_to_not_be_null(channel)",
     WARNING),
    ("a column that a person limits, emptier", K, "exposures", in_one_of(2, tag="NULL"), f"{FILLED}(tag)", WARNING),
    ("a column emptier than usual", K, "exposures", changed(user_active_degree="NULL"),
     f"{FILLED}(user_active_degree)", WARNING),
    ("a third of the day", K, "exposures", "FROM rows WHERE exposure_id % 3 = 0", "expect_rows_not_to_be_few", WARNING),
    ("a scrap of the day", K, "exposures", "FROM rows WHERE exposure_id % 20 = 0", "expect_day_to_be_delivered",
     CRITICAL),
    ("the day four times", K, "exposures",
     "SELECT * EXCLUDE (copy) REPLACE (exposure_id // 8 + copy AS exposure_id)"
     " FROM (SELECT rows.*, range AS copy FROM rows, range(4))", "expect_rows_not_to_be_many", WARNING),
    ("one channel for most", K, "exposures",
     changed(channel="CASE WHEN exposure_id % 20 <> 0 THEN 'long' ELSE channel END"),
     "expect_channel_shares_to_be_usual(channel)", WARNING),
    ("a journey backwards", K, "journeys", changed(memory="list_reverse(memory)"), f"{IN_SET}(in_order)", CRITICAL),
    ("clicks without exposures", K, "journeys",
     changed(next_step="struct_update(next_step, seen_click := next_step.seen_exposures + 1)"),
     f"{IN_SET}(no_gain_without_exposure)", CRITICAL),
    ("a step remembered twice", C, "journeys",
     changed(memory="CASE WHEN len(memory) < 40 THEN list_append(memory, memory[-1]) ELSE memory END",
             next_step="struct_update(next_step, seen_exposures := next_step.seen_exposures + 1)"),
     f"{IN_SET}(no_step_twice)", CRITICAL),
    ("a user in the wrong split", K, "sequences",
     changed(split="CASE WHEN user_id = (SELECT min(user_id) FROM rows) THEN"
                   " CASE split WHEN 'test' THEN 'train' ELSE 'test' END ELSE split END"),
     f"{IN_SET}(split_is_right)", CRITICAL),
    ("a policy of more than one", K, "channel_policies",
     changed(policy="MAP(map_keys(policy), list_transform(map_values(policy), lambda p: 1.1 * p))"),
     f"{IN_RANGE}(total)", CRITICAL),
    ("one channel for everyone", K, "channel_policies",
     changed(channel="'mid'", policy="MAP {'short': 0.01, 'mid': 0.98, 'long': 0.01}"), f"{IN_SET}(policies_differ)",
     CRITICAL),
    ("one channel for every user of the model, another for new users", K, "channel_policies",
     changed(source="CASE WHEN user_id % 3 = 0 THEN 'initial' ELSE source END",
             channel="CASE WHEN user_id % 3 = 0 THEN 'long' ELSE 'mid' END",
             policy="CASE WHEN user_id % 3 = 0 THEN MAP {'short': 0.3, 'mid': 0.3, 'long': 0.4}"
                    " ELSE MAP {'short': 0.01, 'mid': 0.98, 'long': 0.01} END"),
     f"{IN_SET}(policies_differ)", CRITICAL),
    ("one channel for everyone, but not surely", K, "channel_policies",
     changed(channel="'mid'", policy="MAP {'short': 0.3, 'mid': 0.4, 'long': 0.3}"),
     f"{IN_SET}(recommendations_differ)", WARNING),
    ("a user without a policy", K, "channel_policies", "FROM rows WHERE user_id > (SELECT min(user_id) FROM rows)",
     "expect_every_user_to_be_scored", CRITICAL),
    ("a gap in the ranks", K, "user_reward_ranks", changed(rank='CASE WHEN "rank" > 5 THEN "rank" + 1 ELSE "rank" END'),
     f"{IN_SET}(rank_is_right)", CRITICAL),
    ("a prediction out of range", K, "user_reward_ranks",
     changed(predicted_click='CASE WHEN "rank" = 3 THEN 1.2 ELSE predicted_click END'), f"{IN_RANGE}(predicted_click)",
     CRITICAL),
    ("predictions of something else", K, "user_reward_ranks", changed(predicted_click="0.97"),
     "expect_mean_prediction_to_be_near_observed(predicted_click)", WARNING),
    ("a champion far from the outcomes", C, "prequential",
     changed(predicted_rate="CASE head WHEN 'click' THEN rate * 0.4 ELSE predicted_rate END"),
     f"{IN_RANGE}(calibration)", WARNING),
    ("a champion tested on a day that it was trained on", C, "prequential", changed(trained_through="day"),
     f"{IN_SET}(is_unseen)", CRITICAL),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "table", "sql", "rule", "severity"), [f[1:] for f in FAULTS],
                         ids=[f"{f[0]}, {f[1]}" for f in FAULTS])  # fmt: skip
def test_a_planted_fault_is_caught_by_its_rule_alone(built_lakes, tmp_path, dataset, table, sql, rule, severity):
    original, day = built_lakes[dataset]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, table, dataset, day, sql)
    audit = audit_partition(lake, table, get_dataset(dataset), day)
    assert {o.name: o.severity for o in audit.failed} == {rule: severity}


def test_there_are_faults_for_at_least_twenty_rules():
    assert len({(table, rule) for _, _, table, _, rule, _ in FAULTS}) >= 20


@pytest.mark.parametrize(("quarantined", "rule", "severity"), [
    (40, "expect_few_rows_to_be_refused", WARNING),
    (5_000, "expect_most_rows_to_be_usable", CRITICAL),
])  # fmt: skip
def test_many_quarantined_rows_are_reported_with_their_reason(built_lakes, tmp_path, quarantined, rule, severity):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    row = "'log.csv' AS source_file, '1,2,3' || range AS raw, 'click is neither 0 nor 1' AS reason"
    replant(lake, "quarantine", K, day, f"SELECT {row} FROM range({quarantined})")
    replant(lake, "exposures", K, day, "FROM rows", quarantined=quarantined)
    audit = audit_partition(lake, "exposures", get_dataset(K), day)
    assert {o.name: o.severity for o in audit.failed} == {rule: severity}
    assert audit.failed[0].examples == (f"{quarantined:,} in log.csv: click is neither 0 nor 1",)


def test_a_file_that_was_delivered_twice_is_reported(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "exposures", K, day, "FROM rows", duplicates=600)
    audit = audit_partition(lake, "exposures", get_dataset(K), day)
    assert {o.name: o.severity for o in audit.failed} == {"expect_few_rows_to_be_duplicates": WARNING}


def users_with_journey(lake, day):
    journeys = read_journeys(lake, get_dataset(K), day, ["user_id"])
    return {user for rows in journeys for user in rows["user_id"].to_pylist()}


def test_windows_of_users_without_a_journey_are_reported(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    # The journeys as of the day have all other users from an earlier partition, too.
    new_users = users_with_journey(lake, day) - users_with_journey(lake, day_before(day))
    replant(lake, "journeys", K, day, f"FROM rows WHERE user_id NOT IN ({', '.join(map(str, new_users))})")
    audit = audit_partition(lake, "sequences", get_dataset(K), day)
    assert {o.name: o.severity for o in audit.failed} == {"expect_users_to_have_a_journey": CRITICAL}


def test_a_day_with_training_users_only_is_reported(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "sequences", K, day, "FROM rows WHERE split = 'train'")
    train = f"SELECT user_id FROM {rows_sql([lake['sequences', K, day]])}"
    replant(lake, "exposures", K, day, f"FROM rows WHERE user_id IN ({train})")
    audit = audit_partition(lake, "sequences", get_dataset(K), day)
    assert {o.name: o.severity for o in audit.failed} == {"expect_split_shares_to_be_as_declared": WARNING}


def test_an_excused_day_that_is_nearly_empty_is_only_a_warning(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "exposures", K, day, "FROM rows WHERE exposure_id % 20 = 0")
    dataset = get_dataset(K)
    excused = replace(dataset, quality=replace(dataset.quality, excused={day: "a public holiday"}))
    audit = audit_partition(lake, "exposures", excused, day)
    assert {o.name: o.severity for o in audit.failed} == {"expect_day_to_be_delivered": WARNING}
    assert "a public holiday" in audit.failed[0].sentence


def test_an_empty_day_is_only_a_warning(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "exposures", K, day, "FROM rows WHERE false")
    audit = audit_partition(lake, "exposures", get_dataset(K), day)
    assert {o.name: o.severity for o in audit.failed} == {"expect_day_to_be_delivered": WARNING}
