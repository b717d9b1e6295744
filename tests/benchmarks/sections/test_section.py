"""A section: how it is stored, and its cells."""

import json

from benchmarks.measure import Spread
from benchmarks.sections.section import Section, seconds, store, stored, times


def section(title: str, **curves) -> Section:
    return Section(title, "How.", "make bench", "a machine", ["rows", "time"], [["1,000", "2.0 s"]], curves)


def test_a_stored_section_comes_back_unchanged(tmp_path):
    file, day, night = tmp_path / "sections.json", section("Day", ours=[[1.0, 2.0, 3.0]]), section("Night")
    assert stored(file, "day") is None
    store(file, "day", day)
    store(file, "night", night)
    assert (stored(file, "day"), stored(file, "night")) == (day, night)
    content = json.loads(file.read_text())
    del content["day"]["versions"]  # as in old files
    file.write_text(json.dumps(content))
    assert stored(file, "day").versions == ""
    assert "`make bench`, on a machine" in stored(file, "day").markdown()


def test_cells_show_the_median_and_the_range():
    assert seconds(Spread(2.04, 1, 3)) == "2.0 s [1.0, 3.0]"
    assert times(Spread(2.04, 1, 3)) == "2.04 [1.00, 3.00]"
    one_round = Spread.summarise([2.04])
    assert (seconds(one_round), times(one_round)) == ("2.0 s", "2.04")
