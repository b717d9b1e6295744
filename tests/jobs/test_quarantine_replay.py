"""Quarantined rows: shown by reason and file, exported, repaired, and replayed by the next run."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from in_process import Jobs
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand
from report_lake import publish

from jobs import quarantine
from jobs.quarantine import export
from jobs.raw.index import FileRows, RawIndex, store_index
from jobs.raw.repair_files import repair_name
from lakehouse.files import file_sha256
from lakehouse.lake import Lake
from schemas.dataset import RawFile, get_dataset
from schemas.days import UNDATED
from schemas.errors import EXIT_USER_ERROR, UserError

FIRST_MS, DAY = 1650597047647, "2022-04-22"  # 11:10 in Shanghai
LOG = "log_random_4_22_to_5_08_pure.csv"


@pytest.fixture
def jobs(spark, tmp_path, monkeypatch) -> Jobs:
    return Jobs(spark, Lake(tmp_path / "lake"), "kuairand", monkeypatch)


def fates(lake: Lake, dataset: str) -> tuple[int, int, int, int]:
    """Rows in, exposures, duplicates and quarantined rows, over all days and the undated rows."""
    days = lake.days("exposures", dataset)
    manifests = [lake["exposures", dataset, day].manifest for day in days]
    undated = lake["quarantine", dataset, UNDATED].manifest.rows
    total = [sum(m.counts[name] for m in manifests) for name in ("rows_in", "duplicates", "quarantined")]
    return total[0] + undated, sum(m.rows for m in manifests), total[1], total[2] + undated


def raw_rows(*files: Path) -> int:
    return sum(len(file.read_text().splitlines()) - 1 for file in files)


@pytest.mark.spark
def test_quarantined_rows_are_repaired_and_replayed_without_touching_the_log(jobs, tmp_path, capsys):
    good = [kuairand_row(time_ms=FIRST_MS + k) for k in range(6)]
    bad = [kuairand_row(time_ms=FIRST_MS + 10, is_click=7), kuairand_row(time_ms=FIRST_MS + 11, is_click=7),
           kuairand_row(time_ms=FIRST_MS + 12, video_id=99), kuairand_row(time_ms="noon")]  # fmt: skip
    raw = write_kuairand(tmp_path / "raw", [*good, good[0], *bad])
    hashes = {path.name: file_sha256(path) for path in raw.iterdir()}
    jobs.ok("build_exposures", "--raw", str(raw))
    assert fates(jobs.lake, "kuairand") == (11, 6, 1, 4)

    out = tmp_path / "repair"
    jobs.ok("quarantine", "--out", str(out))
    output = capsys.readouterr().out
    assert f"{DAY}  2 rows in {LOG}: is_click is neither 0 nor 1\n    1,10," in output
    assert f"{DAY}  1 rows in {LOG}: unknown video" in output
    assert f"{UNDATED}  1 rows in {LOG}: time_ms is not a whole number: noon" in output
    assert "4 rows in quarantine" in output
    dated, undated = sorted(out.iterdir())
    assert [dated.name, undated.name] == [f"{LOG.removesuffix('.csv')}_repaired_{d}.csv" for d in (DAY, UNDATED)]
    assert sorted(dated.read_text().splitlines()[1:]) == sorted(bad[:3])

    # A second export would overwrite a file that may be under repair.
    assert jobs.run("quarantine", "--out", str(out)) == EXIT_USER_ERROR
    assert "exists already" in capsys.readouterr().err

    # The clicks are repaired, the unknown video is not, and the row without a day is not moved to the log.
    repaired = raw / dated.name
    header = dated.read_text().splitlines()[0].split(",")
    rows = pd.read_csv(dated)
    rows.loc[rows.is_click == 7, "is_click"] = 1
    rows[header].to_csv(repaired, index=False)
    jobs.ok("build_exposures", "--raw", str(raw))
    rows_in, exposures, duplicates, quarantined = fates(jobs.lake, "kuairand")
    assert (rows_in, exposures, duplicates, quarantined) == (14, 8, 1, 5)
    assert rows_in == exposures + duplicates + quarantined == raw_rows(*raw.glob("log_*.csv"))
    assert {path.name: file_sha256(path) for path in raw.iterdir() if path != repaired} == hashes
    clicked = pd.read_parquet(jobs.lake["exposures", "kuairand", DAY].path, filters=[("click", "=", 1)])
    assert sorted(clicked.exposed_at_ms) == [FIRST_MS + 10, FIRST_MS + 11]
    jobs.ok("quarantine", "--day", DAY)
    assert f"1 rows in {dated.name}: unknown video" in capsys.readouterr().out

    # The second export has only the row that is still broken in the repaired file.
    jobs.ok("quarantine", "--day", DAY, "--out", str(tmp_path / "again"))
    (second_file,) = (tmp_path / "again").iterdir()
    assert second_file.name == dated.name.replace(".csv", f"_repaired_{DAY}.csv")
    assert len(second_file.read_text().splitlines()) == 2

    # Repaired rows that are delivered a second time, by mistake, are duplicates.
    (raw / LOG.replace(".csv", "_again.csv")).write_text(repaired.read_text())
    jobs.ok("build_exposures", "--raw", str(raw))
    assert fates(jobs.lake, "kuairand") == (17, 8, 3, 6)


@pytest.mark.spark
def test_a_compressed_log_is_repaired_by_a_plain_file(jobs, tmp_path, capsys):
    raw = write_criteo(tmp_path / "raw", [criteo_row(), criteo_row(uid=2, click=9)])
    jobs.dataset = "criteo"
    jobs.ok("build_exposures", "--raw", str(raw))
    jobs.ok("quarantine", "--day", "2017-01-01", "--out", str(tmp_path / "repair"))
    (file,) = (tmp_path / "repair").iterdir()
    assert file.name == "criteo_attribution_dataset_repaired_2017-01-01.tsv"
    (raw / file.name).write_text(file.read_text().replace("\t9\t", "\t1\t"))
    jobs.ok("build_exposures", "--raw", str(raw))
    assert fates(jobs.lake, "criteo") == (3, 2, 0, 1)


# Repeated exports. The tables are written directly into the lake, and the raw index names the files of the log.

CRITEO, CRITEO_DAY = get_dataset("criteo"), "2017-01-03"
CRITEO_LOG = "criteo_attribution_dataset.tsv.gz"
FILES = [f"criteo_attribution_dataset_repaired_{CRITEO_DAY}{number}.tsv" for number in ("", "_2", "_3")]


def put_quarantine(lake: Lake, *rows: str) -> None:
    values = ", ".join(f"('{CRITEO_LOG}', '{raw}', 'no user')" for raw in rows)
    publish(lake, "quarantine", CRITEO_DAY, f"SELECT * FROM (VALUES {values}) t(source_file, raw, reason)")


def put_log(lake: Lake, *files: str) -> None:
    store_index(lake, CRITEO, RawIndex("", {file: FileRows([], {}, {}) for file in (CRITEO_LOG, *files)}))


def exported(lake: Lake, folder: Path) -> dict[str, list[str]]:
    """The files of one more export and their rows."""
    return {path.name: path.read_text().splitlines()[1:] for path, _ in export(lake, CRITEO, [CRITEO_DAY], folder)}


def test_a_row_is_not_exported_again_once_the_log_has_its_file(tmp_path):
    lake = Lake(tmp_path / "lake")
    put_quarantine(lake, "a", "b")
    assert exported(lake, tmp_path / "1") == {FILES[0]: ["a", "b"]}
    put_log(lake, FILES[0])
    assert exported(lake, tmp_path / "2") == {}
    assert not (tmp_path / "2").exists()
    put_quarantine(lake, "a", "b", "late")  # rows were added to the original file
    assert exported(lake, tmp_path / "3") == {FILES[1]: ["late"]}
    put_log(lake, *FILES[:2])
    put_quarantine(lake, "a", "b", "late", "later")
    assert exported(lake, tmp_path / "4") == {FILES[2]: ["later"]}


def test_no_file_has_the_name_of_one_that_may_be_in_the_log(tmp_path):
    """A second file of that name, moved to the log, would replace the first one and its repaired rows."""
    lake = Lake(tmp_path / "lake")
    put_quarantine(lake, "a", "b")
    exported(lake, tmp_path / "1")
    put_log(lake)  # the file was moved but not read yet, or deleted: the rows must not be lost in either case
    assert exported(lake, tmp_path / "2") == {FILES[1]: ["a", "b"]}
    put_log(lake, FILES[0], FILES[1])
    shutil.rmtree(lake.exported_quarantine("criteo"))  # exported before the lake stored copies
    assert exported(lake, tmp_path / "3") == {FILES[2]: ["a", "b"]}


def test_a_file_that_may_be_under_repair_stops_the_next_export(tmp_path):
    lake = Lake(tmp_path / "lake")
    put_quarantine(lake, "a")
    exported(lake, tmp_path / "1")
    with pytest.raises(UserError, match=f"{FILES[0]} exists already"):
        exported(lake, tmp_path / "1")
    assert [path.name for path in (tmp_path / "1").iterdir()] == FILES[:1]


def test_the_command_says_that_there_is_nothing_left_to_export(tmp_path, monkeypatch, capsys):
    lake = Lake(tmp_path / "lake")
    put_quarantine(lake, "a")
    exported(lake, tmp_path / "1")
    put_log(lake, FILES[0])
    monkeypatch.setattr(sys, "argv", ["quarantine", "--dataset", "criteo", "--lake", str(lake.root), "--out",
                                      str(tmp_path / "2")])  # fmt: skip
    quarantine.main()
    assert "no rows to export" in capsys.readouterr().out


def test_a_day_without_a_quarantine_is_a_user_error(jobs, capsys):
    assert jobs.run("quarantine", "--day", DAY) == EXIT_USER_ERROR
    assert f"no quarantine for kuairand on {DAY}" in capsys.readouterr().err
    assert jobs.run("quarantine", "--day", "yesterday") == EXIT_USER_ERROR


@pytest.mark.parametrize(("patterns", "name", "expected"), [
    (("log_*.csv",), "log_a.csv", "log_a_repaired_2022-04-22.csv"),
    (("log.tsv.gz", "log*.tsv"), "log.tsv.gz", "log_repaired_2022-04-22.tsv"),
    (("*.day",), "a.day", "_a.day_repaired_2022-04-22.day"),
])  # fmt: skip
def test_the_name_of_a_repaired_file_matches_the_patterns_of_the_log(patterns, name, expected):
    assert repair_name(name, DAY, RawFile("log", patterns, ())) == expected


def test_a_log_without_a_pattern_has_no_name_for_a_repaired_file():
    with pytest.raises(UserError, match="give its RawFile a pattern with a"):
        repair_name("log.csv", DAY, RawFile("log", ("log.csv",), ()))


def test_every_dataset_has_a_name_for_repaired_files():
    for dataset, file in (("kuairand", LOG), ("criteo", "criteo_attribution_dataset.tsv.gz")):
        assert repair_name(file, DAY, get_dataset(dataset).log)
