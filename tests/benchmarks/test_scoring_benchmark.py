"""The figures that benchmarks.scoring prints."""

import json
import sys

import pytest
from small_champion import shrink_champions

from benchmarks import scoring


@pytest.mark.slow(30)
def test_the_last_line_is_the_figures(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "use_two_cores", lambda: None)  # it would restrict the process of the tests
    shrink_champions(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["scoring", "--users", "100", "--again"])
    scoring.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["users"] == 100
    assert figures["users_per_second"] == round(100 / figures["seconds"])
    assert figures["processor_seconds"] > 0.5
    assert 100 < figures["peak_bytes"] / 2**20 < 2_000
