"""The maintenance removes old files, and leaves everything that a command or a running job may still read."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from shop import SHOP
from text_lake import publish_text

from jobs.maintain import __main__ as maintain
from jobs.maintain.lake_files import lake_removals, log_removal
from jobs.maintain.machine_files import machine_removals
from jobs.maintain.removal import Removal
from jobs.raw.index import FileRows, RawIndex, store_index
from lakehouse.lake import Lake
from lakehouse.retention import RETENTION
from lakehouse.storage.data_files import store_file
from lakehouse.storage.scratch import scratch_folder
from lakehouse.storage.vacuum import expired_log_entries, trim_log, unneeded_files
from schemas.dataset import get_dataset

KUAIRAND = get_dataset("kuairand")
DAY_S = 86_400


def age(path: Path, days: float) -> None:
    """As if a file, or all files below a folder, had been written and read that many days ago."""
    moment = time.time() - days * DAY_S
    for file in path.rglob("*") if path.is_dir() else [path]:
        os.utime(file, (moment, moment))


def write(path: Path, days: float = 0.0) -> Path:
    """Write a file, as if it and its folder had been changed that many days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 1000)
    age(path, days)
    os.utime(path.parent, (path.stat().st_mtime,) * 2)
    return path


def empty(folder: Path, days: float) -> Path:
    """A folder without files, as a killed job leaves it, that old."""
    folder.mkdir(parents=True)
    os.utime(folder, (time.time() - days * DAY_S,) * 2)
    return folder


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "scratch"))
    return Lake(tmp_path / "lake")


@pytest.fixture
def table(lake) -> Path:
    publish_text(lake, "first")
    return lake.table("exposures", "shop")


def present(lake: Lake) -> list[str]:
    return lake["exposures", "shop", "2022-05-01"].read().column("text").unique().to_pylist()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*.parquet") if "_delta_log" not in file.parts}


@contextmanager
def days_ago(days: float) -> Iterator[None]:
    """Inside the block, commits have the time stamps of that many days ago."""
    now = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now() - days * DAY_S)
        yield


def test_files_that_were_replaced_long_ago_are_unneeded(lake):
    with days_ago(8):
        for text in ("first", "second"):
            publish_text(lake, text)
    folder = lake.table("exposures", "shop")
    (second,) = lake["exposures", "shop", "2022-05-01"].files()
    publish_text(lake, "third")  # replaces the second edition today
    age(folder, 9)
    unneeded = unneeded_files(folder, RETENTION.replaced_files)
    assert [file.path.name for file in unneeded] == sorted(names(folder) - {second.name, present_name(lake)})
    Removal("files", 7, tuple(unneeded)).remove()
    assert present(lake) == ["third"]
    # A reader that opened the table before the third edition still has its files.
    assert DeltaTable(str(folder), version=1).to_pandas().text.unique().tolist() == ["second"]


def present_name(lake: Lake) -> str:
    (file,) = lake["exposures", "shop", "2022-05-01"].data_files()
    return file.name


def test_a_file_that_is_not_committed_yet_stays_until_it_is_old(table):
    waiting = write(table / "ds=2022-05-02" / "part-0-0123.parquet")
    assert unneeded_files(table, RETENTION.replaced_files) == []
    age(waiting, 8)
    assert [file.path for file in unneeded_files(table, RETENTION.replaced_files)] == [waiting]


def test_an_old_edition_that_a_job_is_about_to_publish_again_stays(lake, tmp_path):
    """The job has found the file stored, and has not committed it yet."""
    with days_ago(8):
        publish_text(lake, "first")
        (first,) = lake["exposures", "shop", "2022-05-01"].files()
        publish_text(lake, "second")
    copy = tmp_path / "part-0.parquet"
    copy.write_bytes(first.read_bytes())
    folder = lake.table("exposures", "shop")
    age(folder, 9)
    (unneeded,) = unneeded_files(folder, RETENTION.replaced_files)
    assert unneeded.path == first
    store_file(folder, "ds=2022-05-01", copy)
    Removal("files", 7, (unneeded,)).remove()  # as it was listed before
    assert first.exists()
    assert unneeded_files(folder, RETENTION.replaced_files) == []


def test_the_log_is_trimmed_to_its_last_old_checkpoint(lake):
    for k in range(25):
        publish_text(lake, f"edition {k}")
    folder = lake.table("exposures", "shop")
    log = folder / "_delta_log"
    for entry in log.glob("00*"):
        if int(entry.name[:20]) < 22:
            age(entry, 31)
    expired = {file.path for file in expired_log_entries(folder, RETENTION.log_entries)}
    assert len(expired) == 19  # all before the checkpoint 19
    entries = set(log.iterdir())
    trim_log(folder)
    assert entries - set(log.iterdir()) == expired
    assert present(lake) == ["edition 24"]
    assert expired_log_entries(folder, RETENTION.log_entries) == []


