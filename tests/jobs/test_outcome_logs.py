"""Separate rows of outcomes through the real jobs: each delivery is in the accounts, late ones reach their day."""

import pytest
from event_logs import CLICKS, EVENTS
from in_process import Jobs

import schemas.dataset
from jobs.raw.accounts import log_accounts
from jobs.raw.index import stored_index
from lakehouse.lake import Lake
from schemas.days import UNDATED

pytestmark = pytest.mark.spark
HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_714_521_600_000  # 2024-05-01 00:00 UTC
DAYS = ["2024-05-01", "2024-05-02"]


def event(hour, visitor, kind, item, order=""):
    return f"{MIDNIGHT_MS + int(hour * HOUR_MS)},{visitor},{kind},{item},{order}"


@pytest.fixture
def lake(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"events": EVENTS, "clicks": CLICKS})
    return Lake(tmp_path / "lake")


def accounts(lake, dataset):
    index = stored_index(lake, dataset)
    result = log_accounts(index, lambda table, day: lake[table, dataset, day].manifest)
    assert result.unexplained == 0
    return result


def quarantined(lake, dataset):
    days = [*lake.days("quarantine", dataset), UNDATED]
    tables = [lake["quarantine", dataset, d].read().to_pandas() for d in days if lake["quarantine", dataset, d].files()]
    return sorted(row.reason for table in tables for row in table.itertuples())


def gains(lake, dataset, day, gain):
    table = lake["exposures", dataset, day].read().to_pandas()
    return {
        (row.user_id, (row.exposed_at_ms - MIDNIGHT_MS) / HOUR_MS):
        (getattr(row, gain), (getattr(row, f"{gain}_at_ms") - MIDNIGHT_MS) / HOUR_MS if getattr(row, gain) else None)
        for row in table.itertuples()
    }  # fmt: skip


