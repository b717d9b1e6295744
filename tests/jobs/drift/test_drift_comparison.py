"""Drift planted in a day that the jobs have built: each change exceeds the limits of its figures and of no others."""

import json
import shutil
import sys
from dataclasses import replace

import duckdb
import pytest
from built_lake import replant
from in_process import Jobs
from lakes import linked_copy

from jobs import measure_drift as command
from jobs.drift.measurement import measure_drift
from jobs.drift.results import DAY_BEFORE, TRAINING, Drift, store_drift, stored_drift, stored_drifts
from jobs.quality.day_profile import DayProfile, day_profile, sum_of_profiles
from lakehouse.duckdb_view import rows_sql
from lakehouse.lake import Lake, table_of
from schemas.dataset import get_dataset
from schemas.days import day_before
from schemas.errors import EXIT_NOTHING_TO_DO, EXIT_USER_ERROR, UserError

pytestmark = pytest.mark.spark
K, C = "kuairand", "criteo"


def measured(lake: Lake, dataset: str, day: str, earlier: list[Drift] | None = None) -> Drift:
    return measure_drift(lake, get_dataset(dataset), day, earlier or [])


def exceeded(drift: Drift) -> set[tuple[str, str]]:
    return {(figure.name, figure.against) for figure in drift.exceeded}


@pytest.mark.parametrize("dataset", [K, C])
def test_a_clean_day_has_figures_of_every_kind_within_their_limits(built_lakes, dataset):
    lake, day = built_lakes[dataset]
    drift = measured(lake, dataset, day)
    assert exceeded(drift) == set()
    assert {f.about for f in drift.figures} == {
        "features",
        "channels",
        "rewards",
        "calibration",
        "policy",
        "vocabulary",
    }
    assert {f.against for f in drift.figures} == {DAY_BEFORE, TRAINING, ""}
    assert drift.reference == tuple(lake.days("exposures", dataset)[:-1])
    assert len({(f.name, f.against) for f in drift.figures}) == len(drift.figures)
    assert not any(mark in f.sentence for f in drift.figures for mark in "{}")
    ratios = {f.name for f in drift.figures if f.name.startswith(("rate(", "calibration("))}
    assert {f.name for f in drift.figures if f.same == 1.0} == ratios
    assert all(f.why and f.sentence.endswith(".") for f in drift.figures)


PERIODS = (DAY_BEFORE, TRAINING)
PLANTED = [
    (K, "exposures", "SELECT * REPLACE (play_time_ms * 30 AS play_time_ms) FROM rows",
     {(f"{figure}(play_time_ms)", period) for figure in ("psi", "js") for period in PERIODS}),
    (K, "exposures", "SELECT * REPLACE ('one' AS fans_user_num_range) FROM rows",
     {(f"{figure}(fans_user_num_range)", period) for figure in ("psi", "js") for period in PERIODS}
     | {("unknown_categories(fans_user_num_range)", TRAINING)}),
    (K, "exposures",
     "SELECT * REPLACE (CASE WHEN exposure_id % 5 <> 0 THEN 'long' ELSE channel END AS channel) FROM rows",
     {("js(channel)", period) for period in PERIODS}),
    (K, "exposures", "SELECT * REPLACE (CASE WHEN exposure_id % 5 <> 0 THEN 1 ELSE click END AS click) FROM rows",
     {("rate(click)", period) for period in PERIODS}),
    (C, "exposures", "SELECT * REPLACE (cost * 50 AS cost) FROM rows",
     {(f"{figure}(cost)", period) for figure in ("psi", "js") for period in PERIODS}),
    (K, "channel_policies", "SELECT * REPLACE (MAP {'short': 0.05, 'mid': 0.05, 'long': 0.9} AS policy) FROM rows",
     {("policy_change", DAY_BEFORE), ("js(policy)", DAY_BEFORE)}),
    (K, "prequential", "SELECT * REPLACE (rate / 4 AS predicted_rate) FROM rows",
     {("calibration(click)", ""), ("calibration(long_view)", "")}),
    (K, "prequential",
     "SELECT * REPLACE (CASE head WHEN 'long_view' THEN predicted_rate END AS predicted_rate) FROM rows",
     {("calibration(click)", "")}),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "table", "sql", "expected"), PLANTED)
def test_a_planted_change_exceeds_only_the_limits_of_its_figures(built_lakes, tmp_path, dataset, table, sql, expected):
    original, day = built_lakes[dataset]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, table, dataset, day, sql)
    assert exceeded(measured(lake, dataset, day)) == expected


