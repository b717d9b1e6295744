"""The states of a lake's partitions, the reason of each state, and the advice that follows from them."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakes import linked_copy, unpublish

from jobs import status
from jobs.raw.index import FileRows, RawIndex, store_index
from jobs.status import State
from lakehouse.code_version import code_version
from lakehouse.lake import FAILED_MARK, Lake
from lakehouse.models.decisions import commit_decision, decided_versions
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_POLICIES,
    JOURNEYS,
    TASK_PREDICTIONS,
)
from schemas.tables.registry import SCORE_TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW

DAYS = ["2022-05-01", "2022-05-02", "2022-05-03"]
MODEL = "mtorl_kuairand"
KUAIRAND = get_dataset("kuairand")
FROM_SCORES = (BUDGET_PLAN,)
EXPECTED = (*TABLES_FROM_RAW, *TABLES_FROM_HISTORY, *SCORE_TABLES, *FROM_SCORES)  # without a champion


def index_of(**rows: str) -> RawIndex:
    """An index of one file. rows: the fingerprint of the rows of each day (d1, d2, ...)."""
    usable = {DAYS[int(name[1:]) - 1]: [1, fingerprint] for name, fingerprint in rows.items()}
    return RawIndex("r", {"log.csv": FileRows([1, 2, 3], usable, {})})


def publish(lake: Lake, table: str, day: str, content: str, inputs: dict[str, str], **options: object) -> None:
    with work_folder() as staged:
        pq.write_table(pa.table({"content": [content]}), staged / "part-0.parquet")
        lake[table, "kuairand", day].publish(staged, inputs=inputs, code=code_version("jobs"), **options)


def publish_day(lake: Lake, index: RawIndex, day: str) -> None:
    """All tables of a day, built in order from the current partitions."""
    rows = json.dumps(index.inputs(day))
    for table in TABLES_FROM_RAW:
        publish(lake, table, day, rows, index.inputs(day))
    history = lake[JOURNEYS, "kuairand", day].current_inputs()
    for table in ("journeys", "steps", "item_history"):
        publish(lake, table, day, json.dumps(history), history)
    publish(lake, "sequences", day, json.dumps(history), {**history, "steps": "20"})
    for table in SCORE_TABLES:
        scored = {**lake[CHANNEL_POLICIES, "kuairand", day].current_inputs(), "model": "mtorl_kuairand/1"}
        publish(lake, table, day, json.dumps(scored), scored, spec_version="s")
    planned = {**lake[BUDGET_PLAN, "kuairand", day].current_inputs(), "budget_nano": "5"}
    publish(lake, "budget_plan", day, json.dumps(planned), planned, spec_version="s")


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Lake:
    """Three complete days. Not to be changed."""
    lake, index = Lake(tmp_path_factory.mktemp("complete") / "lake"), index_of(d1="a", d2="b", d3="c")
    for day in DAYS:
        publish_day(lake, index, day)
    publish(lake, "quarantine", UNDATED, "", {})
    store_index(lake, KUAIRAND, index)
    return lake


@pytest.fixture
def lake(complete, tmp_path) -> Lake:
    """A copy of three complete days."""
    return linked_copy(complete, tmp_path / "lake")


def grid(lake: Lake) -> dict[str, dict[str, State]]:
    index = status.stored_index(lake, KUAIRAND)
    days = status.days_of_lake(lake, KUAIRAND, index, status.yesterday(KUAIRAND))
    return status.states(lake, KUAIRAND, index, days, status.read_manifests(lake, KUAIRAND, days))


def not_fresh(lake: Lake) -> set[str]:
    """All partitions that are not fresh, as table/day state."""
    return {f"{table}/{day[-1]} {state.value}" for day, tables in grid(lake).items() for table, state in tables.items()
            if state not in (State.FRESH, State.NONE)}  # fmt: skip


def printed_lines(lake: Lake, capsys, monkeypatch, *arguments: str) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["status", "--dataset", "kuairand", "--lake", str(lake.root), *arguments])
    status.main()
    return capsys.readouterr().out.splitlines()


def test_a_complete_lake_is_fresh(lake, capsys, monkeypatch):
    assert not_fresh(lake) == set()
    lines = printed_lines(lake, capsys, monkeypatch)
    assert lines[0].split() == ["day", *(table.name for table in status.LISTED if table.daily)]
    assert lines[1].split() == ["2022-05-01", "to", "2022-05-03", *["fresh"] * 6, "-", "-", *["fresh"] * 4]
    assert lines[2:] == ["", "all fresh: nothing to do"]


def test_changed_raw_rows_make_all_tables_built_from_them_stale(lake, capsys, monkeypatch):
    store_index(lake, KUAIRAND, index_of(d1="a", d2="corrected", d3="c"))
    stale = {f"{table}/2 stale" for table in TABLES_FROM_RAW}
    stale |= {f"{table}/{day} stale" for table in (*TABLES_FROM_HISTORY, *SCORE_TABLES, *FROM_SCORES) for day in (2, 3)}
    assert not_fresh(lake) == stale
    last = printed_lines(lake, capsys, monkeypatch)[-1]
    assert last == "18 stale, 0 missing: make backfill DATASET=kuairand FROM=2022-05-02 TO=2022-05-03"
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-02 2022-05-03"]


def test_exposures_that_are_built_again_with_the_same_content_make_nothing_stale(lake):
    index = index_of(d1="a", d2="twice", d3="c")
    store_index(lake, KUAIRAND, index)
    for table in TABLES_FROM_RAW:
        content = lake[table, "kuairand", DAYS[1]].read().column("content")[0].as_py()
        publish(lake, table, DAYS[1], content, index.inputs(DAYS[1]))
    assert not_fresh(lake) == set()


def test_a_day_of_the_log_that_is_not_in_the_lake_is_missing(lake):
    index = index_of(d1="a", d2="b", d3="c")
    span = {**index.files["log.csv"].usable, "2022-05-04": [1, "d"]}
    store_index(lake, KUAIRAND, RawIndex("r", {"log.csv": FileRows([1, 2, 3], span, {})}))
    assert not_fresh(lake) == {f"{table}/4 missing" for table in EXPECTED}


def test_rows_from_the_future_make_no_day(lake, capsys, monkeypatch):
    """A single row of the far future, and a log that ends today and will get more rows."""
    rows = {day: [1000, "x"] for day in DAYS}
    future_rows = {**rows, "2022-05-05": [1000, "y"], "2099-01-01": [1, "z"]}
    store_index(lake, KUAIRAND, RawIndex("r", {"log.csv": FileRows([1, 2, 3], future_rows, {})}))
    assert list(grid(lake)) == [*DAYS, "2022-05-04", "2022-05-05"]  # the fourth day is taken to be empty
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-01 2022-05-05"]
    monkeypatch.setattr(status, "yesterday", lambda dataset: "2022-05-04")
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-01 2022-05-04"]


def test_a_day_that_is_not_over_is_listed_but_does_not_have_to_be_run(lake, capsys, monkeypatch):
    store_index(lake, KUAIRAND, index_of(d1="a", d2="b", d3="more"))
    monkeypatch.setattr(status, "yesterday", lambda dataset: DAYS[1])
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == [DAYS[0]]
    lines = printed_lines(lake, capsys, monkeypatch)
    assert lines[2].split()[:2] == [DAYS[2], "stale"]
    assert lines[-1] == "all fresh: nothing to do"


def test_a_line_of_the_grid_contains_only_consecutive_days():
    days = [*DAYS, "2099-01-01"]
    all_fresh = dict.fromkeys([table.name for table in status.LISTED], State.FRESH)
    lines = status.grid_lines(dict.fromkeys(days, all_fresh), days)
    assert [line[:26].rstrip() for line in lines] == ["day", "2022-05-01 to 2022-05-03", "2099-01-01"]


def test_yesterday_follows_the_calendar_of_the_dataset(monkeypatch):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2022, 5, 3, 23, 0, tzinfo=UTC).astimezone(tz)

    monkeypatch.setattr(status, "datetime", Clock)
    kuairand = get_dataset("kuairand")
    assert kuairand.timezone == "Asia/Shanghai"
    assert status.yesterday(kuairand) == "2022-05-03"  # in Shanghai it is already the fourth


def register(lake: Lake, *days: str, champion: int, withdrawn: int = 0, model: str = MODEL) -> None:
    """Decide that models trained through these days were champions, and that one of them still is."""
    versions = [
        Version(f"{model}/{number}", number, "run", day, "digest", reign=number, withdrawn=number == withdrawn,
                is_champion=number == champion)
        for number, day in enumerate(days, start=1)
    ]  # fmt: skip
    commit_decision(lake, "kuairand", versions, seen=decided_versions(lake, "kuairand", model))


def test_a_new_champion_makes_only_the_newest_scores_stale(lake, capsys, monkeypatch):
    """This matters after a rollback: the newest policies come from the model that was withdrawn."""
    register(lake, DAYS[2], DAYS[2], champion=1)
    assert not_fresh(lake) == set()
    register(lake, DAYS[2], DAYS[2], champion=2)
    assert not_fresh(lake) == {f"{table}/3 stale" for table in (*SCORE_TABLES, *FROM_SCORES)}
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == [f"{DAYS[0]} {DAYS[2]} {DAYS[2]}"]


def test_scores_by_another_method_are_compared_with_its_own_champion(lake):
    """The champion of the default method does not make them stale."""
    register(lake, DAYS[2], DAYS[2], champion=2)
    register(lake, DAYS[2], DAYS[2], champion=1, model="boosting_kuairand")
    for table in SCORE_TABLES:
        scored = {**lake[CHANNEL_POLICIES, "kuairand", DAYS[2]].current_inputs(), "model": "boosting_kuairand/1"}
        publish(lake, table, DAYS[2], "boosted", scored, spec_version="s")
    planned = {**lake[BUDGET_PLAN, "kuairand", DAYS[2]].current_inputs(), "budget_nano": "5"}
    publish(lake, "budget_plan", DAYS[2], "boosted", planned, spec_version="s")
    assert not_fresh(lake) == set()
    register(lake, DAYS[2], DAYS[2], champion=2, model="boosting_kuairand")
    assert not_fresh(lake) == {f"{table}/3 stale" for table in (*SCORE_TABLES, *FROM_SCORES)}


def test_scores_of_two_models_on_one_day_are_not_fresh(lake):
    """A process was killed between the three tables of a scoring."""
    scored = {**lake[CHANNEL_POLICIES, "kuairand", DAYS[0]].current_inputs(), "model": "mtorl_kuairand/2"}
    publish(lake, "channel_policies", DAYS[0], "new", scored, spec_version="s")
    assert not_fresh(lake) == {f"{table}/1 stale" for table in (*SCORE_TABLES[1:], *FROM_SCORES)}


def test_a_day_after_the_first_champion_needs_a_test_and_a_decision(lake):
    register(lake, DAYS[2], DAYS[0], champion=1)
    assert not_fresh(lake) == {f"{table}/{day} missing" for table in ("prequential", "promotions") for day in (2, 3)}
    for day in DAYS[1:]:
        publish(lake, "prequential", day, "figures", {"model": "mtorl_kuairand/1", "sequences/of/then": "f"})
        publish(lake, "promotions", day, "a decision", {"champion": "mtorl_kuairand/1"})
    assert not_fresh(lake) == set()
    # Days that every champion was trained on need no test, and a champion that was rolled back does not count.
    shutil.rmtree(lake.table("promotions", "kuairand"))
    register(lake, DAYS[2], DAYS[1], champion=1)
    assert not_fresh(lake) == {"promotions/3 missing"}
    register(lake, DAYS[2], DAYS[1], champion=1, withdrawn=2)
    assert not_fresh(lake) == set()


@pytest.mark.parametrize("table", EXPECTED)
def test_a_partition_that_failed_its_audit_is_named(lake, table, capsys, monkeypatch):
    audit = lake.audits("kuairand") / table / f"{DAYS[1]}.json"
    audit.parent.mkdir(parents=True)
    fingerprint = lake[table, "kuairand", DAYS[1]].manifest.fingerprint
    audit.write_text(json.dumps({"verdict": "fail", "fingerprint": fingerprint}))
    audit.with_suffix(FAILED_MARK).touch()
    assert grid(lake)[DAYS[1]][table] is State.FAILED
    advice = f"failed: {table} 2022-05-02: the data docs show the rules; correct the raw rows, then make backfill"
    assert advice in printed_lines(lake, capsys, monkeypatch)


def test_a_failed_test_of_a_champion_is_not_repaired_with_raw_rows(lake, capsys, monkeypatch):
    publish(lake, "prequential", DAYS[1], "figures", {})
    audit = lake.audits("kuairand") / "prequential" / f"{DAYS[1]}.json"
    audit.parent.mkdir(parents=True)
    fingerprint = lake["prequential", "kuairand", DAYS[1]].manifest.fingerprint
    audit.write_text(json.dumps({"verdict": "fail", "fingerprint": fingerprint}))
    audit.with_suffix(FAILED_MARK).touch()
    assert printed_lines(lake, capsys, monkeypatch)[-1] == (
        "failed: prequential 2022-05-02: the data docs show the rules; "
        "make rollback DATASET=kuairand takes a promotion back"
    )


def test_partitions_of_other_code_are_counted_but_stay_fresh(lake, capsys, monkeypatch):
    monkeypatch.setattr(status, "code_version", lambda *_: "other")
    lines = printed_lines(lake, capsys, monkeypatch)
    assert lines[-2] == "all fresh: nothing to do"
    assert lines[-1].startswith("18 partitions were built by another version of the code")


@pytest.mark.slow
def test_an_empty_lake_is_an_error_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.status", "--dataset", "kuairand", "--lake", str(tmp_path / "lake")],
        capture_output=True, text=True, cwd=Path(__file__).resolve().parent.parent.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert (
        done.stderr
        == f"error: kuairand has no tables in {tmp_path / 'lake'} yet: make run, or name another lake with LAKE=\n"
    )


def test_scores_without_a_plan_are_not_fresh(lake, capsys, monkeypatch):
    for table in ("channel_allocation", "budget_plan"):
        unpublish(lake[table, "kuairand", DAYS[1]])
    assert not_fresh(lake) == {"channel_allocation/2 missing", "budget_plan/2 missing"}
    assert printed_lines(lake, capsys, monkeypatch, "--todo") == ["2022-05-01 2022-05-02 2022-05-02"]


def test_a_plan_is_stale_after_its_scores_were_made_again(lake):
    scored = {**lake[CHANNEL_POLICIES, "kuairand", DAYS[2]].current_inputs(), "model": "mtorl_kuairand/2"}
    for table in SCORE_TABLES:
        publish(lake, table, DAYS[2], "of another model", scored, spec_version="s")
    assert not_fresh(lake) == {"budget_plan/3 stale"}


def publish_task_predictions(lake: Lake, day: str, version: str) -> None:
    predicted = {**lake[TASK_PREDICTIONS, "kuairand", day].current_inputs(), "model": version}
    publish(lake, TASK_PREDICTIONS, day, json.dumps(predicted), predicted)


def test_every_method_has_the_days_of_its_own_tables(lake):
    """A day that a second method has not scored is missing, and its scores are compared with its own champion."""
    for day in DAYS[1:]:
        publish_task_predictions(lake, day, "rmtl_kuairand/1")
    assert not_fresh(lake) == {"task_predictions/1 missing"}
    publish_task_predictions(lake, DAYS[0], "rmtl_kuairand/1")
    register(lake, DAYS[2], DAYS[2], champion=1)
    register(lake, DAYS[2], DAYS[2], champion=2, model="rmtl_kuairand")
    assert not_fresh(lake) == {"task_predictions/3 stale"}


def test_a_lake_without_channel_policies_needs_none(lake):
    """The only method predicts candidates, so there is no budget plan either."""
    for table in (*SCORE_TABLES, BUDGET_PLAN):
        shutil.rmtree(lake.table(table, "kuairand"))
    assert {f"{table}/1 missing" for table in (*SCORE_TABLES, BUDGET_PLAN)} < not_fresh(lake)  # not scored yet
    for day in DAYS:
        publish_task_predictions(lake, day, "rmtl_kuairand/1")
    assert not_fresh(lake) == set()
    index = status.grid_lines(grid(lake), DAYS)[0].split()
    assert TASK_PREDICTIONS in index
    assert CHANNEL_POLICIES not in index


def test_a_plan_by_the_gains_of_another_method_is_built_from_its_table(lake):
    for day in DAYS:
        publish_task_predictions(lake, day, "rmtl_kuairand/1")
        planned = {**lake[BUDGET_PLAN, "kuairand", day].current_inputs(), "budget_nano": "5"}
        planned |= lake.fingerprints(TASK_PREDICTIONS, "kuairand", [day])
        publish(lake, BUDGET_PLAN, day, json.dumps(planned), planned, spec_version="s")
    assert not_fresh(lake) == set()
    publish_task_predictions(lake, DAYS[0], "rmtl_kuairand/2")
    assert not_fresh(lake) == {"budget_plan/1 stale"}
