"""Fresh partitions stay untouched and stale ones are built again, by the jobs themselves."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pyarrow.compute as pc
import pytest
from in_process import Jobs, files_of, rewritten
from lakes import contents, partitions, unpublish
from raw_logs import kuairand_row, write_kuairand
from shop import SHOP, sent, write_file

import schemas.dataset
from jobs.raw.accounts import LogAccounts, log_accounts
from jobs.raw.index import stored_index
from lakehouse.lake import Lake
from schemas.days import UNDATED
from schemas.errors import EXIT_NOT_YET, EXIT_NOTHING_TO_DO

DAYS = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
EMPTY = DAYS[2]
TABLES = ("exposures", "quarantine", "journeys", "steps", "item_history", "sequences")
FROM_HISTORY = TABLES[2:]
# ann's second newsletter leads to an order on the last day.
LOG = {
    DAYS[0]: [sent("ann", DAYS[0], 8), sent("ann", DAYS[0], 9, medium="sms", bought="2024-05-04T07:00:00Z"),
              sent("bob", DAYS[0], 9)],
    DAYS[1]: [sent("ann", DAYS[1], 10), sent("bob", DAYS[1], 7, opened=0), sent("bob", DAYS[1], 11)],
    DAYS[3]: [sent("ann", DAYS[3], 8, price=0.5), sent("bob", DAYS[3], 8), sent("cy", DAYS[3], 8)],
}  # fmt: skip
REAL_DATASETS = schemas.dataset._registry()


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP, **REAL_DATASETS})
        yield patch


def write_log(raw: Path) -> Path:
    for day, rows in LOG.items():
        write_file(raw, day, rows)
    return raw


def run_day(jobs: Jobs, raw: Path, day: str) -> None:
    """The jobs of the daily DAG that build tables, without the audits."""
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    jobs.ok("build_sequences", "--up-to", day, "--journeys")


@pytest.fixture(scope="module")
def finished(spark, tmp_path_factory, module_patch) -> tuple[Lake, Path]:
    """A lake of all days, built in their order, and its raw folder. Tests must not change them."""
    root = tmp_path_factory.mktemp("finished")
    raw, lake = write_log(root / "raw"), Lake(root / "lake")
    for day in DAYS:
        run_day(Jobs(spark, lake, "shop", module_patch), raw, day)
    return lake, raw


@pytest.fixture
def jobs(spark, finished, tmp_path, module_patch) -> Jobs:
    """A copy of the finished lake, to continue with."""
    shutil.copytree(finished[0].root, tmp_path / "lake")
    return Jobs(spark, Lake(tmp_path / "lake"), "shop", module_patch)


@pytest.fixture
def raw(finished, tmp_path) -> Path:
    """A copy of the log, to change."""
    return write_log(tmp_path / "raw")


def manifest_texts(lake: Lake) -> dict[str, str]:
    """All manifests: fingerprints, rows and inputs."""
    return {partition.key: str(partition.manifest) for partition in partitions(lake)}


def build_new_lake(jobs: Jobs, raw: Path, days: list[str]) -> Lake:
    """Another lake, built from the current log in this order of days."""
    new_jobs = Jobs(jobs.spark, Lake(raw.parent / "new"), "shop", jobs.patch)
    for day in days:
        run_day(new_jobs, raw, day)
    return new_jobs.lake


def manifests(lake: Lake) -> dict[str, dict]:
    """All manifests by partition. Checks that the files have the content of their names."""
    contents(lake)
    by_key = {partition.key: asdict(partition.manifest) for partition in partitions(lake)}
    for manifest in by_key.values():
        if manifest["ds"] == UNDATED:
            del manifest["counts"]  # the rows of the log when the undated rows last changed
    return by_key


def test_a_second_run_changes_nothing_and_does_not_start_spark(jobs, finished, capsys):
    assert jobs.lake["exposures", "shop", EMPTY].manifest.rows == 0
    files_before = files_of(jobs.lake, *TABLES)
    for day in DAYS:
        run_day(jobs, finished[1], day)
    assert files_of(jobs.lake, *TABLES) == files_before
    assert jobs.contexts == 0
    assert "4 of 4 days are fresh" in capsys.readouterr().out


BACKWARDS, SHUFFLED = [DAYS[k] for k in (3, 2, 1, 0)], [DAYS[k] for k in (2, 0, 3, 1)]


def test_a_corrected_day_refreshes_what_is_built_from_it_and_nothing_else(jobs, raw):
    """The refreshed lake equals a lake that is built from scratch, even with the days in reverse order."""
    files_before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[1], [LOG[DAYS[1]][0].replace(";1;", ";0;"), *LOG[DAYS[1]][1:]])
    for day in DAYS:
        run_day(jobs, raw, day)
    downstream = {f"{table}/{day}" for table in FROM_HISTORY for day in DAYS[1:]}
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {
        f"exposures/{DAYS[1]}", f"quarantine/{DAYS[1]}", *downstream,
    }  # fmt: skip
    assert manifests(build_new_lake(jobs, raw, BACKWARDS)) == manifests(jobs.lake)


def test_a_day_whose_content_stays_the_same_leaves_later_tables_unchanged(jobs, raw):
    files_before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], LOG[DAYS[0]][0]])
    for day in DAYS:
        run_day(jobs, raw, day)
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {f"exposures/{DAYS[0]}", f"quarantine/{DAYS[0]}"}
    assert jobs.lake["exposures", "shop", DAYS[0]].manifest.counts["duplicates"] == 1


def test_a_file_that_is_delivered_twice_changes_no_content(jobs, raw):
    fingerprints_before = {path: m["fingerprint"] for path, m in manifests(jobs.lake).items() if "journeys" in path}
    shutil.copy(raw / f"sent-{DAYS[0]}.txt", raw / "sent-again.txt")
    run_day(jobs, raw, DAYS[0])
    assert jobs.lake["exposures", "shop", DAYS[0]].manifest.counts["duplicates"] == 3
    assert {
        path: m["fingerprint"] for path, m in manifests(jobs.lake).items() if "journeys" in path
    } == fingerprints_before


def test_late_rows_and_rows_in_another_days_file_reach_their_day(jobs, raw, capsys):
    """The refreshed lake equals a lake that is built from scratch, with the days in any order."""
    files_before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], sent("ann", DAYS[2], 20)])
    run_day(jobs, raw, DAYS[3])
    assert f"note: 1 earlier days were missing or their raw rows have changed: {DAYS[2]};" in capsys.readouterr().out
    # The run of the last day reads all exposures, and refreshes the labels that may still change and the journeys since
    # the last snapshot, with which those of the last day are read.
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {
        f"exposures/{DAYS[2]}", f"quarantine/{DAYS[2]}",
        *(f"{table}/{day}" for table in FROM_HISTORY for day in DAYS[2:]),
    }  # fmt: skip
    run_day(jobs, raw, DAYS[2])
    assert manifests(build_new_lake(jobs, raw, SHUFFLED)) == manifests(jobs.lake)


def test_an_outcome_that_is_delivered_later_reaches_the_labels_of_its_day(jobs, raw):
    files_before = files_of(jobs.lake, "steps", "sequences")
    bought = LOG[DAYS[1]][2].replace(";;41", f";{DAYS[3]}T09:00:00Z;41")
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], bought])  # the row of DAYS[1] again, now with its order
    run_day(jobs, raw, DAYS[3])
    assert rewritten(files_before, files_of(jobs.lake, "steps", "sequences")) == {
        f"{table}/{day}" for table in ("steps", "sequences") for day in DAYS[1:]
    }
    (window,) = jobs.lake["sequences", "shop", DAYS[1]].read().filter(pc.field("user_id") == "bob").to_pylist()
    exposures, steps = (jobs.lake[table, "shop", DAYS[1]].read() for table in ("exposures", "steps"))
    places = dict(zip(*steps.select(["exposure_id", "journey_position"]).to_pydict().values(), strict=True))
    bobs = exposures.filter(pc.field("user_id") == "bob").to_pylist()
    assert [row["order"] for row in bobs if places[row["exposure_id"]] == window["last_step"]] == [1]


def test_a_day_beyond_the_log_is_nothing_to_do(jobs, raw, capsys):
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2026-01-01") == EXIT_NOTHING_TO_DO
    output = capsys.readouterr().out
    assert "nothing to do: the log has the days 2024-05-01 to 2024-05-04, and so far no row of 2026-01-01" in output
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2024-05-05") == EXIT_NOT_YET
    assert jobs.lake.days("exposures", "shop") == DAYS


def test_one_row_of_a_clock_that_runs_ahead_does_not_show_that_the_days_before_it_are_empty(jobs, raw, capsys):
    usual = [sent(f"ann{k}", DAYS[0], 8) for k in range(200)]
    for day in DAYS:
        write_file(raw, day, [row.replace(DAYS[0], day) for row in usual])
    write_file(raw, "2024-06-01", [sent("bob", "2024-06-01", 10)])
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2024-05-20") == EXIT_NOT_YET
    assert "so far no row of 2024-05-20" in capsys.readouterr().out
    # The row itself does not show that its day has come. A person may confirm it.
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2024-06-01") == EXIT_NOT_YET
    line = capsys.readouterr().out
    assert "so far 1 of the usual 200 rows of 2024-06-01; if no more come: make backfill DATASET=shop" in line
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", "2024-06-01", "--accept-few-rows")
    assert jobs.lake["exposures", "shop", "2024-06-01"].manifest.rows == 1
    assert "wait" not in capsys.readouterr().out


def test_a_waiting_row_in_the_file_of_a_built_day_is_not_printed_as_a_duplicate(jobs, tmp_path, capsys):
    rows = [sent(f"ann{k}", DAYS[0], 8) for k in range(20)]
    write_file(tmp_path / "new", DAYS[0], [*rows, rows[0], sent("bob", "2028-05-01", 10)])
    new_jobs = Jobs(jobs.spark, Lake(tmp_path / "new-lake"), "shop", jobs.patch)
    capsys.readouterr()
    new_jobs.ok("build_exposures", "--raw", str(tmp_path / "new"))
    total, waiting = capsys.readouterr().out.splitlines()
    assert total.endswith(": 21 rows in = 20 exposures + 1 duplicate + 0 quarantined")
    assert waiting.startswith("note: 1 raw row of shop waits: 1 of 2028-05-01 (in ")


def test_rows_of_days_that_are_not_built_wait_and_are_named(jobs, raw, tmp_path, capsys):
    """Rows before the first built day, a trickle of tomorrow, and a stamp that is years away, in one line."""
    rows = [sent(f"ann{k}", DAYS[0], 8) for k in range(20)]
    for day in DAYS:
        write_file(raw, day, [row.replace(DAYS[0], day) for row in rows])
    stray = [sent("bob", day, 10) for day in ("2024-05-05", "2028-05-01", "1970-01-01")]
    write_file(raw, "2024-05-09", [*stray, "zoe;2024-05-05T10:30:00Z;mail;-1;0;;41"])
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", DAYS[1])
    jobs.ok("build_exposures", "--raw", str(raw), "--from", DAYS[2], "--to", DAYS[3])
    jobs.ok("build_exposures", "--raw", str(raw))
    assert jobs.lake.days("exposures", "shop") == DAYS  # not 21,306 days
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("note: 4 raw rows of shop wait: ")
    assert "2 of 2 days from 1970-01-01 to 2028-05-01 (in sent-2024-05-09.txt) after or before a gap of more" in line
    assert "2 of 2024-05-05 for the rest of its day, usually 20 rows; if no more come: make backfill" in line
    accounts = log_accounts(stored_index(jobs.lake, SHOP), lambda table, day: jobs.lake[table, SHOP, day].manifest)
    assert accounts == LogAccounts(84, exposures=80, waiting={"1970-01-01": 1, "2024-05-05": 2, "2028-05-01": 1})

    later = Jobs(jobs.spark, Lake(tmp_path / "later"), "shop", jobs.patch)
    later.ok("build_exposures", "--raw", str(raw), "--from", DAYS[2], "--to", DAYS[2])
    later.ok("build_exposures", "--raw", str(raw), "--up-to", DAYS[3])
    line = capsys.readouterr().out.splitlines()[-1]
    assert f"40 of 2 days from {DAYS[0]} to {DAYS[1]} before the first day that runs build: make backfill" in line


def test_a_removed_file_withdraws_no_rows(jobs, raw, capsys):
    files_before = files_of(jobs.lake, *TABLES)
    (raw / f"sent-{DAYS[0]}.txt").unlink()
    run_day(jobs, raw, DAYS[3])
    assert files_of(jobs.lake, *TABLES) == files_before
    # The same if rows of its day change in another file: the day is not built again, and a line gives the reason.
    late = sent("ann", DAYS[0], 12)
    for row in (late, late.replace(";0.1;", ";0.2;")):
        write_file(raw, DAYS[3], [*LOG[DAYS[3]], row])
        files_before = files_of(jobs.lake, "exposures")
        run_day(jobs, raw, DAYS[3])
    output = capsys.readouterr().out
    assert f"note: {DAYS[0]} has to be built, but sent-{DAYS[0]}.txt, which had rows that it needs, has" in output
    assert "until then the day is not built" in output
    assert rewritten(files_before, files_of(jobs.lake, "exposures")) == set()
    # A run that asks for this day fails.
    assert jobs.run("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0]) == 2
    assert "restore it" in capsys.readouterr().err
    # A file with its header alone withdraws its rows.
    write_file(raw, DAYS[0], [])
    jobs.ok("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0])
    rows = jobs.lake["exposures", "shop", DAYS[0]].read().to_pandas()
    assert list(rows.user_id) == ["ann"]


@pytest.mark.parametrize("latest", [[], [sent("bob", DAYS[0], 20)]])
def test_late_rows_reach_a_day_whose_own_file_was_rotated_away(jobs, raw, tmp_path, module_patch, latest):
    """As if the file still existed: duplicates, quarantined rows and counts included."""
    late = [sent("ann", DAYS[0], 12), LOG[DAYS[0]][0], "bob;;push;0.0;1;;", f"bob;{DAYS[0]}T12:00:00Z;push;no;1;;"]
    bad = f"ann;{DAYS[0]}T13:00:00Z;push;no;1;;"
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], LOG[DAYS[0]][1], bad])
    jobs.ok("build_exposures", "--raw", str(raw))
    complete = Jobs(jobs.spark, Lake(tmp_path / "complete"), "shop", module_patch)
    complete_raw = shutil.copytree(raw, tmp_path / "complete_raw")

    (raw / f"sent-{DAYS[0]}.txt").unlink()
    for day, rows in ((DAYS[3], [*LOG[DAYS[3]], *late]), ("2024-05-05", [*latest, sent("bob", "2024-05-05", 9)])):
        for folder in (raw, complete_raw):
            write_file(folder, day, rows)
        jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    complete.ok("build_exposures", "--raw", str(complete_raw))
    for table, day in [(table, day) for table in ("exposures", "quarantine") for day in DAYS]:
        rotated, expected = (lake[table, "shop", day].manifest for lake in (jobs.lake, complete.lake))
        assert rotated == expected
    undated = (lake["quarantine", "shop", UNDATED].manifest for lake in (jobs.lake, complete.lake))
    assert len({manifest.fingerprint for manifest in undated}) == 1
    counts = jobs.lake["exposures", "shop", DAYS[0]].manifest.counts
    assert counts == {"rows_in": 8 + len(latest), "duplicates": 2, "quarantined": 2}


def test_a_renamed_file_replaces_the_old_one(jobs, raw):
    fingerprint_before = jobs.lake["exposures", "shop", DAYS[0]].manifest.fingerprint
    (raw / f"sent-{DAYS[0]}.txt").rename(raw / "sent-moved.txt")
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], sent("ann", DAYS[0], 12)])
    jobs.ok("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0])
    assert jobs.lake["exposures", "shop", DAYS[0]].manifest.fingerprint != fingerprint_before


def test_the_undated_rows_are_refreshed_alone(jobs, raw):
    files_before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], "bob;yesterday;push;0.0;1;;"])
    jobs.ok("build_exposures", "--raw", str(raw))
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {f"quarantine/{UNDATED}"}


def test_a_days_tables_are_the_same_built_together_or_one_by_one(jobs):
    manifests_before = manifest_texts(jobs.lake)
    jobs.contexts = 0
    jobs.ok("build_sequences", "--up-to", DAYS[3], "--journeys")
    assert jobs.contexts == 0  # everything is fresh: Spark is not started
    for table in FROM_HISTORY:
        unpublish(jobs.lake[table, "shop", DAYS[3]])
    jobs.ok("build_sequences", "--up-to", DAYS[3], "--journeys")
    assert jobs.contexts == 1
    assert manifest_texts(jobs.lake) == manifests_before
    for table in FROM_HISTORY:
        unpublish(jobs.lake[table, "shop", DAYS[3]])
    jobs.ok("build_sequences", "--up-to", DAYS[3])
    jobs.ok("build_journeys", "--day", DAYS[3])
    assert manifest_texts(jobs.lake) == manifests_before


def test_a_day_reads_no_earlier_table_but_journeys_since_the_snapshot_and_item_history(jobs, finished):
    """So its cost does not grow with the history.

    The test overwrites all other files with bytes that are not Parquet.
    """
    manifests_before, (*past, yesterday, today) = manifest_texts(jobs.lake), DAYS
    for table in TABLES:
        unpublish(jobs.lake[table, "shop", today])
        spared = {"journeys": [*past, yesterday], "item_history": [yesterday]}.get(table, [])
        for day in {*past, yesterday} - {*spared}:
            for file in jobs.lake[table, "shop", day].files():
                file.write_bytes(b"read again")
    run_day(jobs, finished[1], today)
    assert manifest_texts(jobs.lake) == manifests_before


def test_days_built_in_one_run_are_the_same_as_days_built_one_by_one(jobs, raw, capsys):
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], "bob;yesterday;push;0.0;1;;"])
    new_jobs = Jobs(jobs.spark, Lake(raw.parent / "new"), "shop", jobs.patch)
    new_jobs.ok("build_exposures", "--raw", str(raw))
    new_jobs.ok("build_sequences")
    output = capsys.readouterr().out
    assert output.count("rows in = ") == output.count("sequences shop 2024-05-01..2024-05-04: 4 days built") == 1
    assert "10 rows in = 9 exposures + 0 duplicates + 1 quarantined" in output
    dated = {path: manifest for path, manifest in manifests(new_jobs.lake).items() if UNDATED not in path}
    assert dated == {path: manifest for path, manifest in manifests(jobs.lake).items()
                     if UNDATED not in path and "/journeys/" not in path}  # fmt: skip
    assert len(dated) == (len(TABLES) - 1) * len(DAYS)


def test_another_window_length_makes_sequences_stale(jobs):
    files_before = files_of(jobs.lake, *TABLES)
    jobs.ok("build_sequences")
    assert files_of(jobs.lake, *TABLES) == files_before
    jobs.ok("build_sequences", "--steps", "6", "--from", DAYS[3])
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {f"sequences/{DAYS[3]}"}


def test_other_code_makes_a_partition_stale_only_with_this_code(jobs, finished, module_patch):
    files_before = files_of(jobs.lake, *TABLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.arguments.code_version", lambda *_: "other")
        run_day(jobs, finished[1], DAYS[0])
        assert files_of(jobs.lake, *TABLES) == files_before
        patch.setattr("jobs.spark.partitions.code_version", lambda *_: "other")
        jobs.ok("build_journeys", "--day", DAYS[0], "--this-code")
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {f"journeys/{DAYS[0]}"}


def test_a_video_that_is_corrected_in_its_lookup_file_changes_the_days_that_showed_it(spark, tmp_path, module_patch):
    log = [kuairand_row(), kuairand_row(video_id=12, time_ms=1650597047647 + 86_400_000, date=20220423)]
    raw, jobs = write_kuairand(tmp_path / "raw", log), Jobs(spark, Lake(tmp_path / "lake"), "kuairand", module_patch)
    jobs.ok("build_exposures", "--raw", str(raw))
    files_before = files_of(jobs.lake, *TABLES)
    videos = raw / "video_features_basic_pure.csv"
    videos.write_text(videos.read_text().replace("500000.0", "400000.0"))
    jobs.ok("build_exposures", "--raw", str(raw))
    assert rewritten(files_before, files_of(jobs.lake, *TABLES)) == {"exposures/2022-04-23", "quarantine/2022-04-23"}
