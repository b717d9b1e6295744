"""RMTL's weights must win if the rest of the session matters for the loss."""

import json
import sys

import numpy as np
import pytest

from jobs.generator.planted_sessions import LENGTH, draw_planted_sessions
from simulation import session_weights
from simulation.session_weights import CONTROLS, RMTL, as_text, measure, summarise


def test_sessions_have_one_exposure_or_all_and_opposite_slopes():
    sessions = draw_planted_sessions(2000, seed=0)
    lengths, counts = np.unique(np.bincount(sessions.session_N), return_counts=True)
    assert dict(zip(lengths.tolist(), counts.tolist(), strict=True)) == {1: 2000 * LENGTH, LENGTH: 2000}
    is_long_N = sessions.place_N > 0
    assert is_long_N.mean() == 0.5
    for chosen_N, is_positive in ((is_long_N, True), (~is_long_N, False)):
        correlation = np.corrcoef(sessions.x_N[chosen_N], sessions.label_N[chosen_N])[0, 1]
        assert abs(correlation) > 0.5
        assert (correlation > 0) == is_positive
    redrawn = draw_planted_sessions(2000, seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(sessions, redrawn, strict=True))


def test_importance_falls_to_log_2_at_the_end_of_a_session():
    sessions = draw_planted_sessions(20, seed=0)
    importance_N = sessions.importance(0.5)
    expected = {0: 1.0, LENGTH: 1.0, LENGTH - 1: 1.5, LENGTH - 2: 1.75}
    for place, value in expected.items():
        np.testing.assert_allclose(importance_N[sessions.place_N == place], value * np.log(2))


@pytest.fixture(scope="module")
def figures() -> dict[str, np.ndarray]:
    return measure(sessions=500, seeds=3)


@pytest.mark.slow
def test_rmtl_wins_in_a_world_in_which_the_rest_of_the_session_matters(figures):
    result = summarise(figures)
    assert result["wins"]
    assert all(result["minus"][control]["high"] < -0.005 for control in CONTROLS)


@pytest.mark.slow
def test_without_order_the_weights_learn_nothing_that_lasts(figures):
    """The controls stay near log 2, the loss of the constant prediction."""
    for control in CONTROLS:
        assert figures[control][0] == pytest.approx(np.log(2), abs=0.03)


def test_the_verdict_needs_both_intervals_below_0(monkeypatch, capsys, tmp_path):
    better = np.linspace(0.59, 0.61, 201)
    made_up = {RMTL: better, "constant": better + 0.01, "permuted": better[::-1] + 0.001, "return": better}
    assert not summarise(made_up)["wins"]
    assert "the implementation is wrong" in as_text(summarise(made_up))
    made_up["permuted"] = better + 0.02
    monkeypatch.setattr(session_weights, "measure", lambda sessions, seeds: made_up)
    monkeypatch.setattr(sys, "argv", ["session_weights", "--out", str(tmp_path / "weights.json")])
    session_weights.main()
    assert "RMTL beats both controls" in capsys.readouterr().out
    assert json.loads((tmp_path / "weights.json").read_text())["minus"]["permuted"]["value"] == pytest.approx(-0.02)
