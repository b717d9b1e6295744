"""The data docs: a static site made from the stored audit results."""

import re
import shutil
import sys

import pytest
from page import Page

from jobs import data_docs as command
from jobs.quality.audit_results import FAILED, HOLDS, Audit, Outcome, store_audit, stored_audits
from jobs.reports import data_docs
from jobs.reports.data_docs import INDEX, audit_page, index_page, publish_pages
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.errors import UserError

CRITEO = get_dataset("criteo")
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(tmp_path / "lake")


def audit(table: str = "exposures", day: str = "2017-01-02", severity: str | None = None, text: str = "x") -> Audit:
    """An audit of two rules. The second one failed with the given severity; without a severity it holds."""
    first = Outcome("expect_a(x)", "partition", "A holds.", "it matters", "critical", HOLDS, "8")
    second = Outcome(f"expect_b({text})", "rows", f"B of {text}.", f"why {text}", severity or "critical",
                     FAILED if severity else HOLDS, "", 2 if severity else 0, (text,) if severity else ())  # fmt: skip
    return Audit(table, "criteo", day, 1_994, "f" * 64, (f"note {text}",), (first, second))


def test_a_page_shows_what_failed_how_often_and_why_it_matters():
    text = Page(audit_page(audit(severity="critical", text="cost"))).text
    assert "Failed: no job builds on it 1,994 rows, 2 rules: 1 failed as critical, 1 hold." in text
    assert "B of cost. critical 2 of 1,994 rows, e.g. cost (0.10%) Why it matters: why cost. expect_b(cost)" in text
    assert text.index("B of cost.") < text.index("A holds.")


@pytest.mark.parametrize("severity", [None, "warning", "critical"])
def test_pages_escape_everything_and_load_nothing(severity):
    evil = audit(severity=severity, text=EVIL)
    for html in (audit_page(evil), index_page(CRITEO, [evil])):
        page = Page(html)
        assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
        assert "alert(1)</" not in html
        assert not re.search(r"https?://|@import|url\(", html)
        assert all(not link.startswith(("http", "//", "data:", "javascript:")) for link in page.links)
    assert EVIL in Page(audit_page(evil)).text


def test_the_index_begins_with_the_newest_day_and_links_to_existing_pages(lake):
    audits = [
        audit("exposures", "2017-01-02"),
        audit("exposures", "2017-01-10", "critical"),
        audit("sequences", "2017-01-10", "warning"),
        audit("quarantine", UNDATED),
    ]
    for result in audits:
        store_audit(lake, result)
    index = publish_pages(lake, CRITEO, audits)
    page = Page(index.read_text())
    assert "1 failed, 1 with warnings" in page.text
    assert re.findall(r"2017-01-\d\d|undated", page.text) == ["2017-01-10", "2017-01-02", "undated"]
    assert "Day exposures quarantine sequences 2017-01-10 fail 1,994 rows, 1 failed warn" in page.text
    assert len(page.links) == 4
    for link in page.links:
        assert (index.parent / link).is_file()
        assert (index.parent / link).parent.joinpath("../index.html").resolve() == index.resolve()


def test_only_the_index_and_the_audited_pages_are_rewritten(lake):
    first, second = audit(day="2017-01-02"), audit(day="2017-01-03")
    for result in (first, second):
        store_audit(lake, result)
    index = publish_pages(lake, CRITEO, [first, second])
    page = index.parent / "exposures/2017-01-02.html"
    page.write_text("untouched")
    failed = audit(day="2017-01-03", severity="critical")
    store_audit(lake, failed)
    publish_pages(lake, CRITEO, [failed])
    assert page.read_text() == "untouched"
    assert "1 failed" in index.read_text()


def test_the_index_has_both_of_two_audits_that_end_at_the_same_time(lake, monkeypatch):
    """The second audit writes the index while the first one makes its own, which does not have the second."""
    first, second = audit(day="2017-01-02"), audit(day="2017-01-03")

    def interrupted_index_page(dataset, audits):
        monkeypatch.setattr(data_docs, "index_page", index_page)
        store_audit(lake, second)
        publish_pages(lake, CRITEO, [second])
        return index_page(dataset, audits)

    monkeypatch.setattr(data_docs, "index_page", interrupted_index_page)
    store_audit(lake, first)
    index = publish_pages(lake, CRITEO, [first])
    assert {"exposures/2017-01-02.html", "exposures/2017-01-03.html"} == set(Page(index.read_text()).links)


def test_the_command_makes_the_same_site_from_the_results_alone(lake, monkeypatch, capsys):
    for day in ("2017-01-02", "2017-01-03"):
        store_audit(lake, audit(day=day, severity="warning"))
    publish_pages(lake, CRITEO, stored_audits(lake, CRITEO))
    docs = lake.docs("criteo")
    expected = {p.relative_to(docs): p.read_bytes() for p in docs.rglob("*.html")}
    shutil.rmtree(docs)
    monkeypatch.setattr(sys, "argv", ["data_docs", "--dataset", "criteo", "--lake", str(lake.root)])
    command.main()
    assert {p.relative_to(docs): p.read_bytes() for p in docs.rglob("*.html")} == expected
    assert len(expected) == 3
    assert capsys.readouterr().out.strip() == str(docs.resolve() / INDEX)


def test_without_results_the_command_fails_with_one_line(lake, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["data_docs", "--dataset", "criteo", "--lake", str(lake.root)])
    with pytest.raises(UserError, match="no audits of criteo"):
        command.main()


def test_a_stored_result_is_read_back_unchanged(lake):
    result = audit(severity="warning", text=EVIL + " é")
    store_audit(lake, result)
    assert stored_audits(lake, CRITEO) == [result]
    assert (lake.root / "criteo/audits/exposures/2017-01-02.json").is_file()
