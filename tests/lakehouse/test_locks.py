"""Two runs of the same day: the first one builds, the second one waits for some time or stops with a clear line."""

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
def no_waiting(monkeypatch):
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "0")


def holder(lake: Lake, days: list[str], tables: tuple[str, ...] = ("exposures",)):
    """Another process that locks these days until it is killed."""
    ready, end = multiprocessing.Event(), multiprocessing.Event()

    def hold() -> None:
        with locked(lake, tables, "shop", days):
            ready.set()
            end.wait()

    process = multiprocessing.get_context("fork").Process(target=hold, daemon=True)
    process.start()
    assert ready.wait(30)
    return process


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_second_run_of_the_day_stops_with_a_clear_line(tmp_path, capsys):
    lake = Lake(tmp_path)
    first_run = holder(lake, DAYS)

    def run() -> None:
        with locked(lake, ("exposures",), "shop", DAYS[1:]):
            pytest.fail("two runs have locked the same day")

    with pytest.raises(SystemExit) as end:
        exit_with_one_line(run)
    kill(first_run)
    assert end.value.code == EXIT_TRY_AGAIN
    assert capsys.readouterr().err == (
        "error: another run is building exposures of shop, 2022-05-02: wait for it, then run again\n"
    )


def test_a_lock_is_released_when_its_process_is_killed(tmp_path):
    lake = Lake(tmp_path)
    kill(holder(lake, DAYS))
    with locked(lake, ("exposures",), "shop", DAYS):
        pass


def test_a_second_run_waits_for_the_first(tmp_path, monkeypatch, capsys):
    lake = Lake(tmp_path)
    first_run = holder(lake, DAYS)
    monkeypatch.setenv("MTORL_LOCK_WAIT_S", "30")
    monkeypatch.setattr(
        "lakehouse.locks.time.sleep", lambda _: kill(first_run)
    )  # ends the first run while this one waits
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
    first_run = holder(lake, DAYS)
    try:
        with locked(lake, (table,), dataset, days):
            assert free
    except Busy:
        assert not free
    finally:
        kill(first_run)


def test_undated_rows_have_a_separate_lock(tmp_path):
    lake = Lake(tmp_path)
    first_run = holder(lake, [UNDATED], ("quarantine",))
    with locked(lake, ("quarantine",), "shop", DAYS):
        pass
    with pytest.raises(Busy, match="quarantine of shop, undated"), locked(lake, ("quarantine",), "shop", [UNDATED]):
        pass
    kill(first_run)


def test_an_unwritable_lake_is_one_clear_line(tmp_path):
    (tmp_path / "lake").write_text("")
    with (
        pytest.raises(UserError, match="cannot write to the lake"),
        locked(Lake(Path(tmp_path / "lake")), ("exposures",), "shop", DAYS),
    ):
        pass