def test_an_event_log(spark, lake, tmp_path, monkeypatch, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    header = "ts,visitor,event,item,order"
    first = [
        event(9, 1, "view", 10), event(10, 1, "view", 10), event(10.5, 1, "addtocart", 10),
        event(10.5, 1, "addtocart", 10),  # repeated exactly
        event(11, 1, "transaction", 10, 7), event(11.5, 1, "transaction", 10, 8),  # two purchases: the first counts
        event(9, 2, "view", 10), event(12, 2, "addtocart", 10),  # three hours later
        event(8, 3, "transaction", 10, 9),  # never viewed
        event(9, 4, "hover", 10), "noon,4,view,10,",
        event(23, 5, "view", 20),
    ]  # fmt: skip
    (raw / "events-1.csv").write_text("\n".join([header, *first]) + "\n")
    jobs = Jobs(spark, lake, "events", monkeypatch)
    jobs.ok("build_exposures", "--raw", str(raw))
    capsys.readouterr()
    assert gains(lake, "events", DAYS[0], "cart") == {
        (1, 9): (0, None), (1, 10): (1, 10.5), (2, 9): (0, None), (5, 23): (0, None),
    }  # fmt: skip
    assert gains(lake, "events", DAYS[0], "buy")[1, 10] == (1, 11)
    assert quarantined(lake, "events") == [
        "neither an exposure nor an outcome", "no exposure for this buy in the 24 hours before it",
        "no exposure for this cart in the 2 hours before it", "ts is not a whole number: noon",
    ]  # fmt: skip
    total = accounts(lake, EVENTS)
    assert (total.delivered, total.exposures, total.duplicates, total.outcomes, total.quarantined) == (12, 4, 1, 3, 4)
    jobs.ok("audit_table", "--table", "exposures", "--from", DAYS[0], "--to", DAYS[0])

    # The next day brings outcomes of the day before, and the missing view of visitor 3.
    second = [
        event(24.5, 5, "addtocart", 20), event(26, 5, "view", 20), event(27, 5, "transaction", 20, 11),
        event(7, 3, "view", 10),
    ]  # fmt: skip
    (raw / "events-2.csv").write_text("\n".join([header, *second]) + "\n")
    jobs.ok("build_exposures", "--raw", str(raw), "--to", DAYS[1])
    assert gains(lake, "events", DAYS[0], "cart")[5, 23] == (1, 24.5)
    assert gains(lake, "events", DAYS[0], "buy")[5, 23] == (0, None)  # it belongs to the later view
    assert gains(lake, "events", DAYS[1], "buy") == {(5, 26): (1, 27)}
    assert gains(lake, "events", DAYS[0], "buy")[3, 7] == (1, 8)
    total = accounts(lake, EVENTS)
    assert (total.delivered, total.exposures, total.duplicates, total.outcomes, total.quarantined) == (16, 6, 1, 6, 3)
    assert not total.waiting
    capsys.readouterr()
    jobs.ok("build_exposures", "--raw", str(raw))
    assert "2 of 2 days are fresh" in capsys.readouterr().out

    # The first file is rotated away: its rows stay published, and outcomes still find its exposures.
    (raw / "events-1.csv").unlink()
    third = [event(28, 6, "view", 30), event(32, 2, "transaction", 10, 12)]
    (raw / "events-3.csv").write_text("\n".join([header, *third]) + "\n")
    jobs.ok("build_exposures", "--raw", str(raw))
    assert gains(lake, "events", DAYS[0], "cart")[1, 10] == (1, 10.5)
    total = accounts(lake, EVENTS)
    # It is no longer known which outcomes of a removed file were repeated rows.
    assert (total.delivered, total.exposures, total.duplicates, total.outcomes, total.quarantined) == (18, 7, 0, 8, 3)
    assert gains(lake, "events", DAYS[0], "cart")[5, 23] == (1, 24.5)
    assert gains(lake, "events", DAYS[0], "buy")[2, 9] == (1, 32)
    capsys.readouterr()
    jobs.ok("build_exposures", "--raw", str(raw))
    assert "2 of 2 days are fresh" in capsys.readouterr().out


def test_impressions_and_clicks_in_two_files(spark, lake, tmp_path, monkeypatch, capsys):
    """Local times of Shanghai. The clicks of the evening are delivered later, and are on the next day."""
    raw = tmp_path / "raw"
    raw.mkdir()
    impressions = [f"b{k}\t202405010{k}0000000\tck{k % 3}\tx\t{k}.5" for k in range(8)]
    evening = [f"e{k}\t2024050123{k}000000\tck{k}\tx\t1" for k in range(3)]
    header = "click_bid\tclicked\n"
    (raw / "imp.1.txt").write_text("\n".join(["bid\tts\tcookie\texchange\tprice", *impressions, *evening]) + "\n")
    (raw / "clk.1.txt").write_text(header + "b1\t20240501020000000\nb9\t20240501020000000\nb1\t20240501030000000\n")
    jobs = Jobs(spark, lake, "clicks", monkeypatch)
    jobs.ok("build_exposures", "--raw", str(raw))
    table = lake["exposures", "clicks", DAYS[0]].read().to_pandas()
    assert (len(table), table.click.sum(), table.cost.sum()) == (11, 1, 35)
    assert quarantined(lake, "clicks") == ["no exposure for this click in the 24 hours before it"]

    (raw / "clk.2.txt").write_text(header + "e1\t20240502001500000\ne7\t20240502001500000\nb2\tsoon\n")
    jobs.ok("build_exposures", "--raw", str(raw))
    assert lake.days("exposures", "clicks") == [DAYS[0]]  # clicks alone make no day
    table = lake["exposures", "clicks", DAYS[0]].read().to_pandas()
    assert table.click.sum() == 2
    assert quarantined(lake, "clicks") == [
        "clicked is not a whole number: soon", "no exposure for this click in the 24 hours before it",
        "no exposure for this click in the 24 hours before it",
    ]  # fmt: skip
    total = accounts(lake, CLICKS)
    assert (total.delivered, total.exposures, total.duplicates, total.outcomes, total.quarantined) == (17, 11, 0, 3, 3)
    capsys.readouterr()
    jobs.ok("build_exposures", "--raw", str(raw))
    assert "1 of 1 days are fresh" in capsys.readouterr().out

    # Rows of a file of clicks are exported as such a file, repaired and replayed.
    jobs.ok("quarantine", "--day", UNDATED, "--out", str(tmp_path / "repair"))
    (exported,) = (tmp_path / "repair").iterdir()
    assert exported.name == "clk.2_repaired_undated.txt"
    assert exported.read_text() == header + "b2\tsoon\ne7\t20240502001500000\n"
    (raw / exported.name).write_text(header + "b2\t20240501030000000\n")
    jobs.ok("build_exposures", "--raw", str(raw))
    assert lake["exposures", "clicks", DAYS[0]].read().to_pandas().click.sum() == 3
    total = accounts(lake, CLICKS)
    assert (total.delivered, total.exposures, total.duplicates, total.outcomes, total.quarantined) == (18, 11, 0, 4, 3)


def test_a_folder_that_has_only_the_files_of_the_day(spark, lake, tmp_path, monkeypatch):
    """The files of a built day are gone when the next day comes, with clicks on impressions of both days."""
    raw = tmp_path / "raw"
    raw.mkdir()
    impressions, clicks = "bid\tts\tcookie\texchange\tprice", "click_bid\tclicked"
    jobs = Jobs(spark, lake, "clicks", monkeypatch)
    for number, clicked in ((1, ["a1\t20240501110500000"]), (2, ["a2\t20240502001500000", "b1\t20240502110500000"])):
        for file in raw.iterdir():
            file.unlink()
        impression_rows = [f"{'ab'[number - 1]}{k}\t2024050{number}1{k}0000000\tck{k}\tx\t1" for k in range(8)]
        (raw / f"imp.{number}.txt").write_text("\n".join([impressions, *impression_rows]) + "\n")
        (raw / f"clk.{number}.txt").write_text("\n".join([clicks, *clicked]) + "\n")
        jobs.ok("build_exposures", "--raw", str(raw), "--accept-few-rows")
    assert [lake["exposures", "clicks", day].read().to_pandas().click.sum() for day in DAYS] == [2, 1]
    total = accounts(lake, CLICKS)
    assert (total.delivered, total.exposures, total.outcomes, total.quarantined) == (19, 16, 3, 0)
    assert not total.waiting

    # Further clicks of the second day replace the file of the first ones.
    (raw / "clk.2.txt").unlink()
    (raw / "clk.3.txt").write_text(clicks + "\nb2\t20240502120500000\n")
    jobs.ok("build_exposures", "--raw", str(raw), "--accept-few-rows")
    assert lake["exposures", "clicks", DAYS[1]].read().to_pandas().click.sum() == 2
