"""The day's page says what the tables hold, and is there above all for a day that was stopped."""

import json
import re
import shutil
import sys
from dataclasses import replace

import pytest
from page import Page
from report_lake import (
    DATASET,
    DAY,
    FIRST,
    complete_lake,
    drifted,
    exposures,
    failure,
    passed,
    planned,
    put,
    refused,
    scored,
)

from jobs import report
from jobs.drift import results as drift_results
from jobs.drift.results import Drift
from jobs.reports import day_page
from jobs.reports.day_page import publish_report
from jobs.reports.index_page import INDEX
from jobs.reports.summaries import stored_summaries
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import UNDATED, day_plus
from schemas.errors import NothingToDo, UserError

CONTRACT = get_dataset(DATASET)
EVIL = "</style></svg><script>alert(1)</script>\"'&{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    lake = complete_lake(tmp_path_factory.mktemp("made") / "lake")
    for ds in (FIRST, DAY):
        publish_report(lake, CONTRACT, ds)
    return lake


@pytest.fixture
def lake(made, tmp_path):
    """A copy to break."""
    shutil.copytree(made.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def page_of(lake: Lake, ds: str = DAY) -> Page:
    return Page(publish_report(lake, CONTRACT, ds).read_text())


def index_of(lake: Lake) -> Page:
    return Page((lake.reports(DATASET) / INDEX).read_text())


def row(page: Page, *cells: str) -> list[str]:
    """The only row of any table that begins with these cells."""
    (found,) = [row for row in page.rows if tuple(row[: len(cells)]) == cells]
    return found


def test_a_good_day_says_so_first(made):
    page = page_of(made)
    assert "Tuesday 3 January 2017 All is well: every rule holds How to read this page" in page.text


def test_rows_are_those_of_the_manifests(made):
    page = page_of(made)
    assert "Of 130 rows" in page.section("rows")
    assert "120 became ad exposures, 3 were duplicates of another row, and 7 (5.4%) were refused." in page.section(
        "rows"
    )
    assert page.picture("Rows per day") == "exposures: 90 (2 Jan), 120 (3 Jan); duplicates: 3 (2 Jan), 3 (3 Jan); " \
                                         "quarantined: 0 (2 Jan), 7 (3 Jan)"  # fmt: skip


def test_rows_that_do_not_add_up_are_told(lake):
    path = lake["exposures", DATASET, DAY].path / "_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["counts"]["rows_in"] += 1
    path.write_text(json.dumps(manifest))
    assert "do not add up" in page_of(lake).section("rows")
    assert "do not add up" not in page_of(lake, FIRST).section("rows")


def test_refused_rows_are_counted_by_reason_and_file_with_examples(made):
    page = page_of(made)
    assert page.picture("Refused rows by reason") == "no user: 5; cost below 0: 2"
    assert row(page, "no user", "log.tsv") == ["no user", "log.tsv", "4", "row row"]
    assert row(page, "no user", "late.tsv")[2] == "1"
    assert row(page, "cost below 0")[1:3] == ["log.tsv", "2"]
    assert "5 rows of the whole log have no readable time stamp" in page.section("quarantine")
    assert row(page, "no time")[2] == "5"


def test_a_long_refused_row_is_cut(lake):
    refused(lake, DAY, {("no user", "log.tsv"): 1}, raw="x" * 300)
    assert row(page_of(lake), "no user")[3] == "x" * 200 + "…"


def test_journeys_are_counted_by_length(made):
    page = page_of(made)
    # 100 users with 1, 2, ... 100 exposures: the largest bucket, 65 to 128, has 36 of them.
    assert page.picture("Users by number of exposures so far") == "1 (1) to 36 (65-128), lowest 1, highest 36"
    assert "There are 100 users. 10 of them are new on this day. 1 (1.0%) have seen a single exposure" in page.text


def test_the_policy_mix_stands_beside_what_was_shown_and_the_day_before(made):
    page = page_of(made)
    assert page.picture("Share of each channel") == (
        "b: policies 60.0%, shown on the day 33.3%, policies the day before 50.0%; "
        "a: policies 40.0%, shown on the day 66.7%, policies the day before 50.0%"
    )
    assert page.picture("Users for whom the channel is the best") == "a: 50; b: 50"
    # Every fourth exposure is clicked, whatever its channel.
    assert row(page, "a", "50") == ["a", "50", "50.0%", "40.0%", "66.7%", "25.0%", "0.0%"]
    assert "3 users have too short a journey" in page.section("policies")


def test_ranks_start_with_the_best_user(made):
    page = page_of(made)
    assert row(page, "1", "0") == ["1", "0", "0.9950", "25.00%", "12.50%"]
    assert row(page, "10", "9")[2] == "0.9500"
    assert page.picture("Predicted reward by rank").startswith("0.995 (1) to 0.5 (100), lowest 0.5, highest 0.995")


def test_the_budget_is_told_with_its_channels(made):
    page = page_of(made)
    assert "A budget of 50 of the log's unit of cost buys 25 of 100 users, at an expected cost of 25 and an expected " \
           "reward of 12.5 in all. No plan within the budget could be expected to bring more than 13.5." \
        in page.section("budget")  # fmt: skip
    assert page.picture("Budget and planned spend") == "budget: 50; planned spend: 25"
    assert row(page, "a", "25") == ["a", "25", "25", "12.5"]


def test_a_day_without_a_budget_says_how_to_give_one(lake):
    planned(lake, DAY, budget=0)
    assert "has no budget" in page_of(lake).section("budget")


def test_the_model_is_shown_as_it_was_tested_on_days_it_had_not_seen(made):
    page = page_of(made)
    assert row(page, "click", "200") == ["click", "200", "0.5000", "0.5500", "0.7125", "25.00%", "24.00%"]
    assert row(page, "channel", "200") == ["channel", "200", "0.6000", "0.6500", "", "", ""]
    assert (
        page.picture("Log loss of click") == "model: 0.52 (2 Jan), 0.5 (3 Jan); mean rate: 0.55 (2 Jan), 0.55 (3 Jan)"
    )
    assert page.picture("Share with click") == "observed: 25.0% (2 Jan), 25.0% (3 Jan); predicted: 24.0% (2 Jan), " \
                                               "24.0% (3 Jan)"  # fmt: skip
    assert "mtorl_criteo/3, did not replace the champion mtorl_criteo/2" in page.section("training")
    assert row(page, "click", "failed")[2:] == ["0.5000", "0.5100", "0.0100", "0.0050", "click is worse"]


def test_drift_stands_as_shares_of_the_limits_the_worst_first(lake):
    figures = (drifted(0.1, "psi(near)"), drifted(0.5, "psi(far)"), drifted(float("nan"), "psi(lost)"))
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), figures, {}))
    page = page_of(lake)
    assert page.picture("Share of the limit") == (
        "psi(lost) vs day before: no number; psi(far) vs day before: 250.0%; psi(near) vs day before: 50.0%"
    )
    assert "Of 3 figures, 2 exceed their limit." in page.section("drift")
    assert page.picture("Worst share of the limit") == "exposures: 25.0% (2 Jan), 300.0% (3 Jan)"
    assert row(page, "psi(far)") == ["psi(far)", "day before", "0.5", "0.2 (fixed)", "warning", "moved. why moved."]