def test_the_policy_change_is_the_mean_total_variation_over_the_users_of_both_days(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "channel_policies", K, day_before(day),
            "SELECT * REPLACE (MAP {'short': 0.5, 'mid': 0.3, 'long': 0.2} AS policy) FROM rows")  # fmt: skip
    # About half of the users of both days change their policy; one user is new.
    stayed, moved = "MAP {'short': 0.5, 'mid': 0.3, 'long': 0.2}", "MAP {'short': 0.1, 'mid': 0.7}"
    half = f"CASE WHEN user_id % 2 = 0 THEN {stayed} ELSE {moved} END"
    replant(lake, "channel_policies", K, day, f"SELECT * REPLACE ({half} AS policy) FROM rows"
            " UNION ALL (SELECT * REPLACE (-1 AS user_id, MAP {'long': 1.0} AS policy) FROM rows LIMIT 1)")  # fmt: skip
    rows, rows_before = (rows_sql([lake["channel_policies", K, d]]) for d in (day, day_before(day)))
    users = f"(SELECT user_id FROM {rows}) SEMI JOIN (SELECT user_id FROM {rows_before}) USING (user_id)"
    odd = duckdb.sql(f"SELECT avg(user_id % 2) FROM {users}").fetchall()[0][0]
    change = next(f for f in measured(lake, K, day).figures if f.name == "policy_change")
    assert change.value == pytest.approx(odd * (0.4 + 0.4 + 0.2) / 2)


def test_late_gains_count_if_they_are_known_by_the_end_of_the_day(built_lakes, tmp_path):
    original, day = built_lakes[C]
    lake = linked_copy(original, tmp_path / "lake")
    end = get_dataset(C).end_of_day_ms(day)
    converted = "SELECT * REPLACE (1 AS click, 1 AS conversion, {} AS conversion_at_ms) FROM rows"
    replant(lake, "exposures", C, day, converted.format(end))
    assert day_profile(lake, get_dataset(C), day).gains["conversion"] == 0
    replant(lake, "exposures", C, day, converted.format(end - 1))
    profile = day_profile(lake, get_dataset(C), day)
    assert profile.gains["conversion"] == profile.exposures


def test_a_profile_is_stored_until_the_day_changes(built_lakes, tmp_path):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    dataset = get_dataset(K)
    profile = day_profile(lake, dataset, day)
    file = lake.day_profiles(K) / f"{day}.json"
    stored = json.loads(file.read_text())
    file.unlink()
    file.write_text(json.dumps(stored | {"users": 7}))
    assert day_profile(lake, dataset, day).users == 7  # read, not measured
    replant(lake, "exposures", K, day, "FROM rows LIMIT 100")
    assert day_profile(lake, dataset, day).exposures == 100
    assert sum_of_profiles([profile, profile]).columns["tag"] == {v: 2 * n for v, n in profile.columns["tag"].items()}
    assert isinstance(profile, DayProfile)


def test_a_static_column_counts_users_and_another_counts_exposures(built_lakes):
    lake, day = built_lakes[K]
    profile = day_profile(lake, get_dataset(K), day)
    assert sum(profile.columns["user_active_degree"].values()) == profile.users
    assert sum(profile.columns["hour"].values()) == sum(profile.channels.values()) == profile.exposures


def test_limits_are_learned_from_earlier_days_only(built_lakes):
    lake, day = built_lakes[K]
    drift = measured(lake, K, day)
    days = [f"2022-03-{k:02}" for k in range(1, 9)]
    earlier = [replace(drift, ds=d) for d in days]
    later = [replace(drift, ds=f"2023-03-{k:02}") for k in range(1, 9)]
    assert {f.limit_from for f in measured(lake, K, day, [*earlier[:6], *later]).figures} == {"fixed"}
    learned = measured(lake, K, day, earlier)
    assert {f.limit_from for f in learned.figures} == {"learned from 8 days"}
    psi = next(f for f in learned.figures if f.name == "psi(hour)")
    assert psi.limit < next(f.limit for f in drift.figures if f.name == "psi(hour)")


