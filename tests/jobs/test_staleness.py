"""What is fresh stays untouched, what is stale is built again, and nothing else: with the jobs themselves."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from in_process import Jobs, files_of, rewritten
from raw_logs import kuairand_row, write_kuairand
from shop import SHOP, SPEC, sent, write_file

import schemas.dataset
from jobs.spark.partitions import publish_days
from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint
from schemas.days import UNDATED
from schemas.errors import EXIT_NOT_YET, EXIT_NOTHING_TO_DO

DAYS = ["2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04"]
EMPTY = DAYS[2]
TABLES = ("exposures", "quarantine", "journeys", "sequences")
# ann's second newsletter sells on the last day.
LOG = {
    DAYS[0]: [sent("ann", DAYS[0], 8), sent("ann", DAYS[0], 9, medium="sms", bought="2024-05-04T07:00:00Z"),
              sent("bob", DAYS[0], 9)],
    DAYS[1]: [sent("ann", DAYS[1], 10), sent("bob", DAYS[1], 7, opened=0), sent("bob", DAYS[1], 11)],
    DAYS[3]: [sent("ann", DAYS[3], 8, price=0.5), sent("bob", DAYS[3], 8), sent("cy", DAYS[3], 8)],
}  # fmt: skip


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP, **REAL})
        yield patch


REAL = schemas.dataset._registry()


def write_log(raw: Path) -> Path:
    for day, rows in LOG.items():
        write_file(raw, day, rows)
    (raw.parent / "spec.json").write_text(SPEC.to_json())
    return raw


def run_day(jobs: Jobs, raw: Path, day: str) -> None:
    """What the daily DAG does for the lake, audits left out."""
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    jobs.ok("build_day", "--day", day, "--spec", str(raw.parent / "spec.json"))


@pytest.fixture(scope="module")
def finished(spark, tmp_path_factory, module_patch) -> tuple[Lake, Path]:
    """A lake of all days, built one after the other, and its raw folder: not to be changed."""
    root = tmp_path_factory.mktemp("finished")
    raw, lake = write_log(root / "raw"), Lake(root / "lake")
    for day in DAYS:
        run_day(Jobs(spark, lake, "shop", module_patch), raw, day)
    return lake, raw


def contents(lake: Lake) -> dict[str, str]:
    """All manifests: fingerprints, rows and inputs."""
    return {str(path.relative_to(lake.root)): path.read_text() for path in lake.root.glob("*/*/*/_manifest.json")}


@pytest.fixture
def jobs(spark, finished, tmp_path, module_patch) -> Jobs:
    """A copy of the finished lake, to go on with."""
    shutil.copytree(finished[0].root, tmp_path / "lake")
    return Jobs(spark, Lake(tmp_path / "lake"), "shop", module_patch)


@pytest.fixture
def raw(finished, tmp_path) -> Path:
    """A log of its own, with the same rows."""
    return write_log(tmp_path / "raw")


def anew(jobs: Jobs, raw: Path, days: list[str]) -> Lake:
    """Another lake, built from the log as it is now."""
    other = Jobs(jobs.spark, Lake(raw.parent / "anew"), "shop", jobs.patch)
    for day in days:
        run_day(other, raw, day)
    return other.lake


def manifests(lake: Lake) -> dict[str, dict]:
    """All manifests by path; the fingerprint that each states is that of its files."""
    found = {}
    for path in sorted(lake.root.glob("*/dataset=*/ds=*/_manifest.json")):
        stated = json.loads(path.read_text())
        assert content_fingerprint(path.parent) == stated["fingerprint"]
        if stated["ds"] == UNDATED:
            del stated["counts"]  # the log's rows when the undated ones last changed
        found[str(path.parent.relative_to(lake.root))] = stated
    return found


def inputs(jobs: Jobs, table: str, day: str) -> dict[str, str]:
    found = jobs.lake[table, "shop", day].manifest
    assert found is not None
    return dict(found.inputs)


def test_a_second_run_touches_nothing_and_does_not_even_start_spark(jobs, finished, capsys):
    assert jobs.lake["exposures", "shop", EMPTY].manifest.rows == 0
    before = files_of(jobs.lake, *TABLES)
    for day in DAYS:
        run_day(jobs, finished[1], day)
    assert files_of(jobs.lake, *TABLES) == before
    assert jobs.sessions == 0
    assert "4 of 4 days are fresh" in capsys.readouterr().out


def test_a_corrected_day_refreshes_what_hangs_on_it_and_nothing_else(jobs, raw):
    before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[1], [LOG[DAYS[1]][0].replace(";1;", ";0;"), *LOG[DAYS[1]][1:]])
    for day in DAYS:
        run_day(jobs, raw, day)
    downstream = {f"{table}/{day}" for table in ("journeys", "sequences") for day in DAYS[1:]}
    touched = rewritten(before, files_of(jobs.lake, *TABLES))
    assert touched == {f"exposures/{DAYS[1]}", f"quarantine/{DAYS[1]}"} | downstream
    assert manifests(anew(jobs, raw, DAYS)) == manifests(jobs.lake)


def test_a_day_whose_content_stays_the_same_leaves_everything_behind_it_alone(jobs, raw):
    before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], LOG[DAYS[0]][0]])
    for day in DAYS:
        run_day(jobs, raw, day)
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {f"exposures/{DAYS[0]}", f"quarantine/{DAYS[0]}"}
    assert jobs.lake["exposures", "shop", DAYS[0]].manifest.counts["duplicates"] == 1


def test_a_file_that_is_there_twice_changes_no_content(jobs, raw):
    before = {path: found["fingerprint"] for path, found in manifests(jobs.lake).items() if "journeys" in path}
    shutil.copy(raw / f"sent-{DAYS[0]}.txt", raw / "sent-again.txt")
    run_day(jobs, raw, DAYS[0])
    assert jobs.lake["exposures", "shop", DAYS[0]].manifest.counts["duplicates"] == 3
    assert {path: found["fingerprint"] for path, found in manifests(jobs.lake).items() if "journeys" in path} == before


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [2, 0, 3, 1]], ids=["backwards", "shuffled"])
def test_any_order_of_days_gives_the_same_lake(jobs, raw, order):
    assert manifests(anew(jobs, raw, [DAYS[k] for k in order])) == manifests(jobs.lake)


def test_rows_that_come_late_or_in_another_days_file_reach_their_day(jobs, raw, capsys):
    before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], sent("ann", DAYS[2], 20)])
    run_day(jobs, raw, DAYS[3])
    assert f"note: 1 earlier days were missing or their raw rows have changed: {DAYS[2]};" in capsys.readouterr().out
    # The run of the last day rests on all that has come, and refreshes the labels that may still change; the
    # journeys of the day before it wait for a run of their own.
    touched = rewritten(before, files_of(jobs.lake, *TABLES))
    assert touched == {
        f"exposures/{DAYS[2]}", f"quarantine/{DAYS[2]}", f"sequences/{DAYS[2]}", f"sequences/{DAYS[3]}",
        f"journeys/{DAYS[3]}",
    }  # fmt: skip
    assert not inputs(jobs, "journeys", DAYS[2]).items() <= inputs(jobs, "journeys", DAYS[3]).items()
    run_day(jobs, raw, DAYS[2])
    assert manifests(anew(jobs, raw, DAYS)) == manifests(jobs.lake)


def test_an_outcome_that_is_delivered_later_reaches_the_labels_of_its_day(jobs, raw):
    before = files_of(jobs.lake, "sequences")
    bought = LOG[DAYS[1]][2].replace(";;41", f";{DAYS[3]}T09:00:00Z;41")
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], bought])  # the row of DAYS[1] again, with what has happened since
    run_day(jobs, raw, DAYS[3])
    touched = rewritten(before, files_of(jobs.lake, "sequences"))
    assert touched == {f"sequences/{day}" for day in DAYS[1:]}
    windows = pd.read_parquet(jobs.lake["sequences", "shop", DAYS[1]].path)
    bob = windows[windows.user_id == "bob"].iloc[0]
    assert list(bob.order)[-1] == 1


def test_a_day_beyond_the_log_is_nothing_to_do(jobs, raw, capsys):
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2026-01-01") == EXIT_NOTHING_TO_DO
    said = capsys.readouterr().out
    assert "nothing to do: the log has the days 2024-05-01 to 2024-05-04, and so far no row of 2026-01-01" in said
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2024-05-05") == EXIT_NOT_YET
    assert jobs.lake.days("exposures", "shop") == DAYS


def test_one_row_of_a_clock_that_runs_ahead_does_not_make_the_days_before_it_empty(jobs, raw, capsys):
    usual = [sent(f"ann{k}", DAYS[0], 8) for k in range(200)]
    for day in DAYS:
        write_file(raw, day, [row.replace(DAYS[0], day) for row in usual])
    write_file(raw, "2024-06-01", [sent("bob", "2024-06-01", 10)])
    assert jobs.run("build_exposures", "--raw", str(raw), "--up-to", "2024-05-20") == EXIT_NOT_YET
    assert "so far no row of 2024-05-20" in capsys.readouterr().out
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", "2024-06-01")  # the row itself is none to refuse


def test_a_file_that_is_gone_takes_no_rows_back(jobs, raw, capsys):
    before = files_of(jobs.lake, *TABLES)
    (raw / f"sent-{DAYS[0]}.txt").unlink()
    run_day(jobs, raw, DAYS[3])
    assert files_of(jobs.lake, *TABLES) == before
    # Not even where rows of its day change in another file: what is built stays, and a line says why.
    late = sent("ann", DAYS[0], 12)
    for row in (late, late.replace(";0.1;", ";0.2;")):
        write_file(raw, DAYS[3], [*LOG[DAYS[3]], row])
        before = files_of(jobs.lake, "exposures")
        run_day(jobs, raw, DAYS[3])
    output = capsys.readouterr().out
    assert f"note: {DAYS[0]} has to be built again, but sent-{DAYS[0]}.txt, which had rows of this" in output
    assert "until then the day is not built" in output
    assert rewritten(before, files_of(jobs.lake, "exposures")) == set()
    # Who asks for that very day is told.
    assert jobs.run("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0]) == 2
    assert "restore it" in capsys.readouterr().err
    # With its header alone the rows are withdrawn.
    write_file(raw, DAYS[0], [])
    jobs.ok("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0])
    rows = pd.read_parquet(jobs.lake["exposures", "shop", DAYS[0]].path)
    assert list(rows.user_id) == ["ann"]


@pytest.mark.parametrize("newest", [[], [sent("bob", DAYS[0], 20)]])
def test_late_rows_reach_a_day_whose_own_file_was_rotated_away(jobs, raw, tmp_path, module_patch, newest):
    """As if it were still there: copies, refused rows and counts included."""
    late = [sent("ann", DAYS[0], 12), LOG[DAYS[0]][0], "bob;;push;0.0;1;;", f"bob;{DAYS[0]}T12:00:00Z;push;no;1;;"]
    bad = f"ann;{DAYS[0]}T13:00:00Z;push;no;1;;"
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], LOG[DAYS[0]][1], bad])
    jobs.ok("build_exposures", "--raw", str(raw))
    whole = Jobs(jobs.spark, Lake(tmp_path / "whole"), "shop", module_patch)
    there = shutil.copytree(raw, tmp_path / "there")

    (raw / f"sent-{DAYS[0]}.txt").unlink()
    for day, rows in ((DAYS[3], [*LOG[DAYS[3]], *late]), ("2024-05-05", [*newest, sent("bob", "2024-05-05", 9)])):
        for folder in (raw, there):
            write_file(folder, day, rows)
        jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    whole.ok("build_exposures", "--raw", str(there))
    for table, day in [(table, day) for table in ("exposures", "quarantine") for day in DAYS]:
        found, want = (lake[table, "shop", day].manifest for lake in (jobs.lake, whole.lake))
        assert found == want
    undated = (lake["quarantine", "shop", UNDATED].path for lake in (jobs.lake, whole.lake))
    assert len({content_fingerprint(partition) for partition in undated}) == 1
    counts = jobs.lake["exposures", "shop", DAYS[0]].manifest.counts
    assert counts == {"rows_in": 8 + len(newest), "duplicates": 2, "quarantined": 2}


def test_a_file_under_another_name_takes_the_place_of_the_old_one(jobs, raw):
    before = content_fingerprint(jobs.lake["exposures", "shop", DAYS[0]].path)
    (raw / f"sent-{DAYS[0]}.txt").rename(raw / "sent-moved.txt")
    write_file(raw, DAYS[3], [*LOG[DAYS[3]], sent("ann", DAYS[0], 12)])
    jobs.ok("build_exposures", "--raw", str(raw), "--from", DAYS[0], "--to", DAYS[0])
    assert content_fingerprint(jobs.lake["exposures", "shop", DAYS[0]].path) != before


def test_the_undated_rows_are_refreshed_alone(jobs, raw):
    before = files_of(jobs.lake, *TABLES)
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], "bob;yesterday;push;0.0;1;;"])
    jobs.ok("build_exposures", "--raw", str(raw))
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {f"quarantine/{UNDATED}"}


def test_a_days_tables_are_the_same_built_together_or_one_by_one(jobs, raw):
    before, spec = contents(jobs.lake), ("--spec", str(raw.parent / "spec.json"))
    jobs.sessions = 0
    jobs.ok("build_day", "--day", DAYS[3], *spec)
    assert jobs.sessions == 0  # all is fresh: no session is started
    for table in ("journeys", "sequences"):
        shutil.rmtree(jobs.lake[table, "shop", DAYS[3]].path)
    jobs.ok("build_day", "--day", DAYS[3], *spec)
    assert jobs.sessions == 1
    assert contents(jobs.lake) == before
    for table in ("journeys", "sequences"):
        shutil.rmtree(jobs.lake[table, "shop", DAYS[3]].path)
    jobs.ok("build_sequences", "--up-to", DAYS[3], *spec)
    jobs.ok("build_journeys", "--day", DAYS[3])
    assert contents(jobs.lake) == before


def test_of_the_past_a_day_reads_yesterdays_journeys_alone(jobs, finished):
    """So it costs a day, however long the history. Whoever opens an earlier file finds that it is none."""
    before, (*past, yesterday, today) = contents(jobs.lake), DAYS
    for table in TABLES:
        shutil.rmtree(jobs.lake[table, "shop", today].path)
        for day in (*past, *([yesterday] if table != "journeys" else [])):
            for file in jobs.lake[table, "shop", day].path.glob("*.parquet"):
                file.write_bytes(b"read again")
    run_day(jobs, finished[1], today)
    assert contents(jobs.lake) == before


@pytest.mark.parametrize(
    ("at_once", "runs"),
    [(2, {"quarantine": [2, 2, 1], "exposures": [2, 2], "sequences": [2, 2]}),
     (3, {"quarantine": [3, 2], "exposures": [3, 1], "sequences": [3, 1]})],
)  # fmt: skip
def test_days_built_some_at_once_are_those_built_one_by_one(jobs, raw, monkeypatch, capsys, at_once, runs):
    written: dict[str, list[int]] = {}

    def noting(spark, rows, lake, table, dataset, days, **more):
        written.setdefault(table.name, []).append(len(days))
        return publish_days(spark, rows, lake, table, dataset, days, **more)

    monkeypatch.setattr("jobs.spark.partitions.DAYS_PER_WRITE", at_once)
    for module in ("raw.publish", "build_sequences"):
        monkeypatch.setattr(f"jobs.{module}.publish_days", noting)
    write_file(raw, DAYS[0], [*LOG[DAYS[0]], "bob;yesterday;push;0.0;1;;"])
    other = Jobs(jobs.spark, Lake(raw.parent / "some"), "shop", jobs.patch)
    other.ok("build_exposures", "--raw", str(raw))
    other.ok("build_sequences", "--spec", str(raw.parent / "spec.json"))
    assert written == runs
    told = capsys.readouterr().out
    assert told.count("rows in = ") == told.count("windows of ") == 1
    assert "10 rows in = 9 exposures + 0 duplicates + 1 quarantined" in told
    dated = {path: found for path, found in manifests(other.lake).items() if UNDATED not in path}
    assert dated == {path: found for path, found in manifests(jobs.lake).items()
                     if UNDATED not in path and not path.startswith("journeys/")}  # fmt: skip
    assert len(dated) == 3 * len(DAYS)


def test_another_spec_or_window_length_makes_sequences_stale(jobs, raw):
    before, spec = files_of(jobs.lake, *TABLES), ("--spec", str(raw.parent / "spec.json"))
    jobs.ok("build_sequences", *spec)
    assert files_of(jobs.lake, *TABLES) == before
    jobs.ok("build_sequences", *spec, "--steps", "6", "--from", DAYS[3])
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {f"sequences/{DAYS[3]}"}
    before = files_of(jobs.lake, *TABLES)
    (raw.parent / "spec.json").write_text(SPEC.to_json().replace('"2024-03-31"', '"2024-04-01"'))
    jobs.ok("build_sequences", *spec, "--to", DAYS[0])
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {f"sequences/{DAYS[0]}"}


def test_other_code_makes_a_partition_stale_only_where_that_is_asked_for(jobs, finished, module_patch):
    before = files_of(jobs.lake, *TABLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.arguments.code_version", lambda *_: "other")
        run_day(jobs, finished[1], DAYS[0])
        assert files_of(jobs.lake, *TABLES) == before
        jobs.ok("build_journeys", "--day", DAYS[0], "--this-code")
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {f"journeys/{DAYS[0]}"}


def test_a_video_corrected_in_its_own_table_changes_the_days_that_showed_it(spark, tmp_path, module_patch):
    log = [kuairand_row(), kuairand_row(video_id=12, time_ms=1650597047647 + 86_400_000, date=20220423)]
    raw, jobs = write_kuairand(tmp_path / "raw", log), Jobs(spark, Lake(tmp_path / "lake"), "kuairand", module_patch)
    jobs.ok("build_exposures", "--raw", str(raw))
    before = files_of(jobs.lake, *TABLES)
    videos = raw / "video_features_basic_pure.csv"
    videos.write_text(videos.read_text().replace("500000.0", "400000.0"))
    jobs.ok("build_exposures", "--raw", str(raw))
    assert rewritten(before, files_of(jobs.lake, *TABLES)) == {"exposures/2022-04-23", "quarantine/2022-04-23"}