def test_a_ratio_of_1_is_no_drift(lake):
    """Ratios are 1 where nothing has changed; every other figure is 0."""
    figures = [
        replace(drifted(value, f"rate({name})"), about="rewards", limit=1.25, same=1.0)
        for name, value in (("same", 1.0), ("halfway", 1.125), ("beyond", 1.5))
    ]
    figures.append(replace(drifted(1.0, "rate(exact)"), limit=1.0, same=1.0))
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), tuple(figures), {}))
    page = page_of(lake)
    assert page.picture("Share of the limit") == (
        "rate(beyond) vs day before: 200.0%; rate(halfway) vs day before: 50.0%; rate(same) vs day before: 0.0%; "
        "rate(exact) vs day before: 0.0%"
    )


def test_drift_that_was_measured_on_other_data_is_told(lake):
    there = lake["exposures", DATASET, DAY].path
    fresh = json.loads((there / "_manifest.json").read_text())["fingerprint"]
    for fingerprint, told in ((fresh, False), ("0" * 64, True)):
        inputs = {str(there.relative_to(lake.root)): fingerprint}
        drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), (drifted(0.1),), inputs))
        assert ("Measured before" in page_of(lake).section("drift")) is told


# What a person sees first.


def test_a_stopped_day_says_where_why_and_what_to_do(lake):
    passed(lake, "journeys", DAY, failure("warning", "a bit late"), failure("critical"))
    for table in ("channel_policies", "user_reward_ranks", "budget_plan"):
        shutil.rmtree(lake[table, DATASET, DAY].path)
    page = page_of(lake)
    assert "Stopped at journeys. Broken rule: 12 users stand twice. No job builds on it" in page.text
    assert f"make backfill DATASET={DATASET} FROM={DAY} TO={DAY}" in page.text
    assert "Broken rule: 12 users stand twice. critical " \
           "journeys 2017-01-03 : 12 of 100 rows, e.g. 12 users stand twice " \
           "Why it matters: every rate is distorted." in page.text  # fmt: skip
    assert page.text.index("12 users stand twice. critical") < page.text.index("a bit late. warning")
    assert "it was not scored yet" in page.section("policies")
    assert f"../../data_docs/dataset={DATASET}/journeys/{DAY}.html" in page.links
    assert row(page, "journeys every user's journey so far")[2:] == ["fail", "1 hold, 2 failed"]
    assert [s.kind for s in stored_summaries(lake, CONTRACT)] == ["pass", "fail"]


