"""The counting of plain_words.py on small texts, and the limits that this project's own words keep."""

import textwrap
from pathlib import Path

import pytest
from plain_words import OWN, ROOT, Figures, idioms, is_vague, measure

# Vague names per 1,000 bindings and idioms per 1,000 words, of the whole project. These only go down: the best of the
# codebases that plain_words.py is calibrated on have 0.0 names and 0.3 idioms. What breaks a limit is listed by
# `python tests/plain_words.py --list`.
MOST = {"name": 1.5, "comment": 0.4, "message": 0.8, "page": 0.1}


def measured(folder: Path, source: str, name: str = "module.py") -> Figures:
    (folder / name).write_text(textwrap.dedent(source))
    return measure(folder)


@pytest.mark.parametrize(
    "name", ["found", "found_N", "told_BLH", "other2", "_held", "of_day", "of_seen_U", "at", "_BOTH", "tmp", "thing"]
)
def test_a_name_that_fits_any_value_is_vague(name):
    assert is_vague(name)


@pytest.mark.parametrize(
    "name",
    ["index", "path", "rows", "key", "x_BLD", "found_rows", "offset", "at_ms", "atlas", "row_N", "h1", "N", "out", "_"],
)
def test_a_standard_term_is_not_vague(name):
    assert not is_vague(name)


def test_a_verb_is_vague_as_a_variable_but_not_as_a_function(tmp_path):
    figures = measured(tmp_path, "def take(): pass\ntake = 1\n")
    assert [(hit.line, hit.text) for hit in figures.hits] == [(2, "take")]


def test_every_kind_of_binding_counts_once(tmp_path):
    source = """
        import os
        one = 1
        self.told: int = 2
        for held in rows:
            kept += 1
        with open(path) as said:
            pass
        if (asked := read()):
            pass
        [some for some in rows]
        def found(at, *both, there=None, **here): return lambda other: other
        try: pass
        except OSError as gone: pass
        """
    figures = measured(tmp_path, source)
    names = sorted(hit.text for hit in figures.hits)
    expected = "asked at both found gone held here kept one other said some there told"
    assert names == expected.split()
    assert figures.bindings == len(names)
    assert figures.rate("name") == 1000


def test_self_dunders_enum_members_and_operands_are_no_vague_names(tmp_path):
    source = """
        __all__ = []
        class Known(Enum):
            AT = "at"
            def __eq__(self, other): return True
            def compare(self, other): return True
        """
    figures = measured(tmp_path, source)
    assert [(hit.line, hit.text) for hit in figures.hits] == [(6, "other")]
    assert figures.bindings == 2  # compare and its other


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("A log that ended longer ago is none that goes on.", "is none"),
        ("The manifest lies there.", "lies"),
        ("The days stand side by side.", "side by side"),
        ("What is over within some seconds goes untold.", "What"),
        ("Whoever reads it waits.", "Whoever"),
        ("As many as fit. Of U users the first.", "Of"),
        ("The columns are not the log's.", "log's"),
        ("So many users are in the making.", "in the making"),
        ("The rows are read, and so are the columns.", "and so are"),
        ("It has a line a day, for some seconds.", "a line a day"),
        ("None where there is no manifest.", "None where"),
        ("The partition that it is of.", "is of"),
    ],
)
def test_an_idiom_is_a_hit(text, phrase):
    assert phrase in [words for _, words in idioms(text)]


@pytest.mark.parametrize(
    "text",
    [
        "B stands for the batch. The value lies in [0, 1].",
        "What does the caller expect?",
        "Rows without a day go to the partition undated.",
        "Loss on the held-out users; there is no padding. It's the user's first step.",
        "Returns None if the file does not exist, and `what lies there` otherwise.",
    ],
)
def test_plain_english_is_no_hit(text):
    assert list(idioms(text)) == []


def test_words_that_two_patterns_match_count_once():
    assert len(list(idioms("What lies there."))) == 2  # "What" and "lies"; "what lies" would count both again


def test_comments_docstrings_and_messages_are_told_apart_by_line(tmp_path):
    source = '''\
        # Copyright: whoever copies this file keeps these lines.

        """Reads rows.

        Nobody waits.
        """
        # The log is
        # side by side.
        rows = 1  # of its own
        short = "nobody"
        raise ValueError(f"the file {rows} is held by nobody")
        x = 1  # noqa: side by side
        '''
    figures = measured(tmp_path, source)
    hits = [(hit.line, hit.kind, hit.text) for hit in sorted(figures.hits)]
    assert hits == [
        (5, "comment", "Nobody"),
        (8, "comment", "side by side"),
        (9, "comment", "of its own"),
        (11, "message", "held"),
        (11, "message", "nobody"),
    ]
    assert figures.words == {"comment": 13, "message": 6, "page": 0}


def test_pages_leave_code_and_tags_out(tmp_path):
    page = "# Title\n\n```\nnobody\n```\n\nIt is <b>held</b> there.\n"
    figures = measured(tmp_path, page, "page.md")
    assert [(hit.line, hit.kind, hit.text) for hit in figures.hits] == [(7, "page", "held")]
    assert figures.words["page"] == 5


def test_sizes_leave_inner_tests_and_init_files_out(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_module.py").write_text("found = 1\n" * 50)
    (tmp_path / "__init__.py").write_text("")
    figures = measured(tmp_path, "@property\ndef f():\n    return 1\n\n\ndef g(): pass\n")
    assert sorted(figures.function_lines) == [1, 3]
    assert max(figures.module_lines) == 6
    assert list(figures.folders.values()) == [1]
    assert not figures.hits


@pytest.mark.slow
def test_our_own_words_keep_the_limits():
    total = Figures()
    for folder in (*(ROOT / name for name in OWN), ROOT / "README.md"):
        total.add(measure(folder))
    rates = {kind: round(total.rate(kind), 1) for kind in MOST}
    assert all(rates[kind] <= most for kind, most in MOST.items()), f"{rates}; at most {MOST}"