def removed(removals: list[Removal]) -> set[Path]:
    return {file.path for removal in removals for file in removal.files}


def test_results_of_days_and_exports_go_when_they_are_old(lake):
    store_index(lake, KUAIRAND, RawIndex("r", {"back.csv": FileRows([1, 2, 3], {"2022-05-01": [1, "x"]}, {})}))
    old = {write(folder / name, 801) for folder in (lake.reports(KUAIRAND), lake.drift(KUAIRAND))
           for name in ("2022-05-01.json", "2022-05-01.html")}  # fmt: skip
    old.add(write(lake.exported_quarantine(KUAIRAND) / "gone.csv", 401))
    old.add(write(lake.consumer_files(KUAIRAND) / ".staged-x" / "rows", 3))
    write(lake.reports(KUAIRAND) / "index.html", 900)
    write(lake.reports(KUAIRAND) / "2022-05-02.html", 799)
    write(lake.exported_quarantine(KUAIRAND) / "back.csv", 900)
    write(lake.exported_quarantine(KUAIRAND) / "under_repair.csv", 30)
    write(lake.audits(KUAIRAND) / "exposures" / "2022-05-01.json", 900)
    write(lake["channel_policies", KUAIRAND, "2022-05-01"].consumer_file, 900)
    assert removed(list(lake_removals(lake, KUAIRAND))) == old


def test_caches_go_when_they_were_not_used(lake, tmp_path):
    old = {
        write(scratch_folder("windows") / "kuairand_a" / "x.npy", 15).parent,
        write(scratch_folder("predictions") / "a.bin", 15),
        write(scratch_folder("files") / "table" / "ds=2022-05-01" / "part-0.parquet", 15),
        write(scratch_folder("work") / "123-abc" / "part-0.parquet", 3).parent,
        write(scratch_folder("checkpoints") / "abc" / "epoch.pt", 31).parent,
        write(scratch_folder("models") / "a1b2" / "weights.pt", 31).parent,
        empty(scratch_folder("work") / "125-abc", 3),
        write(tmp_path / "airflow" / "dag" / "1.log", 31),
    }
    write(scratch_folder("windows") / "kuairand_b" / "x.npy", 15)
    write(scratch_folder("windows") / "kuairand_b" / "y.npy", 1)  # one file was used: the folder stays as a whole
    write(scratch_folder("files") / "table" / "ds=2022-05-01" / "part-1.parquet", 13)
    write(scratch_folder("work") / "124-abc" / "part-0.parquet", 1)
    write(scratch_folder("checkpoints") / "abd" / "epoch.pt", 15)
    write(scratch_folder("models") / "c3d4" / "weights.pt", 15)
    write(tmp_path / "airflow" / "dag" / "2.log", 29)
    read = write(scratch_folder("predictions") / "read.bin", 15)
    os.utime(read, (time.time(), read.stat().st_mtime))
    removals = list(machine_removals([tmp_path / "airflow"]))
    assert removed(removals) == old
    for removal in removals:
        removal.remove()
    assert not any(path.exists() for path in old)
    assert removed(list(machine_removals([tmp_path / "airflow"]))) == set()
    assert (scratch_folder("windows") / "kuairand_b" / "x.npy").exists()


@pytest.fixture
def run(lake, monkeypatch, capsys) -> Callable[..., list[str]]:
    def command(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["maintain", "--dataset", "kuairand", "--lake", str(lake.root), *arguments])
        maintain.main()
        return capsys.readouterr().out.splitlines()

    return command


def test_a_dry_run_prints_the_same_and_removes_nothing(lake, run, tmp_path):
    publish_text(lake, "a", dataset="kuairand")
    old = write(lake.drift(KUAIRAND) / "2022-05-01.json", 900)
    log = write(tmp_path / "logs" / "1.log", 40)
    lines = run("--dry-run", "--airflow-logs", str(tmp_path / "logs"))
    assert "would remove 1 pages and drift of days, unused for 800 days: 0.0 MB" in lines
    assert old.exists()
    assert log.exists()
    expected = [line.replace("would remove", "removed").replace("would be", "were") for line in lines]
    assert run("--airflow-logs", str(tmp_path / "logs")) == expected
    assert not old.exists()
    assert not log.exists()
    assert lake["exposures", "kuairand", "2022-05-01"].read().num_rows == 100


@pytest.mark.bucket
def test_a_table_in_a_bucket_is_tidied_up(bucket, monkeypatch):
    lake = Lake.at(bucket)
    for k in range(3):
        publish_text(lake, f"edition {k}")
    folder = lake.table("exposures", "shop")
    assert unneeded_files(folder, RETENTION.replaced_files) == []
    unneeded = unneeded_files(folder, 0)
    assert len(unneeded) == 2
    Removal("files", 0, tuple(unneeded)).remove()
    trim_log(folder)
    assert present(lake) == ["edition 2"]
    assert log_removal(lake, SHOP).files == ()