def test_after_a_repair_the_day_is_no_longer_stopped(lake):
    passed(lake, "journeys", DAY, failure("critical"))
    assert "Stopped at journeys. " in page_of(lake).text
    # Built anew, with other content, and not audited yet: a verdict is about what was audited.
    put(lake, "journeys", DAY, "SELECT 7 AS user_id, {'seen_exposures': 2} AS next_step")
    page = page_of(lake)
    assert "Not audited: the current content of journeys No rule was evaluated on it" in page.text
    assert "Stopped" not in page.text
    assert index_of(lake).rows[1][:2] == [DAY, "incomplete"]
    passed(lake, "journeys", DAY)
    page = page_of(lake)
    assert "All is well" in page.text
    assert "Stopped" not in page.text


def test_an_earlier_day_that_stands_in_the_way_is_named(lake):
    passed(lake, "exposures", FIRST, failure("critical"))
    shutil.rmtree(lake["channel_policies", DATASET, DAY].path)
    assert f"An earlier day blocks this one: the exposures of {FIRST} failed their audit." in page_of(lake).text
    passed(lake, "exposures", FIRST)
    assert "blocks this one" not in page_of(lake).text


def test_a_day_that_nobody_audited_or_measured_is_not_good(lake):
    shutil.rmtree(lake.audits(DATASET))
    shutil.rmtree(lake.drift(DATASET))
    page = page_of(lake)
    assert "All is well" not in page.text
    assert "Not audited: the current content of exposures, " in page.text
    assert "Drift was not measured, so it is unknown how much the day differs" in page.text
    assert index_of(lake).rows[1][:2] == [DAY, "incomplete"]


def test_a_good_day_without_drift_says_so(lake):
    assert "Drift was not measured" not in page_of(lake).text
    shutil.rmtree(lake.drift(DATASET))
    assert "All is well: every rule holds Drift was not measured, so it is unknown" in page_of(lake).text


def test_a_warning_does_not_hide_that_a_table_was_not_audited(lake):
    passed(lake, "exposures", DAY, failure("warning", "few clicks"))
    (lake.audits(DATASET) / "journeys" / f"{DAY}.json").unlink()
    assert "Not audited: the current content of journeys No rule was evaluated on it" in page_of(lake).text
    passed(lake, "exposures", DAY, failure("critical"))
    page = page_of(lake)
    assert "Stopped at exposures." in page.text  # worse, so it comes first
    assert "Not audited: the current content of journeys." in page.text


