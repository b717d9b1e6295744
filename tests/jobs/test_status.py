"""The grid of a lake: each state, where it comes from, and what a reader is told to do."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs import status
from jobs.raw.index import FileRows, RawIndex, store_index
from jobs.status import State
from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_POLICIES,
    JOURNEYS,
)
from schemas.tables.registry import CHAMPION_TABLES, SCORE_TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW

DAYS = ["2022-05-01", "2022-05-02", "2022-05-03"]
MODEL = "mtorl_kuairand"
KUAIRAND = get_dataset("kuairand")
FROM_SCORES = (BUDGET_PLAN,)
TO_COME = (*TABLES_FROM_RAW, *TABLES_FROM_HISTORY, *SCORE_TABLES, *FROM_SCORES)  # without a champion


def index_of(**rows: str) -> RawIndex:
    """One file; of each day (d1, d2, ...) the fingerprint of its rows."""
    usable = {DAYS[int(name[1:]) - 1]: [1, found] for name, found in rows.items()}
    return RawIndex("r", {"log.csv": FileRows([1, 2, 3], usable, {})})


def put(lake: Lake, table: str, day: str, content: str, inputs: dict[str, str], **more: object) -> None:
    with staging_folder(lake) as staging:
        (staging / "part").mkdir()
        (staging / "part" / "x.parquet").write_text(content)
        lake[table, "kuairand", day].publish(staging / "part", rows=1, inputs=inputs, code=code_version("jobs"), **more)


def put_day(lake: Lake, index: RawIndex, day: str) -> None:
    """All tables of a day, built in order from what lies there."""
    rows = json.dumps(index.inputs(day))
    for table in TABLES_FROM_RAW:
        put(lake, table, day, rows, index.inputs(day))
    history = lake[JOURNEYS, "kuairand", day].current_inputs()
    put(lake, "journeys", day, json.dumps(history), history)
    put(lake, "sequences", day, json.dumps(history), {**history, "steps": "20"}, spec_version="s")
    for table in SCORE_TABLES:
        scored = {**lake[CHANNEL_POLICIES, "kuairand", day].current_inputs(), "model": "mtorl_kuairand/1"}
        put(lake, table, day, json.dumps(scored), scored, spec_version="s")
    planned = {**lake[BUDGET_PLAN, "kuairand", day].current_inputs(), "budget_nano": "5"}
    put(lake, "budget_plan", day, json.dumps(planned), planned, spec_version="s")


@pytest.fixture
def lake(tmp_path) -> Lake:
    """Three whole days."""
    lake, index = Lake(tmp_path), index_of(d1="a", d2="b", d3="c")
    for day in DAYS:
        put_day(lake, index, day)
    put(lake, "quarantine", UNDATED, "", {})
    store_index(lake, KUAIRAND, index)
    return lake


def grid(lake: Lake) -> dict[str, dict[str, State]]:
    index = status.stored_index(lake, KUAIRAND)
    days = status.days_of_lake(lake, KUAIRAND, index, status.yesterday(KUAIRAND))
    return status.states(lake, KUAIRAND, index, days, status.read_manifests(lake, KUAIRAND, days))


def not_fresh(lake: Lake) -> set[str]:
    """What the grid shows as other than fresh: table/day state."""
    return {f"{table}/{day[-1]} {state.value}" for day, tables in grid(lake).items() for table, state in tables.items()
            if state not in (State.FRESH, State.NONE)}  # fmt: skip


def said(lake: Lake, capsys, monkeypatch, *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["status", "--dataset", "kuairand", "--lake", str(lake.root), *arguments])
    status.main()
    return capsys.readouterr().out.splitlines()


def test_a_whole_lake_is_fresh_and_says_so(lake, capsys, monkeypatch):
    assert not_fresh(lake) == set()
    lines = said(lake, capsys, monkeypatch)
    assert lines[0].split() == ["day", *(table.name for table in status.DAILY)]
    assert lines[1].split() == ["2022-05-01", "to", "2022-05-03", *["fresh"] * 4, "-", "-", *["fresh"] * 4]
    assert lines[2:] == ["", "all fresh: nothing to do"]


def test_changed_raw_rows_make_all_that_hangs_on_them_stale(lake, capsys, monkeypatch):
    store_index(lake, KUAIRAND, index_of(d1="a", d2="corrected", d3="c"))
    stale = {f"{table}/2 stale" for table in TABLES_FROM_RAW}
    stale |= {f"{table}/{day} stale" for table in (*TABLES_FROM_HISTORY, *SCORE_TABLES, *FROM_SCORES) for day in (2, 3)}
    assert not_fresh(lake) == stale
    last = said(lake, capsys, monkeypatch)[-1]
    assert last == "14 stale, 0 missing: make backfill DATASET=kuairand FROM=2022-05-02 TO=2022-05-03"
    assert said(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-02 2022-05-03"]


def test_exposures_built_again_with_the_same_content_leave_the_rest_fresh(lake):
    index = index_of(d1="a", d2="twice", d3="c")
    store_index(lake, KUAIRAND, index)
    for table in TABLES_FROM_RAW:
        content = (lake[table, "kuairand", DAYS[1]].path / "x.parquet").read_text()
        put(lake, table, DAYS[1], content, index.inputs(DAYS[1]))
    assert not_fresh(lake) == set()


def test_a_day_that_the_log_has_and_the_lake_has_not_is_missing(lake):
    index = index_of(d1="a", d2="b", d3="c")
    span = {**index.files["log.csv"].usable, "2022-05-04": [1, "d"]}
    store_index(lake, KUAIRAND, RawIndex("r", {"log.csv": FileRows([1, 2, 3], span, {})}))
    assert not_fresh(lake) == {f"{table}/4 missing" for table in TO_COME}


def test_a_clock_that_runs_ahead_makes_no_day(lake, capsys, monkeypatch):
    """A single row of the far future; and a log that reaches today, whose last rows are still to come."""
    rows = {day: [1000, "x"] for day in DAYS}
    ahead = {**rows, "2022-05-05": [1000, "y"], "2099-01-01": [1, "z"]}
    store_index(lake, KUAIRAND, RawIndex("r", {"log.csv": FileRows([1, 2, 3], ahead, {})}))
    assert list(grid(lake)) == [*DAYS, "2022-05-04", "2022-05-05"]  # the fourth is believed to be empty
    assert said(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-01 2022-05-05"]
    monkeypatch.setattr(status, "yesterday", lambda dataset: "2022-05-04")
    assert said(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-01 2022-05-04"]


def test_a_day_that_is_not_over_is_shown_where_it_was_built_and_asks_for_nothing(lake, capsys, monkeypatch):
    store_index(lake, KUAIRAND, index_of(d1="a", d2="b", d3="more"))
    monkeypatch.setattr(status, "yesterday", lambda dataset: DAYS[1])
    assert said(lake, capsys, monkeypatch, "--todo") == [DAYS[0]]
    shown = said(lake, capsys, monkeypatch)
    assert shown[2].split()[:2] == [DAYS[2], "stale"]
    assert shown[-1] == "all fresh: nothing to do"


def test_a_line_of_the_grid_holds_no_day_that_is_not_there():
    """One that a clock ahead has had built, above all."""
    days = [*DAYS, "2099-01-01"]
    all_fresh = dict.fromkeys([table.name for table in status.DAILY], State.FRESH)
    lines = status.grid_lines(dict.fromkeys(days, all_fresh), days)
    assert [line[:26].rstrip() for line in lines] == ["day", "2022-05-01 to 2022-05-03", "2099-01-01"]


def test_yesterday_is_the_datasets_own(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2022, 5, 3, 23, 0, tzinfo=UTC).astimezone(tz)

    monkeypatch.setattr(status, "datetime", Clock)
    kuairand = get_dataset("kuairand")
    assert kuairand.timezone == "Asia/Shanghai"
    assert status.yesterday(kuairand) == "2022-05-03"  # where it is the fourth already


def register(lake: Lake, *days: str, champion: int, withdrawn: int = 0) -> None:
    """Models trained through these days, all champions once, in the tables that tests/schemas holds against MLflow."""
    lake.mlflow_database.parent.mkdir(exist_ok=True)
    lake.mlflow_database.unlink(missing_ok=True)
    with closing(sqlite3.connect(lake.mlflow_database)) as database, database:
        database.executescript(
            "CREATE TABLE model_versions (name, version, run_id, current_stage);"
            "CREATE TABLE model_version_tags (name, version, key, value);"
            "CREATE TABLE registered_model_aliases (name, alias, version);"
        )
        for number, day in enumerate(days, start=1):
            tags = {"day": day, "reign": str(number), **({"withdrawn": "by hand"} if number == withdrawn else {})}
            database.execute("INSERT INTO model_versions VALUES (?, ?, 'run', 'None')", (MODEL, number))
            rows = [(MODEL, number, *tag) for tag in tags.items()]
            database.executemany("INSERT INTO model_version_tags VALUES (?, ?, ?, ?)", rows)
        database.execute("INSERT INTO registered_model_aliases VALUES (?, 'champion', ?)", (MODEL, champion))


def test_the_newest_policies_are_the_champions_and_the_past_stays_as_it_was_issued(lake, capsys, monkeypatch):
    """After a rollback, above all: the policies that are sent out tonight are of the model that was withdrawn."""
    register(lake, DAYS[2], DAYS[2], champion=1)
    assert not_fresh(lake) == set()
    register(lake, DAYS[2], DAYS[2], champion=2)
    assert not_fresh(lake) == {f"{table}/3 stale" for table in (*SCORE_TABLES, *FROM_SCORES)}
    assert said(lake, capsys, monkeypatch, "--todo") == [f"{DAYS[0]} {DAYS[2]} {DAYS[2]}"]


def test_scores_of_two_models_on_one_day_are_not_fresh(lake):
    """A kill between the three tables of a scoring."""
    scored = {**lake[CHANNEL_POLICIES, "kuairand", DAYS[0]].current_inputs(), "model": "mtorl_kuairand/2"}
    put(lake, "channel_policies", DAYS[0], "new", scored, spec_version="s")
    assert not_fresh(lake) == {f"{table}/1 stale" for table in (*SCORE_TABLES[1:], *FROM_SCORES)}


def test_a_day_behind_the_first_champion_is_tested_and_decided(lake):
    register(lake, DAYS[2], DAYS[0], champion=1)
    assert not_fresh(lake) == {f"{table}/{day} missing" for table in CHAMPION_TABLES for day in (2, 3)}
    for day in DAYS[1:]:
        put(lake, "prequential", day, "figures", {"model": "mtorl_kuairand/1", "sequences/of/then": "f"})
        put(lake, "promotions", day, "a decision", {"champion": "mtorl_kuairand/1"})
    assert not_fresh(lake) == set()
    # Nothing is asked of the days that every champion has seen, nor for the sake of one that was rolled back.
    shutil.rmtree(lake.table("promotions", "kuairand"))
    register(lake, DAYS[2], DAYS[1], champion=1)
    assert not_fresh(lake) == {"promotions/3 missing"}
    register(lake, DAYS[2], DAYS[1], champion=1, withdrawn=2)
    assert not_fresh(lake) == set()


@pytest.mark.parametrize("table", TO_COME)
def test_what_failed_its_audit_is_failed_and_named(lake, table, capsys, monkeypatch):
    audit = lake.audits("kuairand") / table / f"{DAYS[1]}.json"
    audit.parent.mkdir(parents=True)
    fingerprint = lake[table, "kuairand", DAYS[1]].manifest.fingerprint
    audit.write_text(json.dumps({"verdict": "fail", "fingerprint": fingerprint}))
    assert grid(lake)[DAYS[1]][table] is State.FAILED
    told = f"failed: {table} 2022-05-02: the data docs show the rules; correct the raw rows, then make backfill"
    assert told in said(lake, capsys, monkeypatch)


def test_a_champions_failed_test_is_no_matter_of_raw_rows(lake, capsys, monkeypatch):
    put(lake, "prequential", DAYS[1], "figures", {})
    audit = lake.audits("kuairand") / "prequential" / f"{DAYS[1]}.json"
    audit.parent.mkdir(parents=True)
    fingerprint = lake["prequential", "kuairand", DAYS[1]].manifest.fingerprint
    audit.write_text(json.dumps({"verdict": "fail", "fingerprint": fingerprint}))
    assert said(lake, capsys, monkeypatch)[-1] == (
        "failed: prequential 2022-05-02: the data docs show the rules; "
        "make rollback DATASET=kuairand takes a promotion back"
    )


def test_sequences_of_another_spec_than_the_champions_are_stale(lake):
    from audit_samples import spec_of

    champion = lake.table("champion", "kuairand")
    champion.mkdir(parents=True)
    (champion / "feature_spec.json").write_text(spec_of(KUAIRAND).to_json())
    assert not_fresh(lake) == {f"sequences/{k} stale" for k in (1, 2, 3)}


def test_other_code_is_counted_and_changes_no_state(lake, capsys, monkeypatch):
    monkeypatch.setattr(status, "code_version", lambda *_: "other")
    lines = said(lake, capsys, monkeypatch)
    assert lines[-2] == "all fresh: nothing to do"
    assert lines[-1].startswith("12 partitions were built by another version of the code")


def test_an_empty_lake_is_one_clear_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.status", "--dataset", "kuairand", "--lake", str(tmp_path / "lake")],
        capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: kuairand has no tables in {tmp_path / 'lake'} yet: make run, or name another lake with LAKE=\n"
    )


def test_a_lake_that_was_scored_before_there_were_plans_is_not_fresh(lake, capsys, monkeypatch):
    """Backfill must know: a plan needs the channel level of its day."""
    for table in ("channel_allocation", "budget_plan"):
        shutil.rmtree(lake[table, "kuairand", DAYS[1]].path)
    assert not_fresh(lake) == {"channel_allocation/2 missing", "budget_plan/2 missing"}
    assert said(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-02 2022-05-02"]


def test_a_plan_of_scores_that_were_made_again_is_stale(lake):
    scored = {**lake[CHANNEL_POLICIES, "kuairand", DAYS[2]].current_inputs(), "model": "mtorl_kuairand/2"}
    for table in SCORE_TABLES:
        put(lake, table, DAYS[2], "of another model", scored, spec_version="s")
    assert not_fresh(lake) == {"budget_plan/3 stale"}
