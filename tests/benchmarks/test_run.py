"""make bench: its arguments, and the page that it writes of what it has measured."""

import json
import re
import sys

import pytest
import torch

from benchmarks import model_costs, run
from benchmarks.measure import Cost, Spread
from benchmarks.model_costs import _cell
from benchmarks.section import Section, seconds, store, stored, times
from schemas.errors import UserError


def section(title: str, **curves) -> Section:
    return Section(title, "How.", "make bench", "a machine", ["rows", "time"], [["1,000", "2.0 s"]], curves)


@pytest.fixture
def used() -> list[list[int]]:
    """The cores of each section that was measured."""
    return []


@pytest.fixture
def bench(tmp_path, monkeypatch, used):
    """Runs it with stand-ins for the measuring; the page, afterwards."""
    for module, name in ((run.journey_build, "measure"), (run.one_more_day, "measure"), (run.large_day, "measure")):
        monkeypatch.setattr(module, name, lambda kept, command, *_, name=module.__name__: section(command))
    for name in ("training", "scoring", "gpu"):
        monkeypatch.setattr(run.model_costs, name, lambda command, _: section(command))
    monkeypatch.setattr(run.torch.cuda, "is_available", lambda: False)
    # The affinity is the whole process's.
    monkeypatch.setattr(run.os, "sched_setaffinity", lambda _, cores: used.append(cores))
    monkeypatch.setattr(run.os, "sched_getaffinity", lambda _: {7, 3, 5, 1})

    def do(*arguments: str) -> str:
        page = tmp_path / "performance.md"
        monkeypatch.setattr(sys, "argv", ["run", "--kept", str(tmp_path / "kept"), "--document", str(page), *arguments])
        run.main()
        return page.read_text()

    return do


def test_two_cores_measure_all_but_what_a_gpu_does(bench, used):
    bench("--only", "scoring gpu day")
    assert used == [[1, 3], [1, 3, 5, 7], [1, 3]]


def test_a_section_measured_alone_joins_those_that_were_measured_before(bench):
    first = bench("--only", "day", "--sizes", "0.1", "--repeats", "1")
    assert '## make bench ONLY=day SIZES="0.1" REPEATS=1' in first
    assert re.search(r"on a machine; \d{4}-\d\d-\d\d, code [0-9a-f]{12}, .*pyspark \d", first)
    assert "Not measured yet: journeys, training, scoring, large-day, gpu." in first
    second = bench("--only", "journeys")
    assert second.index("ONLY=journeys SIZES") < second.index("ONLY=day SIZES")
    assert "Not measured yet: gpu." in bench()  # there is none
    assert "Not measured yet" not in bench("--only", "gpu")  # measured elsewhere, it stays
    assert "ONLY=gpu" in bench()


def test_sections_of_one_run_name_that_run(bench):
    page = bench("--sizes", "1 4", "--repeats", "2")
    assert page.count('## make bench SIZES="1 4" REPEATS=2\n') == 5
    assert page.count("## make bench ONLY=") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "weather"], "ONLY=weather: choose from journeys, day"),
        (["--sizes", "many"], "SIZES='many'"),
        (["--sizes", "-1"], "SIZES='-1'"),
        (["--sizes", " "], "at least one"),
        (["--repeats", "0"], "REPEATS is at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(bench, arguments, says):
    with pytest.raises(UserError, match=says):
        bench(*arguments)


def test_the_picture_is_drawn_of_the_sections_that_have_curves(bench, tmp_path):
    assert ".svg" not in bench("--only", "day")
    curve = [[1e6, 10.0, 2**30], [4e6, 31.0, 2**31]]
    store(tmp_path / "performance.json", "journeys", section("Journeys", ours=curve))
    assert "![time and memory by rows](performance.svg)" in bench("--only", "day")
    drawn = (tmp_path / "performance.svg").read_text()
    assert "million rows" in drawn
    assert "ours" in drawn


def test_a_section_comes_back_as_it_was_stored(tmp_path):
    file, day, night = tmp_path / "sections.json", section("Day", ours=[[1.0, 2.0, 3.0]]), section("Night")
    assert stored(file, "day") is None
    store(file, "day", day)
    store(file, "night", night)
    assert (stored(file, "day"), stored(file, "night")) == (day, night)
    kept = json.loads(file.read_text())
    del kept["day"]["made"]  # as sections of before have it
    file.write_text(json.dumps(kept))
    assert stored(file, "day").made == ""
    assert "`make bench`, on a machine" in stored(file, "day").markdown()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_is_not_measured_where_there_is_none():
    with pytest.raises(UserError, match="ONLY=gpu needs a machine with a GPU"):
        model_costs.gpu("make bench", 1)


def test_what_scoring_has_reached_is_told_beside_its_limit(monkeypatch):
    def measured(words, _):
        users = int(words[words.index("--users") + 1])
        return Cost(2.0, 3.0, 2**30, 1, figures={"users": users, "users_per_second": users // 100})

    monkeypatch.setattr(model_costs, "measured", measured)
    told = model_costs.scoring("make bench", 1)
    assert "Measured: 100 with 10,000 users, 1,000 with 100,000 users, 10,000 with 1,000,000 users, " in told.text
    assert [row[2] for row in told.rows[:3]] == ["100", "1,000", "10,000"]


def test_cells_show_the_median_and_the_ends():
    assert seconds(Spread(2.04, 1, 3)) == "2.0 s [1.0, 3.0]"
    assert times(Spread(2.04, 1, 3)) == "2.04 [1.00, 3.00]"
    assert (seconds(Spread.of([2.04])), times(Spread.of([2.04]))) == ("2.0 s", "2.04")  # one round has no spread
    assert _cell([1000, 3000, 2000]) == "2,000 [1,000, 3,000]"
    assert _cell([0.5, 0.5]) == "0.5"
    assert _cell(["bf16", "bf16"]) == "bf16"
    assert _cell([None]) == ""
