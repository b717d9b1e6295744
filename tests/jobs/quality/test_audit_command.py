"""The command that audits tables: its output, its results, and its errors."""

import sys

import pytest
from audit_cases import NOT_NULL, UNIQUE, audited, rows_of
from audit_samples import (
    DAY,
    sample,
    write_partition,
)

from jobs import audit_table
from jobs.quality.audit_results import Audit, stored_audits
from jobs.quality.audits import audit_partition
from jobs.reports.data_docs import INDEX
from lakehouse.lake import Lake
from lakehouse.manifest import DAYS_READ
from schemas.dataset import get_dataset
from schemas.days import UNDATED, day_before
from schemas.errors import UserError


def run(monkeypatch, lake: Lake, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["audit_table", "--lake", str(lake.root), *arguments])
    audit_table.main()


def test_the_command_stops_the_day_on_a_critical_failure(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    audited(lake, "criteo", "exposures", rows)
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposures", "--from", DAY, "--to", DAY)
    assert (
        f"critical exposures/criteo/{DAY}: {UNIQUE}(exposure_id): 2 of 8 rows, e.g. 100, 100"
        " — an exposure counted twice distorts every rate\n"
    ) in capsys.readouterr().out


def test_all_tables_are_audited_before_the_command_fails(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[3]["exposure_id"] = 100
    audited(lake, "criteo", "exposures", rows)
    audited(lake, "criteo", "quarantine")
    arguments = ("--dataset", "criteo", "--table", "exposures", "quarantine", "--from", DAY, "--to", DAY)
    with pytest.raises(UserError, match=f"^exposures/criteo/{DAY} failed its audit: "):
        run(monkeypatch, lake, *arguments)
    output = capsys.readouterr().out
    assert f"pass quarantine/criteo/{DAY}: " in output
    assert "e.g. 100, 100" in output
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, *arguments, "--new")
    assert "quarantine/" not in capsys.readouterr().out  # passed before


def test_a_warning_does_not_fail_the_command(lake, monkeypatch, capsys):
    rows = rows_of("criteo", "exposures")
    rows[0]["channel"] = None
    audited(lake, "criteo", "exposures", rows)
    run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposures")
    assert f"warning exposures/criteo/{DAY}: {NOT_NULL}(channel): 1 of 8 rows" in capsys.readouterr().out


def test_the_command_stores_a_result_and_a_page_for_each_day(lake, monkeypatch, capsys):
    contract = get_dataset("criteo")
    table, rows = sample("channel_policies", contract)
    days = ["2017-01-02", "2017-01-04"]
    users, journeys = sample("journeys", contract)
    for day in days:
        write_partition(lake, users, contract, journeys, ds=day)
        write_partition(lake, table, contract, rows, ds=day)
    arguments = ("--dataset", "criteo", "--table", "channel_policies")
    run(monkeypatch, lake, *arguments, "--from", "2017-01-01", "--to", "2017-01-04")
    assert "no partition for 2017-01-01, 2017-01-03" in capsys.readouterr().out
    assert [a.ds for a in stored_audits(lake, contract)] == days
    stored = Audit.from_json((lake.audits("criteo") / "channel_policies" / f"{days[0]}.json").read_text())
    assert stored == audit_partition(lake, "channel_policies", contract, days[0])
    assert all(lake["channel_policies", contract, day].consumer_file.is_file() for day in days)
    for page in (INDEX, *(f"channel_policies/{day}.html" for day in days)):
        assert (lake.docs("criteo") / page).is_file()


def test_a_range_without_partitions_is_an_error(lake, monkeypatch):
    audited(lake, "criteo", "exposures")
    arguments = ("--dataset", "criteo", "--table", "exposures")
    with pytest.raises(UserError, match=r"no exposures for criteo from 2016-01-01 to 2016-01-03 in .*there are"):
        run(monkeypatch, lake, *arguments, "--from", "2016-01-01", "--to", "2016-01-03")
    with pytest.raises(UserError, match="unknown table 'exposure'"):
        run(monkeypatch, lake, "--dataset", "criteo", "--table", "exposure")


def test_an_optional_table_is_audited_if_it_is_published(lake, monkeypatch, capsys):
    """The nightly run names it in any case, whether or not embeddings are switched on."""
    audited(lake, "criteo", "exposures")
    arguments = ("--dataset", "criteo", "--table", "exposures", "user_embeddings", "--from", DAY, "--to", DAY)
    run(monkeypatch, lake, *arguments)
    assert "user_embeddings" not in capsys.readouterr().out
    audited(lake, "criteo", "user_embeddings")
    run(monkeypatch, lake, *arguments)
    assert f"pass user_embeddings/criteo/{DAY}: 4 rows" in capsys.readouterr().out


def test_the_quarantine_may_be_empty_and_its_undated_rows_are_audited(lake, monkeypatch, capsys):
    arguments = ("--dataset", "criteo", "--table", "quarantine", "--from", DAY, "--to", DAY)
    with pytest.raises(UserError, match="no such folder"):
        run(monkeypatch, lake, *arguments)
    lake.root.mkdir()
    run(monkeypatch, lake, *arguments)
    assert "no partition to audit" in capsys.readouterr().out
    contract = get_dataset("criteo")
    table, rows = sample("quarantine", contract)
    write_partition(lake, table, contract, [rows[0] | {"reason": ""}], ds=UNDATED, counts={"rows_in": 9})
    with pytest.raises(UserError, match="failed its audit"):
        run(monkeypatch, lake, *arguments)


def test_earlier_days_that_are_read_with_a_day_are_audited_until_they_have_passed(lake, monkeypatch, capsys):
    """A day of journeys with changed rows alone counts on the snapshot before it."""
    earlier = day_before(DAY)
    dataset = get_dataset("criteo")
    table, rows = sample("journeys", dataset)
    write_partition(lake, table, dataset, rows, ds=earlier)
    write_partition(lake, table, dataset, rows, counts={DAYS_READ: 2})
    arguments = ("--dataset", "criteo", "--table", "journeys", "--from", DAY, "--to", DAY)
    with pytest.raises(UserError, match=f"^journeys/criteo/{earlier} failed its audit"):  # its steps are of the future
        run(monkeypatch, lake, *arguments)
    write_partition(lake, table, dataset, [], ds=earlier)
    capsys.readouterr()
    run(monkeypatch, lake, *arguments)
    output = capsys.readouterr().out
    assert all(f"journeys/criteo/{day}: " in output for day in (earlier, DAY))
    run(monkeypatch, lake, *arguments)
    assert f"journeys/criteo/{earlier}" not in capsys.readouterr().out
