"""make bench: its arguments, and the page that it writes from the measured sections."""

import re
import sys

import pytest

from benchmarks import run
from benchmarks.sections.section import Section, store
from schemas.errors import UserError


def section(title: str, **curves) -> Section:
    return Section(title, "How.", "make bench", "a machine", ["rows", "time"], [["1,000", "2.0 s"]], curves)


@pytest.fixture
def used_cores() -> list[list[int]]:
    """The cores of each section that was measured."""
    return []


@pytest.fixture
def bench(tmp_path, monkeypatch, used_cores):
    """Runs make bench without measuring anything; returns the text of the page."""
    for module in (run.journey_build, run.scale, run.one_more_day, run.long_history, run.large_day):
        monkeypatch.setattr(module, "measure_section", lambda cache, command, *_: section(command))
    for name in ("measure_training", "measure_scoring", "measure_gpu"):
        monkeypatch.setattr(run.model_costs, name, lambda command, _: section(command))
    monkeypatch.setattr(run.torch.cuda, "is_available", lambda: False)
    # The affinity belongs to the whole process.
    monkeypatch.setattr(run.os, "sched_setaffinity", lambda _, cores: used_cores.append(cores))
    monkeypatch.setattr(run.os, "sched_getaffinity", lambda _: {7, 3, 5, 1})

    def make(*arguments: str) -> str:
        page = tmp_path / "performance.md"
        monkeypatch.setattr(sys, "argv", ["run", "--kept", str(tmp_path / "kept"), "--document", str(page), *arguments])
        run.main()
        return page.read_text()

    return make


def test_only_the_gpu_section_uses_more_than_two_cores(bench, used_cores):
    bench("--only", "scoring gpu day")
    assert used_cores == [[1, 3], [1, 3, 5, 7], [1, 3]]


def test_a_section_measured_alone_joins_the_earlier_ones(bench):
    first = bench("--only", "day", "--sizes", "0.1", "--repeats", "1")
    assert '## make bench ONLY=day SIZES="0.1" REPEATS=1' in first
    assert re.search(r"on a machine; \d{4}-\d\d-\d\d, code [0-9a-f]{12}, .*pyspark \d", first)
    assert "Not measured yet: journeys, scale, history, training, scoring, large-day, gpu." in first
    second = bench("--only", "journeys")
    assert second.index("ONLY=journeys SIZES") < second.index("ONLY=day SIZES")
    assert "Not measured yet: gpu." in bench()  # without a GPU it cannot be
    assert "Not measured yet" not in bench("--only", "gpu")  # measured on another machine, it stays
    assert "ONLY=gpu" in bench()


def test_sections_of_one_run_have_the_command_of_that_run(bench):
    page = bench("--sizes", "1 4", "--repeats", "2")
    assert page.count('## make bench SIZES="1 4" REPEATS=2\n') == 7
    assert page.count("## make bench ONLY=") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "weather"], "ONLY=weather: choose from journeys, scale, day"),
        (["--sizes", "many"], "SIZES='many'"),
        (["--sizes", "-1"], "SIZES='-1'"),
        (["--sizes", " "], "at least one"),
        (["--repeats", "0"], "REPEATS is at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(bench, arguments, message):
    with pytest.raises(UserError, match=message):
        bench(*arguments)


@pytest.mark.slow
def test_the_picture_shows_the_sections_that_have_curves(bench, tmp_path):
    assert ".svg" not in bench("--only", "day")
    curve = [[1e6, 10.0, 2**30], [4e6, 31.0, 2**31]]
    store(tmp_path / "performance.json", "journeys", section("Journeys", ours=curve))
    assert "![time and memory by rows](performance.svg)" in bench("--only", "day")
    picture = (tmp_path / "performance.svg").read_text()
    assert "million rows" in picture
    assert "ours" in picture
