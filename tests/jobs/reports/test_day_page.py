"""The day's page shows the content of the tables, above all for a day that was stopped. The index shows all days."""

import re
import shutil
import sys
from dataclasses import replace

import pytest
from lakes import unpublish
from page import Page
from report_lake import (
    CONTRACT,
    DATASET,
    DAY,
    FIRST,
    complete_lake,
    drift_figure,
    failure,
    publish,
    publish_exposures,
    publish_plan,
    publish_quarantine,
    publish_scores,
    publish_second_method,
    store_figures,
    store_result,
)

from jobs import report
from jobs.reports import day_page
from jobs.reports.day_page import publish_report
from jobs.reports.index_page import INDEX
from jobs.reports.summaries import stored_summaries
from lakehouse.lake import Lake
from lakehouse.lineage import LINEAGE, record
from schemas.days import UNDATED, day_plus
from schemas.errors import NothingToDo, UserError
from schemas.tables.prequential import labels_of_new_channels

pytestmark = pytest.mark.lake

EVIL = "</style></svg><script>alert(1)</script>\"'&{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Lake:
    """Not to be changed."""
    lake = complete_lake(tmp_path_factory.mktemp("complete") / "lake")
    for ds in (FIRST, DAY):
        publish_report(lake, CONTRACT, ds)
    return lake