def test_undated_rows_that_stop_the_log_stop_every_day(lake):
    passed(lake, "quarantine", UNDATED, failure("critical", "most rows have no day"))
    assert "Stopped at undated. Broken rule: most rows have no day." in page_of(lake).text


def test_warnings_let_the_day_go_on(lake):
    passed(lake, "exposures", DAY, failure("warning", "few clicks"))
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), (drifted(0.3),), {}))
    page = page_of(lake)
    assert "The day is good to use, with warnings 2 warnings do not stop the day." in page.text
    assert "moved. warning drift against the day before : 0.3, the limit is 0.2 (fixed)" in page.text
    assert stored_summaries(lake, CONTRACT)[-1].kind == "warn"


def test_critical_drift_is_no_good_day(lake):
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), (drifted(0.3, severity="critical"),), {}))
    assert "Check this day before you use it: moved." in page_of(lake).text
    assert stored_summaries(lake, CONTRACT)[-1].kind == "fail"


# Any part may be absent.

_ABSENT = {
    "exposures": ("rows", "This day has no exposures"),
    "quarantine": ("quarantine", "No row of this day was refused"),
    "journeys": ("journeys", "This day has no journeys"),
    "channel_policies": ("policies", "This day has no channel policies"),
    "user_reward_ranks": ("ranks", "This day has no reward ranks"),
    "budget_plan": ("budget", "This day has no budget plan"),
    "prequential": ("prequential", "This day was not tested"),
    "promotions": ("training", "does not have it, so there are no curves"),
}


@pytest.mark.parametrize("table", _ABSENT)
def test_an_absent_table_is_one_line_of_an_otherwise_whole_page(lake, table):
    shutil.rmtree(lake[table, DATASET, DAY].path)
    page = page_of(lake)
    section, line = _ABSENT[table]
    assert line in page.section(section)
    assert all(there in page.sections for there in ("rows", "drift", "policies", "prequential"))


def test_a_day_with_exposures_alone_and_nothing_measured(tmp_path):
    """No champion, no drift, no audit: the first minutes of a lake."""
    lake = Lake(tmp_path / "lake")
    exposures(lake, DAY, 12, 0, 0)
    page = page_of(lake)
    assert "Not scored: this day has no channel policies yet" in page.text
    assert "Not audited: the current content of exposures." in page.text
    assert "Drift was not measured for this day" in page.section("drift")
    assert "there is no model to show" in page.section("training")
    assert [s.kind for s in stored_summaries(lake, CONTRACT)] == ["part"]


def test_a_table_of_no_rows_is_no_division_by_zero(lake):
    put(lake, "exposures", DAY, "SELECT 1 AS user_id, 'a' AS channel, 0 AS click, 0 AS conversion LIMIT 0",
        counts={"rows_in": 0, "duplicates": 0, "quarantined": 0})  # fmt: skip
    scored(lake, DAY, users=0)
    planned(lake, DAY, users=0)
    put(lake, "journeys", DAY, "SELECT 1 AS user_id, {'seen_exposures': 1} AS next_step LIMIT 0")
    page = page_of(lake)
    assert "Of 0 rows" in page.section("rows")
    assert "There are 0 users" in page.section("journeys")


@pytest.mark.parametrize("broken", ["no Parquet", "another column", "no file"])
def test_a_broken_table_is_one_sections_trouble(lake, broken):
    folder = lake["channel_policies", DATASET, DAY].path
    if broken == "another column":
        put(lake, "channel_policies", DAY, "SELECT 1 AS user_id")
    elif broken == "no file":
        (folder / "part-00000.parquet").unlink()
    else:
        (folder / "part-00000.parquet").write_text("gone")
    page = page_of(lake)
    assert "This section cannot be made from the day's tables: channel_policies of 2017-01-03" in page.section(
        "policies"
    )
    assert "Of 130 rows" in page.section("rows")


