"""Drift planted in days of a lake that the real jobs have built: each figure sees its own; a clean day has none."""

import json
import shutil
import sys
from dataclasses import replace

import duckdb
import pytest
from built_lake import build, generate, linked_copy, publish_scores, replant
from in_process import Jobs

from jobs import measure_drift as command
from jobs.drift.measurement import measure_drift
from jobs.drift.results import DAY_BEFORE, TRAINING, Drift, store_drift, stored_drift, stored_drifts
from jobs.quality.day_profile import DayProfile, day_profile, sum_of_profiles
from lakehouse.duckdb_view import rows_sql
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import day_before
from schemas.errors import EXIT_NOTHING_TO_DO, EXIT_USER_ERROR, UserError

pytestmark = pytest.mark.spark
K, C = "kuairand", "criteo"


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory) -> dict[str, tuple[Lake, str]]:
    """For each dataset a lake of some days, and its last day. Not to be changed."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for name in (K, C):
            root = tmp_path_factory.mktemp(name)
            raw = generate(patch, root / "raw", name, users=400, days=4, seed=5)
            jobs = Jobs(spark, Lake(root / "lake"), name, patch)
            day = build(jobs, raw)[-1]
            jobs.ok("build_journeys", "--day", day_before(day))
            for of_day in (day_before(day), day):
                publish_scores(jobs.lake, get_dataset(name), of_day)
            found[name] = jobs.lake, day
    return found


def measured(lake: Lake, dataset: str, day: str, earlier: list[Drift] | None = None) -> Drift:
    return measure_drift(lake, get_dataset(dataset), day, earlier or [])


def beyond(drift: Drift) -> set[tuple[str, str]]:
    return {(figure.name, figure.against) for figure in drift.exceeded}


@pytest.mark.parametrize("dataset", [K, C])
def test_a_clean_day_has_figures_of_every_kind_and_none_beyond_its_limit(built, dataset):
    lake, day = built[dataset]
    drift = measured(lake, dataset, day)
    assert beyond(drift) == set()
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


BOTH = (DAY_BEFORE, TRAINING)
PLANTED = [
    (K, "exposures", "SELECT * REPLACE (play_time_ms * 30 AS play_time_ms) FROM rows",
     {(f"{figure}(play_time_ms)", against) for figure in ("psi", "js") for against in BOTH}),
    (K, "exposures", "SELECT * REPLACE ('one' AS fans_user_num_range) FROM rows",
     {(f"{figure}(fans_user_num_range)", against) for figure in ("psi", "js") for against in BOTH}
     | {("unknown_categories(fans_user_num_range)", TRAINING)}),
    (K, "exposures",
     "SELECT * REPLACE (CASE WHEN exposure_id % 5 <> 0 THEN 'long' ELSE channel END AS channel) FROM rows",
     {("js(channel)", against) for against in BOTH}),
    (K, "exposures", "SELECT * REPLACE (CASE WHEN exposure_id % 5 <> 0 THEN 1 ELSE click END AS click) FROM rows",
     {("rate(click)", against) for against in BOTH}),
    (C, "exposures", "SELECT * REPLACE (cost * 50 AS cost) FROM rows",
     {(f"{figure}(cost)", against) for figure in ("psi", "js") for against in BOTH}),
    (K, "channel_policies", "SELECT * REPLACE (MAP {'short': 0.05, 'mid': 0.05, 'long': 0.9} AS policy) FROM rows",
     {("policy_change", DAY_BEFORE), ("js(policy)", DAY_BEFORE)}),
    (K, "prequential", "SELECT * REPLACE (rate / 4 AS predicted_rate) FROM rows",
     {("calibration(click)", ""), ("calibration(long_view)", "")}),
    (K, "prequential",
     "SELECT * REPLACE (CASE head WHEN 'long_view' THEN predicted_rate END AS predicted_rate) FROM rows",
     {("calibration(click)", "")}),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "table", "sql", "wanted"), PLANTED)
def test_a_planted_change_is_seen_by_its_figures_alone(built, tmp_path, dataset, table, sql, wanted):
    first, day = built[dataset]
    lake = linked_copy(first, tmp_path / "lake")
    replant(lake, table, dataset, day, sql)
    assert beyond(measured(lake, dataset, day)) == wanted


def test_the_policy_change_is_the_mean_total_variation_over_the_users_of_both_days(built, tmp_path):
    first, day = built[K]
    lake = linked_copy(first, tmp_path / "lake")
    replant(lake, "channel_policies", K, day_before(day),
            "SELECT * REPLACE (MAP {'short': 0.5, 'mid': 0.3, 'long': 0.2} AS policy) FROM rows")  # fmt: skip
    # Of the users of both days half are moved by .3 + .1; one user is new.
    same, moved = "MAP {'short': 0.5, 'mid': 0.3, 'long': 0.2}", "MAP {'short': 0.1, 'mid': 0.7}"
    half = f"CASE WHEN user_id % 2 = 0 THEN {same} ELSE {moved} END"
    replant(lake, "channel_policies", K, day, f"SELECT * REPLACE ({half} AS policy) FROM rows"
            " UNION ALL (SELECT * REPLACE (-1 AS user_id, MAP {'long': 1.0} AS policy) FROM rows LIMIT 1)")  # fmt: skip
    rows, before = (rows_sql([lake["channel_policies", K, d]]) for d in (day, day_before(day)))
    users = f"(SELECT user_id FROM {rows}) SEMI JOIN (SELECT user_id FROM {before}) USING (user_id)"
    odd = duckdb.sql(f"SELECT avg(user_id % 2) FROM {users}").fetchall()[0][0]
    change = next(f for f in measured(lake, K, day).figures if f.name == "policy_change")
    assert change.value == pytest.approx(odd * (0.4 + 0.4 + 0.2) / 2)


def test_late_gains_are_counted_as_known_by_the_end_of_their_own_day(built, tmp_path):
    first, day = built[C]
    lake = linked_copy(first, tmp_path / "lake")
    end = get_dataset(C).end_of_day_ms(day)
    converted = "SELECT * REPLACE (1 AS click, 1 AS conversion, {} AS conversion_at_ms) FROM rows"
    replant(lake, "exposures", C, day, converted.format(end))
    assert day_profile(lake, get_dataset(C), day).gains["conversion"] == 0
    replant(lake, "exposures", C, day, converted.format(end - 1))
    profile = day_profile(lake, get_dataset(C), day)
    assert profile.gains["conversion"] == profile.exposures


def test_a_profile_is_kept_until_the_day_changes(built, tmp_path):
    first, day = built[K]
    lake = linked_copy(first, tmp_path / "lake")
    dataset = get_dataset(K)
    profile = day_profile(lake, dataset, day)
    file = lake.day_profiles(K) / f"{day}.json"
    kept = json.loads(file.read_text())
    file.unlink()
    file.write_text(json.dumps(kept | {"users": 7}))
    assert day_profile(lake, dataset, day).users == 7  # read, not measured
    replant(lake, "exposures", K, day, "FROM rows LIMIT 100")
    assert day_profile(lake, dataset, day).exposures == 100
    assert sum_of_profiles([profile, profile]).columns["tag"] == {v: 2 * n for v, n in profile.columns["tag"].items()}
    assert isinstance(profile, DayProfile)


def test_a_static_column_counts_users_and_another_counts_exposures(built):
    lake, day = built[K]
    profile = day_profile(lake, get_dataset(K), day)
    assert sum(profile.columns["user_active_degree"].values()) == profile.users
    assert sum(profile.columns["hour"].values()) == sum(profile.channels.values()) == profile.exposures


def test_limits_are_learned_from_the_days_before_and_from_no_other(built):
    lake, day = built[K]
    drift = measured(lake, K, day)
    days = [f"2022-03-{k:02}" for k in range(1, 9)]
    earlier = [replace(drift, ds=d) for d in days]
    later = [replace(drift, ds=f"2023-03-{k:02}") for k in range(1, 9)]
    assert {f.limit_from for f in measured(lake, K, day, [*earlier[:6], *later]).figures} == {"fixed"}
    learned = measured(lake, K, day, earlier)
    assert {f.limit_from for f in learned.figures} == {"learned from 8 days"}
    psi = next(f for f in learned.figures if f.name == "psi(hour)")
    assert psi.limit < next(f.limit for f in drift.figures if f.name == "psi(hour)")


def test_chance_is_added_to_a_learned_limit_as_it_is_to_a_fixed_one(built):
    """Days on which nothing moved halve the fixed part of a limit, and no more of it."""
    lake, day = built[K]
    drift, quality = measured(lake, K, day), get_dataset(K).quality
    still = replace(drift, figures=tuple(replace(f, value=f.same) for f in drift.figures))
    learned = measured(lake, K, day, [replace(still, ds=f"2022-03-{k:02}") for k in range(1, 9)])
    fixed, now = ({(f.name, f.against): f.limit for f in d.figures} for d in (drift, learned))
    for name, whole, half in (
        ("psi(hour)", quality.psi.value, quality.psi.value / 2),
        ("psi(play_time_ms)", quality.psi.value, quality.psi.value / 2),
    ):
        assert fixed[name, DAY_BEFORE] - whole == pytest.approx(now[name, DAY_BEFORE] - half)
        assert fixed[name, DAY_BEFORE] > whole
    rate = "rate(click)", DAY_BEFORE
    assert fixed[rate] / quality.rate.value == pytest.approx(now[rate] / (1 + (quality.rate.value - 1) / 2))


def test_what_is_chronic_beside_the_training_period_or_in_the_predictions_never_becomes_usual(built):
    lake, day = built[K]
    drift = measured(lake, K, day)
    wrong = replace(drift, figures=tuple(replace(f, value=f.same + 50) for f in drift.figures))
    learned = measured(lake, K, day, [replace(wrong, ds=f"2022-03-{k:02}") for k in range(1, 9)])
    fixed, now = ({(f.name, f.against): f.limit for f in d.figures} for d in (drift, learned))
    assert {key for key in now if now[key] > fixed[key]} == {key for key in now if key[1] == DAY_BEFORE}
    assert {key for key in now if key[1] != DAY_BEFORE} >= {("calibration(click)", ""), ("psi(hour)", TRAINING)}
    assert now["policy_change", DAY_BEFORE] < 1
    assert now["js(policy)", DAY_BEFORE] < 1


def test_the_inputs_are_the_partitions_that_were_read(built):
    lake, day = built[K]
    inputs = measured(lake, K, day).inputs
    tables = {path.split("/")[0] for path in inputs}
    assert tables == {"exposures", "channel_policies", "prequential", "feature_spec"}
    assert inputs[f"exposures/dataset={K}/ds={day}"] == lake["exposures", K, day].manifest.fingerprint


def test_the_command_stores_the_figures_and_prints_those_beyond(built, tmp_path, monkeypatch, capsys):
    first, day = built[K]
    lake = linked_copy(first, tmp_path / "lake")
    replant(lake, "exposures", K, day, PLANTED[2][2])
    monkeypatch.setattr(sys, "argv", ["measure_drift", "--dataset", K, "--lake", str(lake.root), "--day", day])
    command.main()
    said = capsys.readouterr().out
    assert (
        f"warning drift/{K}/{day}: js(channel): The distribution of the exposures over the channels is different "
        "from that of the day before"
    ) in said
    drift = stored_drift(lake, get_dataset(K), day)
    assert drift == Drift.from_json(drift.to_json())
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == [day]
    assert len(drift.exceeded) == 2
    store_drift(lake, replace(drift, ds=day_before(day)))
    assert [d.ds for d in stored_drifts(lake, get_dataset(K))] == [day_before(day), day]
    assert stored_drift(lake, get_dataset(K), "2000-01-01") is None


def test_a_range_of_days_is_measured_oldest_first_and_days_without_rows_are_left_out(
    spark, built, tmp_path, monkeypatch, capsys
):
    first, day = built[K]
    lake = linked_copy(first, tmp_path / "lake")
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


def test_a_day_without_exposures_has_no_drift(built):
    lake, _ = built[K]
    with pytest.raises(UserError, match="no exposures for kuairand on 2001-01-01"):
        measured(lake, K, "2001-01-01")