@pytest.fixture
def lake(complete, tmp_path) -> Lake:
    """A copy that a test may change."""
    shutil.copytree(complete.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def page_of(lake: Lake, ds: str = DAY) -> Page:
    return Page(publish_report(lake, CONTRACT, ds).read_text())


def index_of(lake: Lake) -> Page:
    return Page((lake.reports(DATASET) / INDEX).read_text())


def row(page: Page, *cells: str) -> list[str]:
    """The only row of any table that begins with these cells."""
    (matching,) = [row for row in page.rows if tuple(row[: len(cells)]) == cells]
    return matching


def test_a_good_day_begins_with_its_verdict(complete):
    page = page_of(complete)
    assert "Tuesday 3 January 2017 All is well: every rule holds How to read this page" in page.text


def test_rows_are_those_of_the_manifests(complete):
    page = page_of(complete)
    assert "Of 130 rows" in page.section("rows")
    assert "120 became ad exposures, 3 repeated another row, and 7 (5.4%) went to quarantine." in page.section("rows")
    assert page.picture("Rows per day") == "exposures: 90 (2 Jan), 120 (3 Jan); duplicates: 3 (2 Jan), 3 (3 Jan); " \
                                         "quarantined: 0 (2 Jan), 7 (3 Jan)"  # fmt: skip


def test_the_page_reports_rows_that_do_not_add_up(lake):
    stated = lake["exposures", DATASET, DAY].manifest
    counts = {**stated.counts, "rows_in": stated.counts["rows_in"] + 1}
    record(lake.table(LINEAGE, DATASET), [replace(stated, counts=counts)], {})
    assert "do not add up" in page_of(lake).section("rows")
    assert "do not add up" not in page_of(lake, FIRST).section("rows")


def test_quarantined_rows_are_counted_by_reason_and_file_with_examples(complete):
    page = page_of(complete)
    assert page.picture("Quarantined rows by reason") == "no user: 5; cost below 0: 2"
    assert row(page, "no user", "log.tsv") == ["no user", "log.tsv", "4", "row row"]
    assert row(page, "no user", "late.tsv")[2] == "1"
    assert row(page, "cost below 0")[1:3] == ["log.tsv", "2"]
    assert "without a readable time stamp, or with one outside its days: 5" in page.section("quarantine")
    assert row(page, "no time")[2] == "5"


def test_a_long_quarantined_row_is_cut(lake):
    publish_quarantine(lake, DAY, {("no user", "log.tsv"): 1}, raw="x" * 300)
    assert row(page_of(lake), "no user")[3] == "x" * 200 + "…"


def test_journeys_are_counted_by_length(complete):
    page = page_of(complete)
    # 100 users with 1, 2, ... 100 exposures: the largest bucket, 65 to 128, has 36 of them.
    assert page.picture("Users by number of exposures so far") == "1 (1) to 36 (65-128), lowest 1, highest 36"
    assert "There are 100 users. 10 of them are new on this day. 1 (1.0%) have seen a single exposure" in page.text


def test_policies_are_compared_with_the_shown_channels_and_the_day_before(complete):
    page = page_of(complete)
    assert page.picture("Share of each channel") == (
        "b: policies 60.0%, shown on the day 33.3%, policies the day before 50.0%; "
        "a: policies 40.0%, shown on the day 66.7%, policies the day before 50.0%"
    )
    assert page.picture("Users for whom the channel is the best") == "a: 50; b: 50"
    # Every fourth exposure is clicked, in both channels.
    assert row(page, "a", "50") == ["a", "50", "50.0%", "40.0%", "66.7%", "25.0%", "0.0%"]
    assert "3 users have too short a journey" in page.section("policies")


def test_channels_that_the_model_does_not_know_are_counted(complete, lake):
    assert "does not know" not in page_of(complete).section("policies") + page_of(complete).section("prequential")
    publish_scores(lake, DAY, channels=("b", "c"))
    text = page_of(lake).section("policies")
    assert (
        "The model does not know 1 of the day's channels, with 66.7% of the exposures: a (66.7%). "
        "These exposures count for the gains alone. From 5.0% on, start a full training (mtorl_history_criteo)." in text
    )


def test_labels_of_new_channels_are_the_labels_that_gains_alone_have():
    assert labels_of_new_channels({"channel": 180, "click": 200, "conversion": 190}) == 20
    assert labels_of_new_channels({"channel": 200, "click": 200}) == 0
    assert labels_of_new_channels({"click": 200}) == 0  # the method predicts no channel
    assert labels_of_new_channels({"channel": 200, "conversion": 150}) == 0  # a late gain that few labels have yet


def test_the_champions_of_two_methods_are_shown_beside_each_other(lake):
    publish_second_method(lake, DAY)
    page = page_of(lake)
    assert "Not complete" not in page.text
    losses = page.picture("Log loss of click")
    assert losses.startswith("mtorl_criteo: 0.52 (2 Jan), 0.5 (3 Jan); rmtl_criteo: 0.4 (3 Jan); mean rate: ")
    assert row(page, "click", "220")[2:5] == ["0.4000", "0.5600", "0.8000"]
    assert row(page, "click_conversion", "220")[2] == "0.1000"
    assert row(page, "click", "200")[2] == "0.5000"
    training = page.section("training")
    assert "The day was scored by mtorl_criteo/2." in training
    assert "The day was scored by rmtl_criteo/7." in training
    assert "rmtl_criteo/8, replaced the champion rmtl_criteo/7." in training
    assert "mtorl_criteo/3, did not replace the champion mtorl_criteo/2." in training
    assert "with the last full training (rmtl_criteo)" in training


def test_tasks_are_shown_beside_the_rates_of_the_day(complete, lake):
    assert "This day has no task predictions" in page_of(complete).section("tasks")
    publish_second_method(lake, DAY)
    page = page_of(lake)
    assert "For each of 50 users, rmtl_criteo/7 predicts" in page.section("tasks")
    assert page.picture("Chance from the first rank to the last").startswith("click: 100.0% (1) to 2.0% (50)")
    assert row(page, "click", "9.0%") == ["click", "9.0%", "25.0%"]  # a quarter of the exposures is clicked
    assert row(page, "click_conversion", "9.0%")[2] == "0.0%"
    assert row(page, "2", "1", "50.00%") == ["2", "1", "50.00%", "50.00%", "50.00%"]


def test_fusion_shows_the_powers_of_each_objective(complete, lake):
    assert "This day has no fusion weights" in page_of(complete).section("fusion")
    select = """SELECT i AS user_id, 1.0 + i % 2 * .5 AS power_click, .5 AS power_conversion, .02 AS bias_click,
                       .0 AS bias_conversion FROM range(40) t(i)"""
    publish(lake, "fusion_weights", DAY, select, inputs={"model": "unified_rl_criteo/3"})
    store_result(lake, "fusion_weights", DAY)
    page = page_of(lake)
    assert "For each of 40 users, unified_rl_criteo/3 chooses" in page.section("fusion")
    assert row(page, "click", "1.250") == ["click", "1.250", "1.000", "1.500", "0.020", "0.020", "0.020"]
    assert page.picture("Mean power of each objective").startswith("click: 1.25")


def test_ranks_start_with_the_best_user(complete):
    page = page_of(complete)
    assert row(page, "1", "0") == ["1", "0", "0.9950", "25.00%", "12.50%"]
    assert row(page, "10", "9")[2] == "0.9500"
    assert page.picture("Predicted reward by rank").startswith("0.995 (1) to 0.5 (100), lowest 0.5, highest 0.995")


def test_the_budget_section_shows_the_channels(complete):
    page = page_of(complete)
    assert "A budget of 50 of the log's unit of cost buys 25 of 100 users, at an expected cost of 25 and an expected " \
           "reward of 12.5 in all. No plan within the budget could be expected to bring more than 13.5." \
        in page.section("budget")  # fmt: skip
    assert page.picture("Budget and planned spend") == "budget: 50; planned spend: 25"
    assert row(page, "a", "25") == ["a", "25", "25", "12.5"]


def test_a_day_without_a_budget_explains_how_to_set_one(lake):
    publish_plan(lake, DAY, budget=0)
    assert "has no budget" in page_of(lake).section("budget")


def test_the_page_shows_how_the_model_predicted_days_that_it_had_not_seen(complete):
    page = page_of(complete)
    assert row(page, "click", "200") == ["click", "200", "0.5000", "0.5500", "0.7125", "25.00%", "24.00%"]
    assert row(page, "channel", "200") == ["channel", "200", "0.6000", "0.6500", "", "", ""]
    assert (
        page.picture("Log loss of click") == "model: 0.52 (2 Jan), 0.5 (3 Jan); mean rate: 0.55 (2 Jan), 0.55 (3 Jan)"
    )
    assert page.picture("Share with click") == "observed: 25.0% (2 Jan), 25.0% (3 Jan); predicted: 24.0% (2 Jan), " \
                                               "24.0% (3 Jan)"  # fmt: skip
    assert "mtorl_criteo/3, did not replace the champion mtorl_criteo/2" in page.section("training")
    assert row(page, "click", "failed")[2:] == ["0.5000", "0.5100", "0.0100", "0.0050", "click is worse"]


def test_the_page_shows_comparisons_with_the_last_full_training_and_that_a_full_training_is_due(lake):
    assert "A full training is due" not in page_of(lake).section("training")
    publish(
        lake, "promotions", DAY,
        """SELECT *, 'promoted' AS decision FROM (VALUES
             ('click', 'mtorl_criteo/3', 'mtorl_criteo/2', true, '', .5e0, .5e0, 0e0, .005e0),
             ('click_since_full_training', 'mtorl_criteo/3', 'mtorl_criteo/1', true, '', .5e0, .5e0, 0e0, .01e0),
             ('click_against_fresh_fit', 'mtorl_criteo/3', 'fresh_fit', false, 'click is worse than trees',
              .4e0, .5e0, .1e0, .008e0),
             ('full_training', 'mtorl_criteo/3', '', true, 'not compared: other features', NULL, NULL, NULL, NULL))
           t("check", challenger, champion, passed, reason, champion_logloss, challenger_logloss, difference,
             margin)""",
    )  # fmt: skip
    page = page_of(lake)
    assert "mtorl_criteo/3, replaced the champion mtorl_criteo/2." in page.section("training")
    assert "A full training is due (mtorl_history_criteo): click is worse than trees." in page.section("training")
    assert row(page, "click_since_full_training", "passed")[2:] == ["0.5000", "0.5000", "0.0000", "0.0100", ""]
    assert row(page, "full_training", "passed")[-1] == "not compared: other features"


def test_drift_is_shown_as_shares_of_the_limits_the_worst_first(lake):
    figures = (drift_figure(0.1, "psi(near)"), drift_figure(0.5, "psi(far)"), drift_figure(float("nan"), "psi(lost)"))
    store_figures(lake, DAY, *figures)
    page = page_of(lake)
    assert page.picture("Share of the limit") == (
        "psi(lost) vs day before: no number; psi(far) vs day before: 250.0%; psi(near) vs day before: 50.0%"
    )
    assert "Of 3 figures, 2 exceed their limit." in page.section("drift")
    assert page.picture("Worst share of the limit") == "exposures: 25.0% (2 Jan), 300.0% (3 Jan)"
    assert row(page, "psi(far)") == ["psi(far)", "day before", "0.5", "0.2 (fixed)", "warning", "moved. why moved."]


def test_a_ratio_of_1_means_no_drift(lake):
    """Without a change, a ratio is 1 and every other figure is 0."""
    figures = [
        replace(drift_figure(value, f"rate({name})"), about="rewards", limit=1.25, same=1.0)
        for name, value in (("same", 1.0), ("halfway", 1.125), ("beyond", 1.5))
    ]
    figures.append(replace(drift_figure(1.0, "rate(exact)"), limit=1.0, same=1.0))
    store_figures(lake, DAY, *figures)
    page = page_of(lake)
    assert page.picture("Share of the limit") == (
        "rate(beyond) vs day before: 200.0%; rate(halfway) vs day before: 50.0%; rate(same) vs day before: 0.0%; "
        "rate(exact) vs day before: 0.0%"
    )


def test_the_page_reports_drift_that_was_measured_on_other_data(lake):
    part = lake["exposures", DATASET, DAY]
    for fingerprint, is_reported in ((part.manifest.fingerprint, False), ("0" * 64, True)):
        inputs = {part.key: fingerprint}
        store_figures(lake, DAY, drift_figure(0.1), inputs=inputs)
        assert ("Measured before" in page_of(lake).section("drift")) is is_reported


# The verdict, with which the page begins.


def test_a_stopped_day_shows_where_and_why_it_stopped_and_what_to_do(lake):
    store_result(lake, "journeys", DAY, failure("warning", "a bit late"), failure("critical"))
    for table in ("channel_policies", "user_reward_ranks", "budget_plan"):
        unpublish(lake[table, DATASET, DAY])
    page = page_of(lake)
    assert "Stopped at journeys. Broken rule: 12 users are doubled. No job builds on it" in page.text
    assert f"make backfill DATASET={DATASET} FROM={DAY} TO={DAY}" in page.text
    assert "Broken rule: 12 users are doubled. critical " \
           "journeys 2017-01-03 : 12 of 100 rows, e.g. 12 users are doubled " \
           "Why it matters: every rate is distorted." in page.text  # fmt: skip
    assert page.text.index("12 users are doubled. critical") < page.text.index("a bit late. warning")
    assert "it was not scored yet" in page.section("policies")
    assert f"../data_docs/journeys/{DAY}.html" in page.links
    assert row(page, "journeys the journeys that changed on the day")[2:] == ["fail", "1 hold, 2 failed"]
    assert [s.kind for s in stored_summaries(lake, CONTRACT)] == ["pass", "fail"]


def test_after_a_repair_the_day_is_no_longer_stopped(lake):
    store_result(lake, "journeys", DAY, failure("critical"))
    assert "Stopped at journeys. " in page_of(lake).text
    # Built again with other content and not audited yet: the old verdict is about the old content.
    publish(lake, "journeys", DAY, "SELECT 7::BIGINT AS user_id, {'seen_exposures': 2::BIGINT} AS next_step")
    page = page_of(lake)
    assert "Not audited: the current content of journeys No rule was evaluated on it" in page.text
    assert "Stopped" not in page.text
    assert index_of(lake).rows[1][:2] == [DAY, "incomplete"]
    store_result(lake, "journeys", DAY)
    page = page_of(lake)
    assert "All is well" in page.text
    assert "Stopped" not in page.text


def test_an_earlier_day_that_blocks_the_day_is_named(lake):
    store_result(lake, "exposures", FIRST, failure("critical"))
    unpublish(lake["channel_policies", DATASET, DAY])
    assert f"An earlier day blocks this one: the exposures of {FIRST} failed their audit." in page_of(lake).text
    store_result(lake, "exposures", FIRST)
    assert "blocks this one" not in page_of(lake).text


def test_a_day_without_audits_and_drift_is_not_good(lake):
    shutil.rmtree(lake.audits(DATASET))
    shutil.rmtree(lake.drift(DATASET))
    page = page_of(lake)
    assert "All is well" not in page.text
    assert "Not audited: the current content of exposures, " in page.text
    assert "Drift was not measured, so it is unknown how much the day differs" in page.text
    assert index_of(lake).rows[1][:2] == [DAY, "incomplete"]


def test_a_good_day_reports_that_drift_was_not_measured(lake):
    assert "Drift was not measured" not in page_of(lake).text
    shutil.rmtree(lake.drift(DATASET))
    assert "All is well: every rule holds Drift was not measured, so it is unknown" in page_of(lake).text


def test_a_warning_does_not_hide_that_a_table_was_not_audited(lake):
    store_result(lake, "exposures", DAY, failure("warning", "few clicks"))
    (lake.audits(DATASET) / "journeys" / f"{DAY}.json").unlink()
    assert "Not audited: the current content of journeys No rule was evaluated on it" in page_of(lake).text
    store_result(lake, "exposures", DAY, failure("critical"))
    page = page_of(lake)
    assert "Stopped at exposures." in page.text  # worse, so it comes first
    assert "Not audited: the current content of journeys." in page.text


def test_undated_rows_that_stop_the_log_stop_every_day(lake):
    store_result(lake, "quarantine", UNDATED, failure("critical", "most rows have no day"))
    assert "Stopped at undated. Broken rule: most rows have no day." in page_of(lake).text


def test_warnings_do_not_stop_the_day(lake):
    store_result(lake, "exposures", DAY, failure("warning", "few clicks"))
    store_figures(lake, DAY, drift_figure(0.3))
    page = page_of(lake)
    assert "The day is good to use, with warnings 2 warnings do not stop the day." in page.text
    assert "moved. warning drift against the day before : 0.3, the limit is 0.2 (fixed)" in page.text
    assert stored_summaries(lake, CONTRACT)[-1].kind == "warn"


def test_critical_drift_makes_a_day_bad(lake):
    store_figures(lake, DAY, drift_figure(0.3, severity="critical"))
    assert "Check this day before you use it: moved." in page_of(lake).text
    assert stored_summaries(lake, CONTRACT)[-1].kind == "fail"


# Any table may be missing.

_MISSING = {
    "exposures": ("rows", "This day has no exposures"),
    "quarantine": ("quarantine", "No row of this day is in quarantine"),
    "journeys": ("journeys", "This day has no journeys"),
    "channel_policies": ("policies", "This day has no channel policies"),
    "user_reward_ranks": ("ranks", "This day has no reward ranks"),
    "budget_plan": ("budget", "This day has no budget plan"),
    "prequential": ("prequential", "This day was not tested"),
    "promotions": ("training", "has no decision about it, so there are no curves"),
}


@pytest.mark.parametrize("table", _MISSING)
def test_a_missing_table_is_one_line_of_an_otherwise_complete_page(lake, table):
    unpublish(lake[table, DATASET, DAY])
    page = page_of(lake)
    section, line = _MISSING[table]
    assert line in page.section(section)
    assert all(name in page.sections for name in ("rows", "drift", "policies", "prequential"))


def test_a_day_with_exposures_only(tmp_path):
    """A new lake has no champion, no drift and no audit."""
    lake = Lake(tmp_path / "lake")
    publish_exposures(lake, DAY, 12, 0, 0)
    page = page_of(lake)
    assert "Not scored: this day has no channel policies yet" in page.text
    assert "Not audited: the current content of exposures." in page.text
    assert "Drift was not measured for this day" in page.section("drift")
    assert "there is no model to show" in page.section("training")
    assert [s.kind for s in stored_summaries(lake, CONTRACT)] == ["part"]


def test_tables_without_rows_make_a_page(lake):
    publish(lake, "exposures", DAY, "SELECT 1::BIGINT AS user_id, 'a' AS channel, 0 AS click, 0 AS conversion LIMIT 0",
        counts={"rows_in": 0, "duplicates": 0, "quarantined": 0})  # fmt: skip
    publish_scores(lake, DAY, users=0)
    publish_plan(lake, DAY, users=0)
    publish(lake, "journeys", DAY, "SELECT 1::BIGINT AS user_id, {'seen_exposures': 1::BIGINT} AS next_step LIMIT 0")
    page = page_of(lake)
    assert "Of 0 rows" in page.section("rows")
    assert "There are 0 users" in page.section("journeys")


@pytest.mark.parametrize("broken", ["no Parquet", "another column", "no file"])
def test_a_broken_table_affects_only_its_section(lake, broken):
    (file,) = lake["channel_policies", DATASET, DAY].files()
    if broken == "another column":
        publish(lake, "channel_policies", DAY, "SELECT 1::BIGINT AS user_id")
    elif broken == "no file":
        file.unlink()
    else:
        file.write_text("gone")
    page = page_of(lake)
    assert "This section cannot be made from the day's tables: channel_policies of 2017-01-03" in page.section(
        "policies"
    )
    assert "Of 130 rows" in page.section("rows")


def test_a_table_that_failed_its_audit_may_contain_anything(lake):
    publish(lake, "prequential", DAY, "SELECT NULL::VARCHAR AS head, 'm' AS model_version")
    store_result(lake, "prequential", DAY, failure("critical", "no heads"))
    page = page_of(lake)
    assert "Stopped at prequential. Broken rule: no heads." in page.text
    assert "This section cannot be made from the day's tables" in page.section("prequential")


def test_an_error_of_a_section_on_a_good_day_is_raised(lake, monkeypatch):
    def budget_section(day):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(day_page, "SECTIONS", {"budget": budget_section})
    with pytest.raises(ZeroDivisionError):
        publish_report(lake, CONTRACT, DAY)


# Pages are safe to open, whatever text the log contains.


def test_text_from_the_log_is_escaped(lake):
    publish_quarantine(lake, DAY, {(f"reason {EVIL}", f"file {EVIL}"): 2}, raw=f"raw {EVIL}")
    publish_scores(lake, DAY, channels=(f"channel {EVIL}", "b"))
    publish_plan(lake, DAY, channel=f"bought {EVIL}")
    store_result(lake, "exposures", DAY, failure("critical", f"example {EVIL}"))
    figure = drift_figure(0.5, f"psi({EVIL})", text=f"drift {EVIL}")
    store_figures(lake, DAY, figure)
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


def test_pages_load_nothing_from_elsewhere(complete):
    for file in lake_pages(complete):
        assert not re.search(r"@import|url\(|<script|src=", file.read_text())


def lake_pages(lake: Lake):
    return list(lake.reports(DATASET).glob("*.html"))


def test_a_link_to_a_missing_page_is_plain_text(lake):
    for has_docs in (True, False):
        page = page_of(lake)
        links = [link for link in page.links if not link.startswith("#")]
        assert all((lake.reports(DATASET) / link).is_file() for link in links)
        assert any("data_docs" in link for link in links) is has_docs
        shutil.rmtree(lake.docs(DATASET), ignore_errors=True)


# The index.


def test_the_index_begins_with_the_newest_day_and_shows_the_trend_of_every_figure(complete):
    page = index_of(complete)
    assert [row[:2] for row in page.rows[1:]] == [[DAY, "good"], [FIRST, "good"]]
    assert {f"{DAY}.html", f"{FIRST}.html"} <= set(page.links)
    assert page.picture("Rows in") == "93 (2 Jan), 130 (3 Jan)"
    assert page.picture("Share of rows in quarantine or duplicate") == (
        "quarantined: 0.0% (2 Jan), 5.4% (3 Jan); duplicates: 3.2% (2 Jan), 2.3% (3 Jan)"
    )
    assert page.picture("Worst drift, share of its limit") == "exposures: 25.0% (2 Jan), 50.0% (3 Jan)"
    assert page.picture("Share of exposures with click") == (
        "observed: 25.0% (2 Jan), 25.0% (3 Jan); predicted: 24.0% (2 Jan), 24.0% (3 Jan)"
    )


def test_the_index_is_made_from_the_stored_summaries(lake):
    for table in ("exposures", "journeys", "channel_policies"):
        unpublish(lake[table, DATASET, FIRST])
    page_of(lake)
    assert index_of(lake).picture("Rows in") == "93 (2 Jan), 130 (3 Jan)"


def test_a_missing_figure_is_a_gap(lake):
    ds = day_plus(DAY, 1)
    publish_exposures(lake, ds, 60, 0, 0)
    page_of(lake, ds)
    page = index_of(lake)
    assert page.picture("Rows in") == "93 (2 Jan), 130 (3 Jan), 60 (4 Jan)"
    assert page.picture("Users with a journey") == "90 (2 Jan), 100 (3 Jan)"
    assert "Not scored" in page.text


def test_the_index_reports_missing_days_and_leaves_a_gap(lake):
    ds = day_plus(DAY, 4)
    publish_exposures(lake, ds, 60, 0, 0)
    page = page_of(lake, ds)
    assert page.picture("Rows per day").startswith("exposures: 90 (2 Jan), 120 (3 Jan), 60 (7 Jan)")
    index = index_of(lake)
    missing = day_plus(DAY, 1)
    assert f"{missing} missing no report for the days until {day_plus(DAY, 3)}: the log has no rows" in index.text
    assert f"{missing}.html" not in index.links
    assert index.picture("Rows in") == "93 (2 Jan), 130 (3 Jan), 60 (7 Jan)"


def test_a_page_reads_little_of_other_days(lake):
    """Only manifests, the policies of the day before, and small tables."""
    expected = publish_report(lake, CONTRACT, DAY).read_bytes()
    for table in ("exposures", "quarantine", "journeys", "user_reward_ranks", "budget_plan"):
        for file in lake[table, DATASET, FIRST].files():
            file.write_text("never read")
    assert publish_report(lake, CONTRACT, DAY).read_bytes() == expected


# The command.


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["report", "--dataset", DATASET, *arguments])
    report.main()


