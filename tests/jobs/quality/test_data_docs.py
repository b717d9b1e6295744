"""The static site over the audit results."""

import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jobs import data_docs
from jobs.quality.audit_results import FAILED, HOLDS, Audit, Outcome, store_audit, stored_audits
from jobs.reports import data_docs as pages
from jobs.reports.data_docs import INDEX, audit_page, index_page, publish_pages
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.errors import UserError

CRITEO = get_dataset("criteo")
EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "hr", "img"}


@pytest.fixture
def lake(tmp_path):
    return Lake(tmp_path / "lake")


def audit(table: str = "exposures", ds: str = "2017-01-02", severity: str | None = None, text: str = "x") -> Audit:
    """Two rules, of which the second failed at that severity."""
    holds = Outcome("expect_a(x)", "partition", "A holds.", "it matters", "critical", HOLDS, "8")
    failed = Outcome(f"expect_b({text})", "rows", f"B of {text}.", f"why {text}", severity or "critical",
                     FAILED if severity else HOLDS, "", 2 if severity else 0, (text,) if severity else ())  # fmt: skip
    return Audit(table, "criteo", ds, 1_994, "f" * 64, (f"note {text}",), (holds, failed))


class Page(HTMLParser):
    """Tags balance; text, links and what the page would load are gathered."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_a_page_says_what_failed_how_often_and_why():
    text = Page(audit_page(audit(severity="critical", text="cost"))).text
    assert "Failed: no job builds on it 1,994 rows, 2 rules: 1 failed as critical, 1 hold." in text
    assert "B of cost. critical 2 of 1,994 rows, e.g. cost (0.10%) Why it matters: why cost. expect_b(cost)" in text
    assert text.index("B of cost.") < text.index("A holds.")


@pytest.mark.parametrize("severity", [None, "warning", "critical"])
def test_pages_are_whole_escape_everything_and_load_nothing(severity):
    evil = audit(severity=severity, text=EVIL)
    for html in (audit_page(evil), index_page(CRITEO, [evil])):
        page = Page(html)
        assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
        assert "alert(1)</" not in html
        assert not re.search(r"https?://|@import|url\(", html)
        assert all(not link.startswith(("http", "//", "data:", "javascript:")) for link in page.links)
    assert EVIL in Page(audit_page(evil)).text


def test_the_index_has_the_newest_day_first_and_links_to_pages_that_exist(lake):
    audits = [
        audit("exposures", "2017-01-02"),
        audit("exposures", "2017-01-10", "critical"),
        audit("sequences", "2017-01-10", "warning"),
        audit("quarantine", UNDATED),
    ]
    for each in audits:
        store_audit(lake, each)
    index = publish_pages(lake, CRITEO, audits)
    page = Page(index.read_text())
    assert "1 failed, 1 with warnings" in page.text
    assert re.findall(r"2017-01-\d\d|undated", page.text) == ["2017-01-10", "2017-01-02", "undated"]
    assert "Day exposures quarantine sequences 2017-01-10 fail 1,994 rows, 1 failed warn" in page.text
    assert len(page.links) == 4
    for link in page.links:
        assert (index.parent / link).is_file()
        assert (index.parent / link).parent.joinpath("../index.html").resolve() == index.resolve()


def test_only_touched_pages_and_the_index_are_rewritten(lake):
    first, second = audit(ds="2017-01-02"), audit(ds="2017-01-03")
    for each in (first, second):
        store_audit(lake, each)
    index = publish_pages(lake, CRITEO, [first, second])
    page = index.parent / "exposures/2017-01-02.html"
    page.write_text("untouched")
    failed = audit(ds="2017-01-03", severity="critical")
    store_audit(lake, failed)
    publish_pages(lake, CRITEO, [failed])
    assert page.read_text() == "untouched"
    assert "1 failed" in index.read_text()


def test_of_two_audits_that_end_together_the_index_knows_both(lake, monkeypatch):
    """The second audit is stored and asks for the index while the first one's index is being made."""
    first, second = audit(ds="2017-01-02"), audit(ds="2017-01-03")
    other = threading.Thread(target=publish_pages, args=(lake, CRITEO, [second]))
    made = index_page

    def interrupted(dataset, audits):
        if threading.current_thread() is not other:
            store_audit(lake, second)
            other.start()
            other.join(timeout=0.5)  # it waits for the lock
        return made(dataset, audits)

    monkeypatch.setattr(pages, "index_page", interrupted)
    store_audit(lake, first)
    index = publish_pages(lake, CRITEO, [first])
    other.join()
    assert {"exposures/2017-01-02.html", "exposures/2017-01-03.html"} == set(Page(index.read_text()).links)


def test_the_site_is_rebuilt_from_the_results_alone(lake, monkeypatch, capsys):
    for day in ("2017-01-02", "2017-01-03"):
        store_audit(lake, audit(ds=day, severity="warning"))
    publish_pages(lake, CRITEO, stored_audits(lake, CRITEO))
    docs = lake.docs("criteo")
    before = {p.relative_to(docs): p.read_bytes() for p in docs.rglob("*.html")}
    shutil.rmtree(docs)
    monkeypatch.setattr(sys, "argv", ["data_docs", "--dataset", "criteo", "--lake", str(lake.root)])
    data_docs.main()
    assert {p.relative_to(docs): p.read_bytes() for p in docs.rglob("*.html")} == before
    assert len(before) == 3
    assert capsys.readouterr().out.strip() == str(docs.resolve() / INDEX)


def test_without_results_there_is_one_clear_line(lake, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["data_docs", "--dataset", "criteo", "--lake", str(lake.root)])
    with pytest.raises(UserError, match="no audits of criteo"):
        data_docs.main()


def test_a_stored_result_comes_back_as_it_was(lake):
    kept = audit(severity="warning", text=EVIL + " é")
    store_audit(lake, kept)
    assert stored_audits(lake, CRITEO) == [kept]
    assert (lake.root / "audits/dataset=criteo/exposures/2017-01-02.json").is_file()


@pytest.mark.browser
@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="no /usr/bin/chromium")
def test_the_site_opens_in_a_browser_without_a_network(lake, tmp_path):
    failing = audit(severity="critical", text=EVIL)
    store_audit(lake, failing)
    index = publish_pages(lake, CRITEO, [failing])
    for page in (index, index.parent / "exposures/2017-01-02.html"):
        result = subprocess.run(
            ["/usr/bin/chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser",
             "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "1,994 rows" in Page(result.stdout).text
