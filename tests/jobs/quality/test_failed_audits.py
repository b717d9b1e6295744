"""A critical failure stops the day before the next table is built, and the day continues after a repair."""

import json

import pytest
from built_lake import generate
from in_process import Jobs

from jobs.quality.audit_results import failed_days
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.errors import EXIT_USER_ERROR

pytestmark = pytest.mark.spark
LOG = "log_random_4_22_to_5_08_pure.csv"
RULE = "expect_column_values_to_be_in_set(log_clock_agrees)"
FIRST, SECOND, LAST = "2022-04-22", "2022-04-23", "2022-04-24"
BROKEN_ROWS = 15


@pytest.fixture
def jobs(spark, tmp_path, monkeypatch) -> Jobs:
    return Jobs(spark, Lake(tmp_path / "lake"), "kuairand", monkeypatch)


def with_broken_rows(text: str, count: int) -> str:
    """The log with an impossible click in the first rows, which are of the first day."""
    header, *lines = text.splitlines()
    position = header.split(",").index("is_click")
    rows = [line.split(",") for line in lines]
    for row in rows[:count]:
        row[position] = "5"
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def with_shifted_clock(text: str, date: str) -> str:
    """The log with the clock of one day's rows in another time zone than their time stamps: eight hours ahead."""
    header, *lines = text.splitlines()
    position = header.split(",").index("hourmin")
    rows = [line.split(",") for line in lines]
    for row in rows:
        if date in row:
            row[position] = str((int(row[position]) + 800) % 2400)
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def test_a_critical_failure_stops_the_day_until_it_is_repaired_and_a_warning_does_not(jobs, monkeypatch, capsys):
    raw = generate(monkeypatch, jobs.lake.root.parent / "raw", "kuairand", users=40, days=3)
    log = raw / LOG
    repaired_log = with_broken_rows(log.read_text(), BROKEN_ROWS)
    log.write_text(with_shifted_clock(repaired_log, LAST.replace("-", "")))
    build = ("build_exposures", "--raw", str(raw), "--up-to", LAST)
    audit = ("audit_table", "--table", "exposures", "--to", LAST, "--new")

    jobs.ok(*build)
    capsys.readouterr()
    assert jobs.run(*audit) == EXIT_USER_ERROR  # no retry can repair it
    output = capsys.readouterr()
    last_line = output.err.strip().splitlines()[-1]
    assert last_line.startswith(f"error: exposures/kuairand/{LAST} failed its audit: {RULE}: ")
    assert " rows, e.g. (exposure_id " in last_line or " rows, e.g. exposure_id " in last_line
    warning = f"warning exposures/kuairand/{FIRST}: expect_few_rows_to_be_refused: found {BROKEN_ROWS} of "
    assert warning in output.out
    assert f"e.g. {BROKEN_ROWS} in {LOG}: is_click is neither 0 nor 1" in output.out
    assert f"pass exposures/kuairand/{SECOND}" in output.out

    dataset = get_dataset("kuairand")
    assert failed_days(jobs.lake, "exposures", dataset) == [LAST]
    stored = json.loads((jobs.lake.audits("kuairand") / "exposures" / f"{LAST}.json").read_text())
    assert stored["verdict"] == "fail"
    for job in (("build_journeys", "--day", LAST), ("build_feature_spec", "--from", FIRST, "--to", LAST)):
        assert jobs.run(*job) == EXIT_USER_ERROR
        assert f"exposures for kuairand on {LAST} failed its audit: {RULE}: " in capsys.readouterr().err
    # With one start of Spark for all tables, the audit stops them as well.
    assert jobs.run("build_tables", *build[1:], "--audit", "--journeys") == EXIT_USER_ERROR
    assert capsys.readouterr().err.strip().splitlines()[-1] == last_line
    for table in ("journeys", "steps", "sequences", "item_history"):
        assert jobs.lake.days(table, "kuairand") == [], table
    jobs.ok("build_journeys", "--day", SECOND)  # earlier days can still be used, also the one with a warning

    log.write_text(repaired_log)
    jobs.ok("build_tables", *build[1:], "--audit", "--journeys")
    assert jobs.run(*audit) == 0
    assert failed_days(jobs.lake, "exposures", dataset) == []
    assert LAST in jobs.lake.days("journeys", "kuairand")
    assert LAST in jobs.lake.days("sequences", "kuairand")