def test_a_table_that_failed_its_audit_may_hold_anything(lake):
    put(lake, "prequential", DAY, "SELECT NULL AS head, 'm' AS model_version, 'many' AS labels, 0e0 AS logloss, "
        "NULL AS base_logloss, NULL AS auc, NULL AS rate, NULL AS predicted_rate")  # fmt: skip
    passed(lake, "prequential", DAY, failure("critical", "no heads"))
    page = page_of(lake)
    assert "Stopped at prequential. Broken rule: no heads." in page.text
    assert "This section cannot be made from the day's tables" in page.section("prequential")


def test_what_cannot_be_drawn_of_a_good_day_is_our_fault_and_fails(lake, monkeypatch):
    def budget_section(day):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(day_page, "SECTIONS", {"budget": budget_section})
    with pytest.raises(ZeroDivisionError):
        publish_report(lake, CONTRACT, DAY)


# Safe to open, wherever the words come from.


def test_whatever_somebody_typed_is_text(lake):
    refused(lake, DAY, {(f"reason {EVIL}", f"file {EVIL}"): 2}, raw=f"raw {EVIL}")
    scored(lake, DAY, channels=(f"channel {EVIL}", "b"))
    planned(lake, DAY, channel=f"bought {EVIL}")
    passed(lake, "exposures", DAY, failure("critical", f"example {EVIL}"))
    figure = drifted(0.5, f"psi({EVIL})", text=f"drift {EVIL}")
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), (figure,), {}))
    file = publish_report(lake, CONTRACT, DAY)
    day_page, index = Page(file.read_text()), index_of(lake)
    for page in (day_page, index):
        assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(page.tags)
        assert page.tags.count("style") == 1
        assert not [name for name in page.attributes if name.startswith("on")]
        assert all(not link.startswith(("http", "//", "data:", "javascript:")) for link in page.links)
    flat = " ".join(EVIL.split())
    for kind in ("reason", "file", "raw", "channel", "bought", "example", "drift"):
        assert f"{kind} {flat}" in day_page.text, kind
    assert f"Stopped at exposures. Broken rule: example {flat}" in index.text


def test_pages_load_nothing_from_elsewhere(made):
    for file in lake_pages(made):
        assert not re.search(r"@import|url\(|<script|src=", file.read_text())


def lake_pages(lake: Lake):
    return list(lake.reports(DATASET).glob("*.html"))


def test_what_would_be_a_dead_link_is_plain_text(lake):
    for pages in (True, False):
        page = page_of(lake)
        links = [link for link in page.links if not link.startswith("#")]
        assert all((lake.reports(DATASET) / link).is_file() for link in links)
        assert any("data_docs" in link for link in links) is pages
        shutil.rmtree(lake.docs(DATASET), ignore_errors=True)


# The index.


def test_the_index_has_the_newest_day_first_and_the_trend_of_every_headline(made):
    page = index_of(made)
    assert [row[:2] for row in page.rows[1:]] == [[DAY, "good"], [FIRST, "good"]]
    assert {f"{DAY}.html", f"{FIRST}.html"} <= set(page.links)
    assert page.picture("Rows in") == "93 (2 Jan), 130 (3 Jan)"
    assert page.picture("Rows refused or duplicate, share") == (
        "quarantined: 0.0% (2 Jan), 5.4% (3 Jan); duplicates: 3.2% (2 Jan), 2.3% (3 Jan)"
    )
    assert page.picture("Worst drift, share of its limit") == "exposures: 25.0% (2 Jan), 50.0% (3 Jan)"
    assert page.picture("Share of exposures with click") == (
        "observed: 25.0% (2 Jan), 25.0% (3 Jan); predicted: 24.0% (2 Jan), 24.0% (3 Jan)"
    )


def test_the_index_reads_what_reports_have_left_and_no_table(lake):
    for table in ("exposures", "journeys", "channel_policies"):
        shutil.rmtree(lake[table, DATASET, FIRST].path)
    page_of(lake)
    assert index_of(lake).picture("Rows in") == "93 (2 Jan), 130 (3 Jan)"


