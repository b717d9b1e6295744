"""Two runs of one day: one builds, the other waits for a while or stops with a clear line."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from lakehouse.lake import Lake
from lakehouse.locks import locked
from schemas.days import UNDATED
from schemas.errors import EXIT_TRY_AGAIN, Busy, UserError, exit_with_one_line

DAYS = ["2022-05-01", "2022-05-02"]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "0")


def holder(lake: Lake, days: list[str], tables: tuple[str, ...] = ("exposures",)):
    """Another process that holds these days, until it is killed."""
    ready, never = multiprocessing.Event(), multiprocessing.Event()

    def hold() -> None:
        with locked(lake, tables, "shop", days):
            ready.set()
            never.wait()

    process = multiprocessing.get_context("fork").Process(target=hold, daemon=True)
    process.start()
    assert ready.wait(30)
    return process


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_second_run_of_the_day_stops_with_a_clear_line(tmp_path, capsys):
    lake = Lake(tmp_path)
    other = holder(lake, DAYS)

    def run() -> None:
        with locked(lake, ("exposures",), "shop", DAYS[1:]):
            pytest.fail("two runs hold one day")

    with pytest.raises(SystemExit) as end:
        exit_with_one_line(run)
    kill(other)
    assert end.value.code == EXIT_TRY_AGAIN
    assert capsys.readouterr().err == (
        "error: another run is building exposures of shop, 2022-05-02: wait for it, then run again\n"
    )


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    lake = Lake(tmp_path)
    kill(holder(lake, DAYS))
    with locked(lake, ("exposures",), "shop", DAYS):
        pass


def test_a_second_run_waits_for_the_first(tmp_path, monkeypatch, capsys):
    lake = Lake(tmp_path)
    other = holder(lake, DAYS)
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "30")
    monkeypatch.setattr("lakehouse.locks.time.sleep", lambda _: kill(other))  # the first run ends while this one waits
    with locked(lake, ("exposures",), "shop", DAYS):
        pass
    assert capsys.readouterr().out == "waiting: another run is building exposures of shop, 2022-05-01 to 2022-05-02\n"


@pytest.mark.parametrize(
    ("table", "dataset", "days", "free"),
    [
        ("exposures", "shop", ["2022-04-30"], True),
        ("exposures", "shop", ["2022-05-03"], True),
        ("exposures", "shop", [UNDATED], True),
        ("exposures", "other", DAYS, True),
        ("journeys", "shop", DAYS, True),
        ("exposures", "shop", ["2022-04-30", "2022-05-01"], False),
        ("exposures", "shop", ["2022-05-02"], False),
    ],
)
def test_only_the_same_days_of_the_same_table_exclude_each_other(tmp_path, table, dataset, days, free):
    lake = Lake(tmp_path)
    other = holder(lake, DAYS)
    try:
        with locked(lake, (table,), dataset, days):
            assert free
    except Busy:
        assert not free
    finally:
        kill(other)


def test_undated_rows_have_a_lock_of_their_own(tmp_path):
    lake = Lake(tmp_path)
    other = holder(lake, [UNDATED], ("quarantine",))
    with locked(lake, ("quarantine",), "shop", DAYS):
        pass
    with pytest.raises(Busy, match="quarantine of shop, undated"), locked(lake, ("quarantine",), "shop", [UNDATED]):
        pass
    kill(other)


def test_an_unwritable_lake_is_one_clear_line(tmp_path):
    (tmp_path / "lake").write_text("")
    with (
        pytest.raises(UserError, match="cannot write to the lake"),
        locked(Lake(Path(tmp_path / "lake")), ("exposures",), "shop", DAYS),
    ):
        pass
