"""The gate, with the jobs themselves: a bad day stops before the next table, says why, and goes on when mended."""

import json

import pytest
from built_lake import generate
from in_process import Jobs

from jobs.quality.audit_results import FAILED_MARK
from lakehouse.lake import Lake
from schemas.errors import EXIT_USER_ERROR

pytestmark = pytest.mark.spark
LOG = "log_random_4_22_to_5_08_pure.csv"
RULE = "expect_column_values_to_be_in_set(log_clock_agrees)"


@pytest.fixture
def jobs(spark, tmp_path, monkeypatch) -> Jobs:
    return Jobs(spark, Lake(tmp_path / "lake"), "kuairand", monkeypatch)


def shifted(text: str, date: str) -> str:
    """The log with the clock of one day's rows eight hours on: another time zone than the time stamps'."""
    header, *lines = text.splitlines()
    at = header.split(",").index("hourmin")
    rows = [line.split(",") for line in lines]
    for row in rows:
        if date in row:
            row[at] = str((int(row[at]) + 800) % 2400)
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def test_a_bad_day_stops_before_the_next_table_and_a_repair_lets_it_go_on(jobs, monkeypatch, capsys):
    raw = generate(monkeypatch, jobs.lake.root.parent / "raw", "kuairand", users=40, days=3)
    log, day = raw / LOG, "2022-04-24"
    good = log.read_text()
    log.write_text(shifted(good, "20220424"))
    audit = ("audit_table", "--table", "exposures", "--to", day, "--new")

    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    capsys.readouterr()
    assert jobs.run(*audit) == EXIT_USER_ERROR  # no retry can mend it
    told = capsys.readouterr()
    line = told.err.strip().splitlines()[-1]
    assert line.startswith(f"error: exposures/kuairand/{day} failed its audit: {RULE}: ")
    assert " rows, e.g. (exposure_id " in line or " rows, e.g. exposure_id " in line
    assert "pass exposures/kuairand/2022-04-23" in told.out

    # The partition is marked, for the jobs and for people; no other day is.
    partition = jobs.lake["exposures", "kuairand", day].path
    assert (partition / FAILED_MARK).read_text().startswith(RULE)
    assert not (jobs.lake["exposures", "kuairand", "2022-04-23"].path / FAILED_MARK).exists()
    stored = json.loads((jobs.lake.audits("kuairand") / "exposures" / f"{day}.json").read_text())
    assert stored["verdict"] == "fail"
    for job in (("build_journeys", "--day", day), ("build_feature_spec", "--from", "2022-04-22", "--to", day)):
        assert jobs.run(*job) == EXIT_USER_ERROR
        refusal = capsys.readouterr().err
        assert f"exposures for kuairand on {day} failed its audit: {RULE}: " in refusal
    assert jobs.lake.days("journeys", "kuairand") == []
    jobs.ok("build_journeys", "--day", "2022-04-23")  # the days before it are as good as they were

    log.write_text(good)
    jobs.ok("build_exposures", "--raw", str(raw), "--up-to", day)
    assert jobs.run(*audit) == 0
    assert not (partition / FAILED_MARK).exists()
    jobs.ok("build_journeys", "--day", day)


def test_a_warning_goes_on(jobs, monkeypatch, capsys):
    raw = generate(monkeypatch, jobs.lake.root.parent / "raw", "kuairand", users=40, days=2)
    log = raw / LOG
    header, *rows = log.read_text().splitlines()
    at = header.split(",").index("is_click")
    broken = [",".join([*row.split(",")[:at], "5", *row.split(",")[at + 1 :]]) for row in rows[:15]]
    log.write_text("\n".join([header, *broken, *rows[15:]]) + "\n")
    jobs.ok("build_exposures", "--raw", str(raw))
    assert jobs.run("audit_table", "--table", "exposures") == 0
    said = capsys.readouterr().out
    assert "warning exposures/kuairand/2022-04-22: expect_few_rows_to_be_refused: found 15 of " in said
    assert f"e.g. 15 in {LOG}: is_click is neither 0 nor 1" in said
    jobs.ok("build_journeys", "--day", "2022-04-23")