def test_a_figure_that_a_day_lacks_is_a_gap(lake):
    ds = day_plus(DAY, 1)
    exposures(lake, ds, 60, 0, 0)
    page_of(lake, ds)
    page = index_of(lake)
    assert page.picture("Rows in") == "93 (2 Jan), 130 (3 Jan), 60 (4 Jan)"
    assert page.picture("Users with a journey") == "90 (2 Jan), 100 (3 Jan)"
    assert "Not scored" in page.text


def test_days_that_are_not_there_are_told_and_leave_a_gap(lake):
    ds = day_plus(DAY, 4)
    exposures(lake, ds, 60, 0, 0)
    page = page_of(lake, ds)
    assert page.picture("Rows per day").startswith("exposures: 90 (2 Jan), 120 (3 Jan), 60 (7 Jan)")
    index = index_of(lake)
    missing = day_plus(DAY, 1)
    assert f"{missing} missing no report for the days until {day_plus(DAY, 3)}: the log has no rows" in index.text
    assert f"{missing}.html" not in index.links
    assert index.picture("Rows in") == "93 (2 Jan), 130 (3 Jan), 60 (7 Jan)"


def test_a_day_costs_a_day(lake):
    """Of other days only manifests, policies of the day before, and small tables are read."""
    before = publish_report(lake, CONTRACT, DAY).read_bytes()
    for table in ("exposures", "quarantine", "journeys", "user_reward_ranks", "budget_plan"):
        for file in lake[table, DATASET, FIRST].path.glob("*.parquet"):
            file.write_text("never read")
    assert publish_report(lake, CONTRACT, DAY).read_bytes() == before


# The command.


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--dataset", DATASET, *arguments])
    report.main()


def test_the_command_prints_the_path_and_takes_the_latest_day_by_default(lake, monkeypatch, capsys):
    run(monkeypatch, "--lake", str(lake.root))
    assert capsys.readouterr().out.strip() == str(lake.reports(DATASET) / f"{DAY}.html")


def test_a_range_of_days_makes_a_page_each(lake, monkeypatch):
    shutil.rmtree(lake.reports(DATASET))
    run(monkeypatch, "--lake", str(lake.root), "--from", FIRST, "--to", DAY)
    assert {p.name for p in lake_pages(lake)} == {f"{FIRST}.html", f"{DAY}.html", INDEX}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--day", "2031-01-01"], "criteo has no tables on 2031-01-01 .*there are 2017-01-02 to 2017-01-03"),
        (["--day", "yesterday"], "not a day"),
        (["--from", "2031-01-01"], "from 2031-01-01 to the end"),
        (["--day", DAY, "--from", DAY], "use one or the other"),
    ],
)
def test_an_unknown_day_is_one_clear_line(made, monkeypatch, arguments, says):
    with pytest.raises(UserError, match=says):
        run(monkeypatch, "--lake", str(made.root), *arguments)


def test_a_day_without_anything_is_left_out_of_a_range(lake, monkeypatch):
    far = day_plus(DAY, 3)
    exposures(lake, far, 5, 0, 0)
    run(monkeypatch, "--lake", str(lake.root), "--from", DAY)
    assert {p.name for p in lake_pages(lake)} == {f"{FIRST}.html", f"{DAY}.html", f"{far}.html", INDEX}
    with pytest.raises(NothingToDo):
        run(monkeypatch, "--lake", str(lake.root), "--day", day_plus(DAY, 1), "--if-there")


def test_no_lake_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        run(monkeypatch, "--lake", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="run a day first"):
        run(monkeypatch, "--lake", str(tmp_path))


def test_a_day_that_is_not_there_is_nothing_to_do_where_that_is_no_error(made, monkeypatch):
    with pytest.raises(NothingToDo):
        run(monkeypatch, "--lake", str(made.root), "--day", "2031-01-01", "--if-there")


def test_a_report_that_is_made_again_is_the_same(lake):
    folder = lake.reports(DATASET)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    page_of(lake)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