def test_the_margin_for_chance_is_added_to_fixed_and_learned_limits(built_lakes):
    """Days without a change halve the fixed part of a limit, but not the margin."""
    lake, day = built_lakes[K]
    drift, quality = measured(lake, K, day), get_dataset(K).quality
    unchanged = replace(drift, figures=tuple(replace(f, value=f.same) for f in drift.figures))
    learned = measured(lake, K, day, [replace(unchanged, ds=f"2022-03-{k:02}") for k in range(1, 9)])
    fixed, learned_limits = ({(f.name, f.against): f.limit for f in d.figures} for d in (drift, learned))
    for name, fixed_limit, learned_limit in (
        ("psi(hour)", quality.psi.value, quality.psi.value / 2),
        ("psi(play_time_ms)", quality.psi.value, quality.psi.value / 2),
    ):
        assert fixed[name, DAY_BEFORE] - fixed_limit == pytest.approx(learned_limits[name, DAY_BEFORE] - learned_limit)
        assert fixed[name, DAY_BEFORE] > fixed_limit
    rate = "rate(click)", DAY_BEFORE
    assert fixed[rate] / quality.rate.value == pytest.approx(learned_limits[rate] / (1 + (quality.rate.value - 1) / 2))


def test_only_limits_against_the_day_before_rise_after_many_bad_days(built_lakes):
    lake, day = built_lakes[K]
    drift = measured(lake, K, day)
    wrong = replace(drift, figures=tuple(replace(f, value=f.same + 50) for f in drift.figures))
    learned = measured(lake, K, day, [replace(wrong, ds=f"2022-03-{k:02}") for k in range(1, 9)])
    fixed, learned_limits = ({(f.name, f.against): f.limit for f in d.figures} for d in (drift, learned))
    assert {key for key in fixed if learned_limits[key] > fixed[key]} == {key for key in fixed if key[1] == DAY_BEFORE}
    assert {key for key in fixed if key[1] != DAY_BEFORE} >= {("calibration(click)", ""), ("psi(hour)", TRAINING)}
    assert learned_limits["policy_change", DAY_BEFORE] < 1
    assert learned_limits["js(policy)", DAY_BEFORE] < 1


def test_the_result_names_the_partitions_that_were_read(built_lakes):
    lake, day = built_lakes[K]
    inputs = measured(lake, K, day).inputs
    tables = {table_of(key) for key in inputs}
    assert tables == {"exposures", "channel_policies", "prequential", "feature_spec"}
    assert inputs[lake["exposures", K, day].key] == lake["exposures", K, day].manifest.fingerprint


def test_the_command_stores_all_figures_and_prints_the_exceeded_limits(built_lakes, tmp_path, monkeypatch, capsys):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    replant(lake, "exposures", K, day, PLANTED[2][2])
    monkeypatch.setattr(sys, "argv", ["measure_drift", "--dataset", K, "--lake", str(lake.root), "--day", day])
    command.main()
    output = capsys.readouterr().out
    assert (
        f"warning drift/{K}/{day}: js(channel): The distribution of the exposures over the channels is different "
        "from that of the day before"
    ) in output
    drift = stored_drift(lake, get_dataset(K), day)
    assert drift == Drift.from_json(drift.to_json())
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == [day]
    assert len(drift.exceeded) == 2
    store_drift(lake, replace(drift, ds=day_before(day)))
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == [day_before(day), day]
    assert stored_drift(lake, get_dataset(K), "2000-01-01") is None


def test_a_range_is_measured_oldest_first_without_the_empty_days(spark, built_lakes, tmp_path, monkeypatch, capsys):
    original, day = built_lakes[K]
    lake = linked_copy(original, tmp_path / "lake")
    jobs = Jobs(spark, lake, K, monkeypatch)
    days = lake.days("exposures", K)
    jobs.ok("measure_drift")
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == days
    one_by_one: list[Drift] = []
    for ds in days:
        one_by_one.append(measured(lake, K, ds, one_by_one))
    assert stored_drifts(lake, get_dataset(K)) == one_by_one

    shutil.rmtree(lake.drift(K))
    replant(lake, "exposures", K, days[2], "FROM rows LIMIT 0")
    jobs.ok("measure_drift", "--from", days[1], "--to", days[3])
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == [days[1], days[3]]
    assert f"info drift/{K}/{days[2]}: the day has no exposures" in capsys.readouterr().out
    assert jobs.run("measure_drift", "--day", days[2]) == EXIT_NOTHING_TO_DO  # valid, and backfilled like any other
    assert jobs.run("measure_drift", "--from", "2031-01-01") == EXIT_USER_ERROR
    assert f"there are {days[0]} to {day}" in capsys.readouterr().err
    assert jobs.run("measure_drift", "--day", day, "--to", day) == EXIT_USER_ERROR


def test_a_day_without_exposures_has_no_drift(built_lakes):
    lake, _ = built_lakes[K]
    with pytest.raises(UserError, match="no exposures for kuairand on 2001-01-01"):
        measured(lake, K, "2001-01-01")
