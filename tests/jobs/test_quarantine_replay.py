"""Quarantined rows: shown by reason and file, exported, repaired, and replayed by the next run."""

import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from in_process import Jobs
from raw_logs import criteo_row, write_criteo
from report_lake import publish
from shop import SHOP, sent, write_file

import schemas.dataset
from jobs import quarantine
from jobs.quarantine import export
from jobs.raw.index import FileRows, RawIndex, store_index
from jobs.raw.repair_files import repair_name
from lakehouse.files import file_sha256
from lakehouse.lake import Lake
from schemas.dataset import RawFile, get_dataset
from schemas.days import UNDATED
from schemas.errors import EXIT_USER_ERROR, UserError

DAY, SHOP_DAY = "2022-04-22", "2024-05-01"
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
def test_quarantined_rows_are_repaired_and_replayed_without_touching_the_log(jobs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
    jobs.dataset = "shop"
    good = [sent("ann", SHOP_DAY, hour) for hour in range(6)]
    bad = [f"bob;{SHOP_DAY}T10:00:00Z;mail;free;1;;", f"bob;{SHOP_DAY}T11:00:00Z;mail;free;1;;",
           f"bob;{SHOP_DAY}T12:00:00Z;mail;0.1;no;;", "bob;noon;mail;0.1;1;;"]  # fmt: skip
    raw = tmp_path / "raw"
    write_file(raw, SHOP_DAY, [*good, good[0], *bad])
    log = raw / f"sent-{SHOP_DAY}.txt"
    log_hash = file_sha256(log)
    jobs.ok("build_exposures", "--raw", str(raw))
    assert fates(jobs.lake, "shop") == (11, 6, 1, 4)

    out = tmp_path / "repair"
    jobs.ok("quarantine", "--out", str(out))
    output = capsys.readouterr().out
    assert f"{SHOP_DAY}  2 rows in {log.name}: price is not a number: free\n    bob;{SHOP_DAY}T10" in output
    assert f"{SHOP_DAY}  1 row in {log.name}: opened is not a whole number: no" in output
    assert f"{UNDATED}  1 row in {log.name}: sent is no time" in output
    assert "4 rows in quarantine" in output
    dated, undated = sorted(out.iterdir())
    assert [dated.name, undated.name] == [f"sent-{SHOP_DAY}_repaired_{day}.txt" for day in (SHOP_DAY, UNDATED)]
    assert sorted(dated.read_text().splitlines()[1:]) == sorted(bad[:3])

    # A second export would overwrite a file that may be under repair.
    assert jobs.run("quarantine", "--out", str(out)) == EXIT_USER_ERROR
    assert "exists already" in capsys.readouterr().err

    # The prices are repaired, `opened` is not, and the row without a day is not moved to the log.
    repaired = raw / dated.name
    repaired.write_text(dated.read_text().replace(";free;", ";0.25;"))
    jobs.ok("build_exposures", "--raw", str(raw))
    rows_in, exposures, duplicates, quarantined = fates(jobs.lake, "shop")
    assert (rows_in, exposures, duplicates, quarantined) == (14, 8, 1, 5)
    assert rows_in == exposures + duplicates + quarantined == raw_rows(*raw.iterdir())
    assert file_sha256(log) == log_hash
    repaired_rows = pd.read_parquet(jobs.lake["exposures", "shop", SHOP_DAY].path, filters=[("user_id", "=", "bob")])
    assert repaired_rows.cost.tolist() == [0.25, 0.25]
    jobs.ok("quarantine", "--day", SHOP_DAY)
    assert f"1 row in {dated.name}: opened is not a whole number: no" in capsys.readouterr().out

    # The second export has only the row that is still broken in the repaired file.
    jobs.ok("quarantine", "--day", SHOP_DAY, "--out", str(tmp_path / "second"))
    (second_file,) = (tmp_path / "second").iterdir()
    assert second_file.name == dated.name.replace(".txt", f"_repaired_{SHOP_DAY}.txt")
    assert len(second_file.read_text().splitlines()) == 2

    # Repaired rows that are delivered a second time, by mistake, are duplicates.
    (raw / "sent-again.txt").write_text(repaired.read_text())
    jobs.ok("build_exposures", "--raw", str(raw))
    assert fates(jobs.lake, "shop") == (17, 8, 3, 6)


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
