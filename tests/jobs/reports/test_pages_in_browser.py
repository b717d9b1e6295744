"""The pages as people see them in Debian's Chromium: on a desktop, on a phone and on paper, light and dark."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import CHROMIUM, Tab, opened_tab
from page import Page
from report_lake import (
    CONTRACT,
    DAY,
    FIRST,
    complete_lake,
    drift_figure,
    failure,
    publish_exposures,
    publish_quarantine,
    publish_scores,
    store_figures,
    store_result,
)

from jobs.reports.data_docs import publish_pages
from jobs.reports.day_page import publish_report
from lakehouse.lake import Lake
from schemas.days import day_plus

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]
STOPPED, INCOMPLETE = day_plus(DAY, 1), day_plus(DAY, 2)
REPORTS = [f"reports/{name}.html" for name in (FIRST, DAY, STOPPED, INCOMPLETE, "index")]
DATA_DOCS = ["data_docs/index.html", f"data_docs/exposures/{STOPPED}.html", f"data_docs/quarantine/{DAY}.html"]
VIEWPORTS = [(1200, False), (1200, True), (390, False), (390, True)]  # width in CSS pixels, dark
LONG = "a reason that is far longer than any picture is wide, with_a_word_that_nobody_can_break_" + "x" * 60
UNREADABLE = Path(__file__).with_name("unreadable.js").read_text()


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """A good day, a day with warnings and long words, a day that was stopped, and a day with exposures alone."""
    lake = complete_lake(tmp_path_factory.mktemp("browser") / "lake")
    long_file = "a_file_of_the_log_with_a_name_" + "y" * 60
    publish_quarantine(lake, DAY, {(LONG, long_file): 5, ("no user", "log.tsv"): 2}, raw=LONG * 3)
    publish_scores(lake, DAY, channels=(LONG, "b"))
    warned = ("quarantine", "channel_policies", "user_reward_ranks", "channel_allocation")
    audits = [store_result(lake, table, DAY, failure("warning", LONG)) for table in warned]
    figures = [
        drift_figure(value, f"psi({name})", text=LONG) for value, name in ((0.5, LONG), (0.1, "b"), (float("nan"), "c"))
    ]
    store_figures(lake, DAY, *figures)
    publish_exposures(lake, STOPPED, 123, 1, 1)
    audits.append(store_result(lake, "exposures", STOPPED, failure("critical", "hours are shifted")))
    publish_pages(lake, CONTRACT, audits)
    publish_exposures(lake, INCOMPLETE, 1, 0, 0)
    for day in (FIRST, DAY, STOPPED, INCOMPLETE):
        publish_report(lake, CONTRACT, day)
    return lake


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with opened_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def page_file(lake: Lake, name: str) -> Path:
    """name: the table and the page in it, e.g. reports/index.html."""
    table, _, page = name.partition("/")
    return lake.table(table, CONTRACT) / page


def open_unfolded(tab: Tab, page: Path, width: int, dark: bool) -> None:
    tab.complaints.clear()
    tab.look(width, dark=dark, phone=width < 500)
    tab.open(page)
    tab.value("document.querySelectorAll('details').forEach((folded) => folded.open = true)")


@pytest.mark.parametrize(("width", "dark"), VIEWPORTS)
@pytest.mark.parametrize("name", [*REPORTS, *DATA_DOCS])
def test_everything_can_be_read(tab, lake, name, width, dark):
    open_unfolded(tab, page_file(lake, name), width, dark)
    assert tab.value("innerWidth") == width
    if name in REPORTS:
        assert tab.value("document.querySelectorAll('svg').length") > 0
    assert "\n".join(map(str, tab.value(UNREADABLE))) == ""
    assert tab.complaints == []


def test_every_kind_of_unreadable_text_is_found(tab, tmp_path):
    """Otherwise the test above could not fail."""
    page = tmp_path / "bad.html"
    page.write_text(
        """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
        <body style="background:#fff"><p style="color:#ccc">pale</p><p style="font-size:6px">small</p>
        <div style="width:900px">wide</div>
        <svg role="img" viewBox="0 0 100 40" width="100" aria-label="A picture of two">
        <rect class="fill" fill="#eee" width="5" height="5"/><text y="20" font-size="13">one</text>
        <text y="22" font-size="13">two</text><text x="90" y="36" font-size="13">beyond</text></svg>
        <svg width="0" height="0"></svg><script>console.error("oh")</script><img src="missing.png" alt="">"""
    )
    tab.complaints.clear()
    tab.look(390, phone=True)
    tab.open(page)
    reasons = " ".join(reason for _, reason in tab.value(UNREADABLE))
    for fault in ("contrast", "letters of 6.0", "sideways", "pale mark", "one over two", "cut: beyond", "no size",
                  "no alternative"):  # fmt: skip
        assert fault in reasons, reasons
    assert "oh" in str(tab.complaints)
    assert "ERR_FILE_NOT_FOUND" in str(tab.complaints)
    tab.complaints.clear()


def test_light_and_dark_pages_differ(tab, lake):
    colours = []
    for dark in (False, True):
        tab.look(1200, dark=dark)
        tab.open(page_file(lake, f"reports/{DAY}.html"))
        colours.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


@pytest.mark.parametrize("name", [*REPORTS, *DATA_DOCS])
def test_every_link_leads_to_a_file_or_to_a_part_of_a_page(tab, lake, name):
    """Links are resolved by the browser."""
    tab.look(1200)
    tab.open(page_file(lake, name))
    links = tab.value("[...document.links].map((link) => link.href)")
    assert links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "file"
        file = Path(unquote(parts.path))
        assert file.is_file(), link
        if parts.fragment:
            assert unquote(parts.fragment) in Page(file.read_text()).ids


@pytest.mark.parametrize("name", [f"reports/{DAY}.html", "reports/index.html"])
def test_a_page_can_be_printed(tab, lake, name, tmp_path):
    tab.look(1200, dark=True)
    tab.open(page_file(lake, name))
    tab.pdf(tmp_path / "page.pdf")
    paper = (tmp_path / "page.pdf").read_bytes()
    assert paper.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 20