def test_the_command_prints_the_path_and_takes_the_latest_day_by_default(lake, monkeypatch, capsys):
    run(monkeypatch, "--lake", str(lake.root))
    assert capsys.readouterr().out.strip() == str(lake.reports(DATASET) / f"{DAY}.html")


def test_a_range_of_days_makes_one_page_per_day(lake, monkeypatch):
    shutil.rmtree(lake.reports(DATASET))
    run(monkeypatch, "--lake", str(lake.root), "--from", FIRST, "--to", DAY)
    assert {p.name for p in lake_pages(lake)} == {f"{FIRST}.html", f"{DAY}.html", INDEX}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--day", "2031-01-01"], "criteo has no tables on 2031-01-01 .*there are 2017-01-02 to 2017-01-03"),
        (["--day", "yesterday"], "not a day"),
        (["--from", "2031-01-01"], "from 2031-01-01 to the end"),
        (["--day", DAY, "--from", DAY], "use one or the other"),
    ],
)
def test_an_unknown_day_is_an_error_in_one_line(complete, monkeypatch, arguments, message):
    with pytest.raises(UserError, match=message):
        run(monkeypatch, "--lake", str(complete.root), *arguments)


def test_a_range_leaves_out_days_without_tables(lake, monkeypatch):
    later_day = day_plus(DAY, 3)
    publish_exposures(lake, later_day, 5, 0, 0)
    run(monkeypatch, "--lake", str(lake.root), "--from", DAY)
    assert {p.name for p in lake_pages(lake)} == {f"{FIRST}.html", f"{DAY}.html", f"{later_day}.html", INDEX}
    with pytest.raises(NothingToDo):
        run(monkeypatch, "--lake", str(lake.root), "--day", day_plus(DAY, 1), "--if-there")


def test_a_missing_lake_is_an_error_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder"):
        run(monkeypatch, "--lake", str(tmp_path / "missing"))
    with pytest.raises(UserError, match="run a day first"):
        run(monkeypatch, "--lake", str(tmp_path))


def test_with_if_there_a_missing_day_is_nothing_to_do(complete, monkeypatch):
    with pytest.raises(NothingToDo):
        run(monkeypatch, "--lake", str(complete.root), "--day", "2031-01-01", "--if-there")


def test_a_report_that_is_made_again_does_not_change(lake):
    folder = lake.reports(DATASET)
    expected = {p.name: p.read_bytes() for p in folder.iterdir()}
    page_of(lake)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == expected
