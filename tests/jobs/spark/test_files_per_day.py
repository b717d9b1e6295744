"""How many files a day has is a property of a dataset in a lake: its first run chooses, and no later run differs."""

import pytest
from in_process import Jobs
from raw_logs import criteo_row, write_criteo

from jobs.spark.files_per_day import FILES_PER_DAY, files_per_day, store_files_per_day
from lakehouse.lake import Lake
from lakehouse.storage.data_files import part_of
from schemas.dataset import get_dataset
from schemas.errors import UserError

CRITEO = get_dataset("criteo")
VARIABLE = "MTORL_FILES_PER_DAY"


@pytest.fixture
def built(spark, tmp_path, monkeypatch) -> Jobs:
    """A lake that was begun with three files a day. The setting is gone."""
    rows = [criteo_row(uid=k % 40, timestamp=k * 600, cat8=k % 4) for k in range(200)]
    raw = write_criteo(tmp_path / "raw", rows)
    jobs = Jobs(spark, Lake(tmp_path / "lake"), "criteo", monkeypatch)
    monkeypatch.setenv(VARIABLE, "3")
    jobs.ok("build_exposures", "--raw", str(raw))
    monkeypatch.delenv(VARIABLE)
    return jobs


def test_all_tables_have_the_number_of_the_first_run(built, monkeypatch, capsys):
    built.ok("build_sequences")
    built.ok("build_journeys")
    for table in ("exposures", "steps", "sequences", "journeys"):
        day = built.lake.days(table, "criteo")[-1]
        partition = built.lake[table, "criteo", day]
        assert {part_of(file) for file in partition.data_files()} == {"part-0", "part-1", "part-2"}
        assert partition.manifest.rows > 3
    monkeypatch.setenv(VARIABLE, "8")
    monkeypatch.setattr("jobs.build_journeys.newest_fresh_journeys_day", lambda *_: None)
    assert built.run("build_journeys") != 0
    assert capsys.readouterr().err.strip().count("MTORL_FILES_PER_DAY=8: criteo has 3 files a day in") == 1


@pytest.fixture
def lake(tmp_path, monkeypatch) -> Lake:
    """A lake in which the dataset has tables."""
    monkeypatch.setattr("jobs.spark.files_per_day._has_tables", lambda *_: True)
    return Lake(tmp_path)


def test_a_number_without_tables_may_still_change(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    store_files_per_day(lake, CRITEO, 16)
    assert files_per_day(lake, CRITEO) == FILES_PER_DAY
    monkeypatch.setenv(VARIABLE, "5")
    assert files_per_day(lake, CRITEO) == 5


def test_the_number_of_a_lake_with_tables_stays(lake, monkeypatch):
    lake.files_per_day(CRITEO).parent.mkdir(parents=True)
    lake.files_per_day(CRITEO).write_text("16")
    assert files_per_day(lake, CRITEO) == 16
    monkeypatch.setenv(VARIABLE, "8")
    with pytest.raises(UserError, match="MTORL_FILES_PER_DAY=8: criteo has 16 files a day"):
        files_per_day(lake, CRITEO)


def test_a_number_below_that_of_the_files_is_one_line(built, monkeypatch):
    """With it, a task would not find all rows of its users."""
    monkeypatch.setattr("jobs.spark.files_per_day.FILES_PER_DAY", 8)  # it is smaller in tests
    file = built.lake.files_per_day(CRITEO)
    assert files_per_day(built.lake, CRITEO) == 3
    file.write_text("2")
    with pytest.raises(UserError, match=r"files_per_day\.json has the number 2, but a day of exposures has 3 files"):
        files_per_day(built.lake, CRITEO)
    file.unlink()
    assert files_per_day(built.lake, CRITEO) == FILES_PER_DAY  # no file contradicts the number of earlier lakes
    with pytest.raises(UserError, match=r"another run has begun criteo .* with 8 files a day, not 3"):
        store_files_per_day(built.lake, CRITEO, 3)


def test_a_missing_number_is_one_line_if_there_are_more_files_than_earlier_lakes_had(lake, monkeypatch):
    monkeypatch.setattr("jobs.spark.files_per_day._largest_number", lambda *_: 8)
    with pytest.raises(UserError, match=r"files_per_day\.json is missing: write into it how many files"):
        files_per_day(lake, CRITEO)


@pytest.mark.parametrize("value", ["0", "many", "2000"])
def test_a_wrong_number_is_one_line(tmp_path, monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(UserError, match=f"MTORL_FILES_PER_DAY={value}: a number from 1 to 1024"):
        files_per_day(Lake(tmp_path), CRITEO)


def test_a_damaged_number_is_one_line(lake):
    file = lake.files_per_day(CRITEO)
    file.parent.mkdir(parents=True)
    file.write_text("0")
    with pytest.raises(UserError, match=r"files_per_day\.json is damaged"):
        files_per_day(lake, CRITEO)
