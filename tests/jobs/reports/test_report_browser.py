"""The pages of the report as people see them in Debian's Chromium: on a desk, a phone and paper, light and dark."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import CHROMIUM, opened_tab
from page import Page
from report_lake import DATASET, DAY, FIRST, complete_lake, drifted, exposures, failure, passed, refused, scored

from jobs.drift import results as drift_results
from jobs.drift.results import Drift
from jobs.reports.data_docs import publish_pages
from jobs.reports.day_page import publish_report
from jobs.reports.index_page import INDEX
from schemas.dataset import get_dataset
from schemas.days import day_plus

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]
STOPPED, BARE = day_plus(DAY, 1), day_plus(DAY, 2)
PAGES = [f"{FIRST}.html", f"{DAY}.html", f"{STOPPED}.html", f"{BARE}.html", INDEX]
LOOKS = [(1200, False), (1200, True), (390, False), (390, True)]  # width in CSS pixels, dark
LONG = "a reason that is far longer than any picture is wide, with_a_word_that_nobody_can_break_" + "x" * 60

# Everything that a person could not read: [what, why].
UNREADABLE = """
(() => {
  const faults = [];
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const seen = (element) => element.getClientRects().length && element.getBoundingClientRect().width > 0;
  for (const e of document.querySelectorAll("body *")) {
    const says = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!says || !seen(e) || e.tagName === "title") continue;
    const style = getComputedStyle(e), inPicture = e instanceof SVGElement;
    const ratio = contrast(rgb(inPicture ? style.fill : style.color), behind(e));
    if (ratio < 4.5) faults.push([e.textContent.trim().slice(0, 40), "contrast " + ratio.toFixed(2)]);
    const scale = inPicture ? e.getScreenCTM().a : 1, size = parseFloat(style.fontSize) * scale;
    if (size < 10.5) faults.push([e.textContent.trim().slice(0, 40), "letters of " + size.toFixed(1) + " px"]);
  }
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect(), name = svg.getAttribute("aria-label") || "";
    if (!seen(svg) || frame.height < 20) faults.push([name, "a picture of no size"]);
    if (svg.getAttribute("role") !== "img" || name.length < 10) faults.push([name, "no alternative text"]);
    for (const mark of svg.querySelectorAll(".fill, .exceeded"))
      if (contrast(rgb(getComputedStyle(mark).fill), behind(svg)) < 3) faults.push([name, "a pale mark"]);
    const boxes = [...svg.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
    boxes.forEach(([text, box], i) => {
      if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.bottom > frame.bottom + 4)
        faults.push([name, "cut: " + text]);
      for (const [other, b] of boxes.slice(i + 1))
        if (box.left < b.right - 1 && b.left < box.right - 1 && box.top < b.bottom - 4 && b.top < box.bottom - 4)
          faults.push([name, text + " over " + other]);
    });
  }
  const page = document.documentElement;
  const aside = page.scrollWidth - page.clientWidth;
  if (aside > 0) faults.push(["page", "scrolls sideways by " + aside]);
  return faults;
})()
"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> Path:
    """A good day, one with warnings and long words, one that was stopped, one with nothing but exposures."""
    lake = complete_lake(tmp_path_factory.mktemp("browser") / "lake")
    refused(
        lake, DAY, {(LONG, "a_file_of_the_log_with_a_name_" + "y" * 60): 5, ("no user", "log.tsv"): 2}, raw=LONG * 3
    )
    scored(lake, DAY, channels=(LONG, "b"))
    for table in ("quarantine", "channel_policies", "user_reward_ranks", "channel_allocation"):
        passed(lake, table, DAY, failure("warning", LONG))
    figures = [
        drifted(value, f"psi({name})", text=LONG) for value, name in ((0.5, LONG), (0.1, "b"), (float("nan"), "c"))
    ]
    drift_results.store_drift(lake, Drift(DATASET, DAY, (FIRST,), tuple(figures), {}))
    exposures(lake, STOPPED, 123, 1, 1)
    publish_pages(
        lake, get_dataset(DATASET), [passed(lake, "exposures", STOPPED, failure("critical", "hours are shifted"))]
    )
    exposures(lake, BARE, 1, 0, 0)
    for ds in (FIRST, DAY, STOPPED, BARE):
        page = publish_report(lake, get_dataset(DATASET), ds)
    return page.parent


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with opened_tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.mark.parametrize(("width", "dark"), LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_everything_can_be_read(tab, reports, name, width, dark):
    tab.complaints.clear()
    tab.look(width, dark=dark, phone=width < 500)
    tab.open(reports / name)
    assert tab.value("innerWidth") == width
    assert tab.value("document.querySelectorAll('svg').length") > 0
    tab.value("document.querySelectorAll('details').forEach((folded) => folded.open = true)")
    assert "\n".join(map(str, tab.value(UNREADABLE))) == ""
    assert tab.complaints == []


def test_the_browser_sees_what_is_wrong(tab, tmp_path):
    """Else the test above could not fail."""
    page = tmp_path / "bad.html"
    page.write_text(
        """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
        <body style="background:#fff"><p style="color:#ccc">pale</p><p style="font-size:6px">small</p>
        <div style="width:900px">wide</div>
        <svg role="img" viewBox="0 0 100 40" width="100" aria-label="A picture of two">
        <rect class="fill" fill="#eee" width="5" height="5"/><text y="20" font-size="13">one</text>
        <text y="22" font-size="13">two</text><text x="90" y="36" font-size="13">beyond</text></svg>
        <svg width="0" height="0"></svg><script>console.error("oh")</script><img src="nowhere.png" alt="">"""
    )
    tab.complaints.clear()
    tab.look(390, phone=True)
    tab.open(page)
    found = " ".join(why for _, why in tab.value(UNREADABLE))
    for fault in ("contrast", "letters of 6.0", "sideways", "pale mark", "one over two", "cut: beyond", "no size",
                  "no alternative"):  # fmt: skip
        assert fault in found, found
    assert "oh" in str(tab.complaints)
    assert "ERR_FILE_NOT_FOUND" in str(tab.complaints)
    tab.complaints.clear()


def test_the_two_schemes_differ(tab, reports):
    colours = []
    for dark in (False, True):
        tab.look(1200, dark=dark)
        tab.open(reports / f"{DAY}.html")
        colours.append(tab.value("getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(tab, reports, name):
    """As the browser resolves them: to a file that is there, or to a part of the page that is."""
    tab.look(1200)
    tab.open(reports / name)
    links = tab.value("[...document.links].map((link) => link.href)")
    assert links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "file"
        file = Path(unquote(parts.path))
        assert file.is_file(), link
        if parts.fragment:
            assert unquote(parts.fragment) in Page(file.read_text()).ids


@pytest.mark.parametrize("name", [f"{DAY}.html", INDEX])
def test_a_page_can_be_printed(tab, reports, name, tmp_path):
    tab.look(1200, dark=True)
    tab.open(reports / name)
    tab.pdf(tmp_path / "page.pdf")
    paper = (tmp_path / "page.pdf").read_bytes()
    assert paper.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 20
