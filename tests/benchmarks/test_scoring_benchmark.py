"""The figures that benchmarks.scoring prints."""

import json
import sys

import pytest

from benchmarks import scoring
from benchmarks.inputs import made_up_journeys


@pytest.mark.slow(30)
def test_the_last_line_is_the_figures(monkeypatch, capsys):
    monkeypatch.setattr(scoring, "use_two_cores", lambda: None)  # it would restrict the process of the tests
    monkeypatch.setattr(made_up_journeys, "_LABELS", 400)  # the trees are fitted on random numbers in any case
    monkeypatch.setattr(sys, "argv", ["scoring", "--users", "100", "--again"])
    scoring.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["users"] == 100
    assert figures["users_per_second"] == round(100 / figures["seconds"])
    assert figures["processor_seconds"] > 0.5
    assert 100 < figures["peak_bytes"] / 2**20 < 2_000
