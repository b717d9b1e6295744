"""No control character of a log value reaches a terminal, a page or a webhook."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dags import alerts
from jobs.reports.rendering import _environment, render
from schemas.errors import NothingToDo, UserError, exit_with_one_line
from schemas.printable import counted, printable_lines

HOSTILE = "a\x1b]0;owned\x07b\x00c\x9b2Jd\u202ee\u2028f\r\x7f"
ESCAPED = r"a\x1b]0;owned\x07b\x00c\x9b2Jd\u202ee\u2028f\r\x7f"


def is_harmful(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n"


@given(st.text(st.characters(exclude_categories=[]) | st.characters(categories=["Cc", "Cf", "Zl", "Zp"])))
def test_no_control_character_is_left_and_no_other_character_changes(text):
    escaped = printable_lines(text)
    assert not any(map(is_harmful, escaped))
    if text.isprintable():
        assert escaped == text


def test_escapes_are_readable():
    assert printable_lines(HOSTILE) == ESCAPED
    assert printable_lines("ä\tnaïve 😀\n") == "ä\tnaïve 😀\n"


@pytest.mark.parametrize(
    ("raised", "stream", "prefix"), [(UserError(HOSTILE), "err", "error: "), (NothingToDo(HOSTILE), "out", "nothing")]
)
def test_what_an_entry_point_prints(capsys, monkeypatch, raised, stream, prefix):
    monkeypatch.delenv("MTORL_DEBUG", raising=False)

    def main() -> None:
        print("value", HOSTILE)
        sys.stdout.writelines([HOSTILE])
        raise raised

    with pytest.raises(SystemExit):
        exit_with_one_line(main)
    captured = capsys.readouterr()
    assert captured.out.startswith(f"value {ESCAPED}\n{ESCAPED}")
    assert prefix in getattr(captured, stream)
    assert not any(map(is_harmful, captured.out + captured.err))


def test_an_alert(monkeypatch, tmp_path):
    monkeypatch.setenv("MTORL_ALERTS", str(tmp_path / "alerts.log"))
    monkeypatch.setenv("MTORL_WEBHOOK", "http://127.0.0.1:9/")
    posted: list[str] = []
    monkeypatch.setattr(alerts, "_post", lambda _, line: posted.append(line))
    alerts.send(f"FAILED {HOSTILE}\nFORGED line")
    (line,) = (tmp_path / "alerts.log").read_text().splitlines()
    assert posted == [line]
    assert "FORGED line" in line
    assert not any(map(is_harmful, line))


def test_a_page(monkeypatch):
    template = _environment().from_string("<p>{{ value }}</p>\n")
    monkeypatch.setattr("jobs.reports.rendering._environment", lambda: Templates(template))
    page = render("x.html", value=HOSTILE)
    assert page == f"<p>{ESCAPED}</p>"


class Templates:
    def __init__(self, template):
        self._template = template

    def get_template(self, _):
        return self._template


def test_one_thing_is_singular():
    assert [counted(n, "row") for n in (0, 1, 2, 2500)] == ["0 rows", "1 row", "2 rows", "2,500 rows"]
