"""The rules about rows: one planted fault fails exactly its rule."""

import duckdb
import pytest
from audit_cases import DATASETS, FINITE, IN_RANGE, IN_SET, NOT_NULL, UNIQUE, audited, failures, rows_of
from audit_samples import (
    DAY,
    Rows,
    sample,
    spec_with,
    write_basis,
    write_partition,
)

from jobs.quality.audit_results import FAIL, PASS, WARN
from jobs.quality.audits import audit_partition
from schemas.contract import Expectation
from schemas.dataset import get_dataset
from schemas.splits import split_of
from schemas.tables.registry import TABLES

# (table, dataset, row, change, the rules that fail). One fault, one rule.
IS_IN_BOX = f"{IN_SET}(is_in_box)"
FAULTS = [
    ("exposures", "criteo", 3, {"exposure_id": 100}, {f"{UNIQUE}(exposure_id)"}),
    ("exposures", "criteo", 0, {"user_id": None}, {f"{NOT_NULL}(user_id)"}),
    ("exposures", "criteo", 0, {"cost": -1.0}, {f"{IN_RANGE}(cost)"}),
    ("exposures", "criteo", 0, {"cost": float("nan")}, {f"{FINITE}(cost)"}),
    ("exposures", "criteo", 0, {"click": 2}, {f"{IN_SET}(click)"}),
    ("exposures", "criteo", 0, {"click": 1, "conversion": 1}, {f"{IN_SET}(conversion_has_time)"}),
    ("exposures", "criteo", 1, {"conversion_at_ms": 5}, {f"{IN_SET}(conversion_has_time)"}),
    ("exposures", "kuairand", 0, {"channel": "huge"}, {f"{IN_SET}(channel)"}),
    ("exposures", "kuairand", 0, {"propensity": 0.0}, {f"{IN_RANGE}(propensity)"}),
    ("exposures", "kuairand", 0, {"propensity": float("inf")}, {f"{FINITE}(propensity)", f"{IN_RANGE}(propensity)"}),
    ("quarantine", "criteo", 0, {"reason": ""}, {"expect_column_value_lengths_to_be_between(reason)"}),
    ("quarantine", "criteo", 0, {"reason": None}, {f"{NOT_NULL}(reason)"}),
    ("journeys", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("journeys", "criteo", 1, {"memory": []}, {f"{IN_RANGE}(steps)"}),
    ("journeys", "criteo", 1, {"memory": None}, {f"{NOT_NULL}(memory)", f"{IN_SET}(in_order)",
                                                 f"{IN_SET}(counts_all)"}),
    ("journeys", "criteo", 1, {"pending": [{"known_at_ms": 5, "channel": "a", "gain": "click"}]},
     {f"{IN_RANGE}(next_known_ms)"}),
    ("steps", "criteo", 3, {"exposure_id": 100}, {f"{UNIQUE}(exposure_id)", "expect_rows_to_be_those_of_exposures"}),
    ("steps", "criteo", 3, {"exposure_id": 7}, {"expect_rows_to_be_those_of_exposures"}),
    ("steps", "criteo", 3, {"seen_exposures": 4}, {f"{IN_SET}(in_journey)"}),
    ("steps", "criteo", 3, {"gap_s": -1.0}, {f"{IN_RANGE}(gap_s)"}),
    ("steps", "criteo", 3, {"session_age_s": -1.0}, {f"{IN_RANGE}(session_age_s)"}),
    ("steps", "criteo", 3, {"session_exposures": 4}, {f"{IN_SET}(in_session)"}),
    ("steps", "criteo", 3, {"seen_click": 4}, {f"{IN_SET}(no_gain_without_exposure)"}),
    ("item_history", "criteo", 1, {"value": "a"}, {"expect_compound_columns_to_be_unique(item, value)"}),
    ("item_history", "criteo", 1, {"item": "cat1"}, {f"{IN_SET}(item)"}),
    ("item_history", "criteo", 1, {"exposures": 0, "click": 0, "conversion": 0}, {f"{IN_RANGE}(exposures)"}),
    ("item_history", "criteo", 1, {"click": 4}, {f"{IN_SET}(no_gain_without_exposure)"}),
    ("feature_spec", "criteo", 0, {"role": "text"}, {f"{IN_SET}(role)"}),
    ("feature_spec", "criteo", 0, {"reason": ""}, {f"{IN_SET}(explained)"}),
    ("feature_spec", "criteo", 0, {"name": "other"}, {"expect_sidecar_to_agree_with_rows"}),
    ("sequences", "criteo", 1, {"user_id": 0, "split": split_of(0)},
     {"expect_compound_columns_to_be_unique(user_id, window)", f"{IN_SET}(labelled_once)",
      "expect_labels_to_be_steps_of_the_day"}),
    ("sequences", "criteo", 1, {"split": "dev"}, {f"{IN_SET}(split)", f"{IN_SET}(split_is_right)"}),
    ("channel_policies", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", 0.75), ("b", 0.2)]}, {f"{IN_RANGE}(total)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", 1.5), ("b", -0.5)]}, {f"{IN_RANGE}(lowest)"}),
    ("channel_policies", "criteo", 0, {"policy": [("a", float("nan")), ("b", 1.0)]}, {f"{NOT_NULL}(total)"}),
    ("channel_policies", "criteo", 0, {"channel": "b"}, {f"{IN_SET}(is_best)"}),
    ("channel_policies", "criteo", 0, {"channel": "elsewhere"}, {f"{IN_SET}(is_best)"}),
    ("channel_policies", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("channel_policies", "criteo", 0, {"basis": "value"}, {f"{IN_SET}(is_best)"}),
    ("channel_policies", "criteo", 0, {"basis": "guess", "explored": True, "channel": "b"}, {f"{IN_SET}(basis)"}),
    ("channel_policies", "criteo", 0, {"propensity": 0.0}, {f"{IN_RANGE}(propensity)", f"{IN_SET}(chance_is_right)"}),
    ("channel_policies", "criteo", 0, {"propensity": 0.5}, {f"{IN_SET}(chance_is_right)"}),
    ("channel_policies", "criteo", 0, {"expected_click": [("a", 1.5), ("b", 0.2)]}, {f"{IN_SET}(probable)"}),
    ("user_reward_ranks", "criteo", 0, {"rank": 9}, {f"{IN_SET}(rank_is_right)"}),
    ("user_reward_ranks", "criteo", 0, {"predicted_reward": 1.1}, {f"{IN_RANGE}(predicted_reward)"}),
    ("user_reward_ranks", "criteo", 0, {"predicted_click": -0.1}, {f"{IN_RANGE}(predicted_click)"}),
    ("user_reward_ranks", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("user_embeddings", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("user_embeddings", "criteo", 1, {"embedding": [0.5]}, {f"{IN_SET}(same_size)"}),
    ("user_embeddings", "criteo", 1, {"embedding": [0.5, float("inf")]},
     {"expect_column_values_to_be_finite(embedding)"}),
    ("fusion_weights", "criteo", 0, {"power_click": -0.1}, {f"{IN_RANGE}(power_click)", IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"power_conversion": 2.1}, {f"{IN_RANGE}(power_conversion)", IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"bias_click": 0.2}, {f"{IN_RANGE}(bias_click)", IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"bias_conversion": -0.1}, {f"{IN_RANGE}(bias_conversion)", IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"power_click": 0.04, "power_conversion": 0.05, "behaviour_power_click": 0.04,
                                     "behaviour_power_conversion": 0.05}, {f"{IN_SET}(ranks_candidates)"}),
    ("fusion_weights", "criteo", 0, {"half_width": 0.0}, {f"{IN_RANGE}(half_width)"}),
    ("fusion_weights", "criteo", 0, {"power_click": 1.16}, {IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"bias_click": 0.058}, {IS_IN_BOX}),
    ("fusion_weights", "criteo", 0, {"behaviour_power_click": 1.1}, {f"{IN_SET}(differs_between_users)"}),
    ("fusion_weights", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("fusion_exposures", "criteo", 0, {"power_click": 2.1}, {f"{IN_RANGE}(power_click)", IS_IN_BOX}),
    ("fusion_exposures", "criteo", 0, {"power_conversion": -0.1}, {f"{IN_RANGE}(power_conversion)", IS_IN_BOX}),
    ("fusion_exposures", "criteo", 0, {"bias_click": 0.2}, {f"{IN_RANGE}(bias_click)", IS_IN_BOX}),
    ("fusion_exposures", "criteo", 0, {"bias_conversion": -0.1}, {f"{IN_RANGE}(bias_conversion)", IS_IN_BOX}),
    ("fusion_exposures", "criteo", 1, {"draw": 0}, {"expect_compound_columns_to_be_unique(request_id, draw)"}),
    ("fusion_exposures", "criteo", 0, {"propensity": 0.0}, {f"{IN_SET}(is_likely)"}),
    ("fusion_exposures", "criteo", 0, {"reward_consumption": -0.1}, {f"{IN_RANGE}(reward_consumption)"}),
    ("fusion_exposures", "criteo", 0, {"reward_others": -0.1}, {f"{IN_RANGE}(reward_others)"}),
    ("task_predictions", "criteo", 0, {"rank_product": 9}, {f"{IN_SET}(rank_is_right)"}),
    ("task_predictions", "criteo", 0, {"predicted_click": 1.1}, {f"{IN_RANGE}(predicted_click)"}),
    ("task_predictions", "criteo", 0, {"predicted_product": 1.1}, {f"{IN_RANGE}(predicted_product)"}),
    ("task_predictions", "criteo", 0, {"predicted_click_conversion": 1.1},
     {f"{IN_RANGE}(predicted_click_conversion)"}),
    ("channel_allocation", "criteo", 0, {"channel": "b"}, {f"{UNIQUE}(channel)"}),
    ("channel_allocation", "criteo", 0, {"explicit": 0.4}, {f"{IN_RANGE}(explicit_total)"}),
    ("channel_allocation", "criteo", 0, {"implicit": 0.5}, {f"{IN_RANGE}(implicit_total)"}),
    ("channel_allocation", "criteo", 0, {"initial": 0.4}, {f"{IN_RANGE}(initial_total)"}),
    ("channel_allocation", "criteo", 0, {"gained": 11}, {f"{IN_SET}(counts_nest)"}),
    ("channel_allocation", "criteo", 1, {"position": 2}, {f"{IN_SET}(in_place)"}),
    ("budget_plan", "criteo", 1, {"user_id": 0}, {f"{UNIQUE}(user_id)"}),
    ("budget_plan", "criteo", 2, {"expected_reward": 1.5}, {f"{IN_RANGE}(expected_reward)"}),
    ("budget_plan", "criteo", 2, {"expected_cost_nano": -1}, {f"{IN_RANGE}(expected_cost_nano)"}),
    ("budget_plan", "criteo", 2, {"selected": True}, {f"{IN_SET}(within_budget)", f"{IN_SET}(within_bound)"}),
    ("budget_plan", "criteo", 1, {"expected_reward": 0.5}, {f"{IN_SET}(within_bound)"}),
    ("budget_plan", "criteo", 3, {"budget_nano": 79}, {f"{IN_SET}(within_budget)"}),
    ("budget_plan", "criteo", 0, {"source": "guess"}, {f"{IN_SET}(source)"}),
    ("prequential", "criteo", 1, {"head": "channel"}, {"expect_compound_columns_to_be_unique(model_version, head)"}),
    ("prequential", "criteo", 1, {"head": "weather"}, {f"{IN_SET}(head)"}),
    ("prequential", "criteo", 1, {"trained_through": "2030-01-01"}, {f"{IN_SET}(is_unseen)"}),
    ("prequential", "criteo", 1, {"logloss": -0.1}, {f"{IN_RANGE}(logloss)"}),
    ("prequential", "criteo", 1, {"predicted_rate": 1.5}, {f"{IN_RANGE}(predicted_rate)"}),
    ("prequential", "criteo", 1, {"predicted_rate": -0.5}, {f"{IN_RANGE}(predicted_rate)"}),
    ("prequential", "criteo", 1, {"rate": 1.5}, {f"{IN_RANGE}(rate)"}),
    ("prequential", "criteo", 1, {"labels": 5_000, "predicted_rate": None}, {f"{NOT_NULL}(calibration)"}),
    ("prequential", "criteo", 1, {"labels": 5_000, "rate": None}, {f"{NOT_NULL}(calibration)"}),
    ("promotions", "criteo", 1, {"check": "channel"}, {"expect_compound_columns_to_be_unique(challenger, check)"}),
    ("promotions", "criteo", 1, {"decision": "perhaps"}, {f"{IN_SET}(decision)"}),
    ("promotions", "criteo", 1, {"decision": "promoted"}, {f"{IN_SET}(follows)"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "dataset", "row", "change", "rules"), FAULTS)
def test_one_fault_in_a_row_fails_exactly_its_rule(lake, name, dataset, row, change, rules):
    rows = rows_of(dataset, name)
    rows[row] |= change
    audit = audited(lake, dataset, name, rows)
    assert failures(audit) == dict.fromkeys(rules, "critical")
    assert audit.verdict == FAIL


def test_a_champion_that_is_worse_than_a_fresh_fit_is_a_warning_that_does_not_change_the_decision(lake):
    rows = rows_of("criteo", "promotions")
    for promoted_row in rows:
        promoted_row |= {"decision": "promoted", "passed": True}
    rows.append({**rows[0], "check": "channel_against_fresh_fit"})
    assert failures(audited(lake, "criteo", "promotions", rows)) == {}
    rows[-1]["passed"] = False
    assert failures(audited(lake, "criteo", "promotions", rows)) == {f"{IN_SET}(keeps_up)": "warning"}


@pytest.mark.parametrize(("rate", "predicted", "labels", "failed"), [
    (0.25, 0.5, 5_000, True),
    (0.5, 0.25, 5_000, True),
    (0.0, 0.3, 5_000, True),  # the worst case: a predicted gain that never happens
    (0.3, 0.0, 5_000, True),
    (0.25, 0.3, 5_000, False),
    (0.0, 0.0, 5_000, False),
    (0.0, 0.3, 5, False),  # five labels are too few to judge
    (None, None, 0, False),
])  # fmt: skip
def test_a_badly_calibrated_day_is_a_warning(lake, rate, predicted, labels, failed):
    rows = rows_of("criteo", "prequential")
    rows[1] |= {"rate": rate, "predicted_rate": predicted, "labels": labels}
    expected = {f"{IN_RANGE}(calibration)": "warning"} if failed else {}
    assert failures(audited(lake, "criteo", "prequential", rows)) == expected


def test_every_rule_of_every_table_has_a_planted_fault():
    """Each rule of a contract needs a test in which it fails."""
    planted = {(name, rule) for name, _, _, _, rules in FAULTS for rule in rules} | {
        (name, rule) for name, rules in PLANTED_ELSEWHERE.items() for rule in rules
    }
    for name in TABLES:
        for dataset in ("criteo", "kuairand"):
            contract = get_dataset(dataset)
            for expectation in sample(name, contract)[0].expectations:
                assert _planted(name, expectation, planted), f"{name}: {expectation}"


# The same rules for the objectives of KuaiRand.
_FUSION_OF_KUAIRAND = {
    f"{IN_RANGE}({column}_{objective.name})"
    for column in ("power", "bias")
    for objective in get_dataset("kuairand").objectives
}
PLANTED_ELSEWHERE = {
    "fusion_weights": _FUSION_OF_KUAIRAND,
    "fusion_exposures": _FUSION_OF_KUAIRAND,
    "exposures": {f"{NOT_NULL}(channel)", "expect_column_mean_to_be_between(click)",
                  f"{IN_SET}(conversion)", f"{IN_SET}(long_view)"}
                 | {f"{IN_SET}({rule.name})" for name in ("criteo", "kuairand")
                    for rule in get_dataset(name).quality.rows},  # in test_planted_faults.py
    "prequential": {f"{IN_RANGE}(calibration)"},
    "promotions": {f"{IN_SET}(keeps_up)"},
    "journeys": {f"{IN_SET}({c})" for c in ("in_order", "counts_all", "no_step_twice", "no_gain_without_exposure")},
    "feature_spec": {f"{UNIQUE}(name)", f"{IN_SET}(encodable)"},
    "sequences": {f"{IN_RANGE}(length)"} | {
        f"{IN_SET}({c})" for c in ("one_length", "has_all_positions", "left_padded", "has_labels", "labelled_once",
                                   "enough_context")
    },  # in test_window_rules.py
    "channel_policies": {f"{IN_SET}(policies_differ)", f"{IN_SET}(recommendations_differ)"},
    "user_embeddings": {f"{IN_SET}(users_differ)"},  # in tests/mtorl_model/inference/test_user_embeddings.py
    "task_predictions": {f"{UNIQUE}(user_id)", f"{IN_RANGE}(predicted_click_long_view)"},
    "user_reward_ranks": {f"{UNIQUE}(user_id)", f"{IN_RANGE}(predicted_conversion)",
                          f"{IN_RANGE}(predicted_long_view)"},
    "channel_allocation": {f"{IN_RANGE}({name})" for name in ("explicit", "implicit", "initial")},
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
        {**row, "exposure_id": 8 * k + i} for k in range(50) for i, row in enumerate(rows_of("criteo", "exposures"))
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
    assert failures(audited(lake, dataset, "exposures", rows)) == {f"{IN_RANGE}(exposed_at_ms)": "critical"}


@pytest.mark.parametrize("moment", ["first", "last"])
def test_a_kuairand_day_is_a_day_in_shanghai(lake, moment):
    rows = rows_of("kuairand", "exposures")
    start = duckdb.sql("SELECT epoch_ms(TIMESTAMP '2017-01-01 16:00:00')").fetchall()[0][0]
    rows[0]["exposed_at_ms"] = start if moment == "first" else start + 86_400_000 - 1
    rows[0] |= dict.fromkeys(("hour", "log_hour"), 0 if moment == "first" else 23)
    assert audited(lake, "kuairand", "exposures", rows).verdict == PASS
    rows[0]["exposed_at_ms"] += -1 if moment == "first" else 1
    assert audited(lake, "kuairand", "exposures", rows).verdict == FAIL


@pytest.mark.parametrize("gain", ["click", "conversion"])
def test_a_predicted_gain_is_a_probability(lake, gain):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[0][f"predicted_{gain}"] = 1.5
    assert failures(audited(lake, "criteo", "user_reward_ranks", rows)) == {f"{IN_RANGE}(predicted_{gain})": "critical"}


def test_equal_rewards_are_ranked_by_user_id(lake):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[1]["rank"], rows[2]["rank"] = rows[2]["rank"], rows[1]["rank"]
    audit = audited(lake, "criteo", "user_reward_ranks", rows)
    assert failures(audit) == {f"{IN_SET}(rank_is_right)": "critical"}
    assert set(audit.failed[0].examples) == {"user_id 3", "user_id 5"}


def test_a_mean_chance_far_from_the_days_rate_is_a_warning(lake):
    """Every exposure of the day brings both tasks, and hardly any is predicted; with many users that is no chance."""
    table, day_rows = sample("exposures", get_dataset("kuairand"))
    gained = [{**row, "exposure_id": k, "click": 1, "long_view": 1} for k, row in enumerate(day_rows * 40)]
    rows = [{**row, "user_id": 10_000 + k} for k, row in enumerate(rows_of("kuairand", "task_predictions") * 40)]
    names = ("click", "click_long_view", "product")
    for k, row in enumerate(rows, start=1):
        row |= {f"predicted_{name}": 0.02 for name in names} | {f"rank_{name}": k for name in names}
    write_basis(lake, "task_predictions", get_dataset("kuairand"))
    write_partition(lake, table, get_dataset("kuairand"), gained)
    write_partition(lake, sample("task_predictions", get_dataset("kuairand"))[0], get_dataset("kuairand"), rows)
    failed = failures(audit_partition(lake, "task_predictions", get_dataset("kuairand"), DAY))
    for task in ("click", "click_long_view"):
        assert failed[f"expect_mean_prediction_to_be_near_observed(predicted_{task})"] == "warning"


def test_a_user_ranked_twice_fails(lake):
    rows = rows_of("criteo", "user_reward_ranks")
    rows[2]["user_id"] = 3
    assert failures(audited(lake, "criteo", "user_reward_ranks", rows))[f"{UNIQUE}(user_id)"] == "critical"


def test_a_warning_does_not_fail_the_audit(lake):
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


def test_a_journey_with_fewer_counted_exposures_than_steps_fails(lake):
    rows = rows_of("criteo", "journeys")
    rows[2]["next_step"]["seen_exposures"] = 2
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{IN_SET}(counts_all)": "critical"}


def test_a_journey_with_a_step_of_a_later_day_fails(lake):
    rows = rows_of("criteo", "journeys")
    rows[2]["memory"][-1]["exposed_at_ms"] += 86_400_000
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{IN_RANGE}(newest_ms)": "critical"}


def test_a_journey_with_too_many_steps_fails(lake):
    rows = rows_of("criteo", "journeys")
    step = rows[0]["memory"][0]
    rows[0]["memory"] = [{**step, "exposure_id": k} for k in range(41)]
    rows[0]["next_step"]["seen_exposures"] = 41
    assert failures(audited(lake, "criteo", "journeys", rows)) == {f"{IN_RANGE}(steps)": "critical"}


def _policies_of(users: int, channel: str, *, source: str = "model", sure: float = 0.98) -> Rows:
    second = "a" if channel == "b" else "b"
    first = rows_of("criteo", "channel_policies")[0]
    return [{**first, "channel": channel, "source": source, "policy": [(channel, sure), (second, 1 - sure)]}
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
def test_policies_that_hardly_differ_between_users_are_reported(lake, parts, rules):
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


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"kept": True}, {"encodable"}),
        ({"kept": True, "role": "numeric", "std": 0.0}, {"encodable"}),
        ({"kept": True, "role": "numeric", "std": 1.0, "reason": ""}, set()),
    ],
)
def test_a_kept_feature_can_be_encoded(lake, change, rules):
    rows = rows_of("criteo", "feature_spec")
    rows[0] |= {"reason": "", **change}
    spec = spec_with(get_dataset("criteo"), kept=True)
    audit = audited(lake, "criteo", "feature_spec", rows, stored_spec=spec, spec_version=spec.version)
    assert failures(audit) == {f"{IN_SET}({rule})": "critical" for rule in rules}


def test_a_feature_decided_twice_fails(lake):
    rows = rows_of("criteo", "feature_spec")
    assert failures(audited(lake, "criteo", "feature_spec", [*rows, rows[0]])) == {f"{UNIQUE}(name)": "critical"}


@pytest.mark.parametrize("policy", ["explicit", "implicit", "initial"])
def test_a_negative_share_fails(lake, policy):
    rows = rows_of("criteo", "channel_allocation")
    rows[0][policy], rows[1][policy] = -0.5, 1.5
    assert failures(audited(lake, "criteo", "channel_allocation", rows)) == {f"{IN_RANGE}({policy})": "critical"}
