"""The published protocol, on a small lake: how windows are drawn, what leaks, how it is counted."""

import numpy as np
import pytest
from sklearn.metrics import f1_score
from synthetic import write_lake

from mtorl_model.benchmark_published import Journeys, as_text, per_step_scores, run_published
from mtorl_model.config import LossConfig, ModelConfig, TrainConfig
from mtorl_model.encoding import Encoder
from mtorl_model.reading import read_tables
from schemas.dataset import get_dataset

KUAIRAND = get_dataset("kuairand")
N = 6


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    return write_lake(tmp_path_factory.mktemp("lake"), users=30)


@pytest.fixture(scope="module")
def journeys(lake) -> Journeys:
    return Journeys(lake[0], KUAIRAND, Encoder(lake[1], KUAIRAND, "binary"))


def test_every_step_of_every_user_is_there_once_and_in_order(lake, journeys):
    days = sorted(lake[0].table("sequences", "kuairand").glob("ds=*"))
    tables = list(read_tables(days, ["user_id", "exposure_id"]))
    shown = {x for t in tables for row in t.column("exposure_id").to_pylist() for x in row if x is not None}
    steps = journeys.steps
    assert sorted(steps["exposure_id"]) == sorted(shown)
    order = list(zip(steps["user_id"], steps["exposed_at_ms"], steps["exposure_id"], strict=True))
    assert order == sorted(order)


def test_a_drawn_window_is_a_run_of_one_users_steps(journeys):
    drawn = journeys.draw(500, N, np.random.default_rng(0))
    for window in drawn:
        real = window[window >= 0]
        assert (window[: N - len(real)] == -1).all()  # padding on the left
        assert (np.diff(real) == 1).all()
        users = journeys.steps["user_id"][real]
        assert len(set(users)) == 1
        assert len(real) == min(N, (journeys.steps["user_id"] == users[0]).sum())
    assert len({tuple(w) for w in drawn}) < 500  # with replacement


def test_windows_hold_their_steps_and_padding_holds_nothing(journeys):
    drawn = journeys.draw(50, N, np.random.default_rng(1))
    drawn[0] = [-1, -1, 0, 1, 2, 3]
    windows = journeys.windows(drawn)
    assert np.array_equal(windows.valid_NL, drawn >= 0)
    assert windows.action_NL[0].tolist() == [-1, -1, *journeys.steps["action_NL"][:4]]
    assert not windows.numeric_NLF[0, :2].any()
    assert np.array_equal(windows.numeric_NLF[0, 2:], journeys.steps["numeric_NLF"][:4])
    assert np.array_equal(windows.label_NL, (drawn >= 0) & (windows.action_NL >= 0))
    assert windows.profile_numeric_NF.shape == (50, journeys.steps["profile_numeric_NF"].shape[1])


def test_scores_are_means_over_positions():
    rng = np.random.default_rng(2)
    action, guess, label = rng.integers(0, 3, (40, 5)), rng.integers(0, 3, (40, 5)), rng.random((40, 5)) < 0.8
    label[:, 0] = False
    expected = np.mean([f1_score(action[label[:, t], t], guess[label[:, t], t], average="macro") for t in range(1, 5)])
    assert per_step_scores(action, guess, label)["f1_macro"] == pytest.approx(expected)


def test_it_says_how_much_it_leaks(lake):
    configs = (ModelConfig(hidden=16, steps=N), LossConfig(), TrainConfig(batch_size=64, max_epochs=2, device="cpu"))
    found = run_published(*lake[:1], KUAIRAND, lake[1], configs, windows=300)
    assert 0.5 < found["share_of_test_steps_also_in_training"] < 1
    assert found["paper"]["f1_macro"] == 0.6793
    assert "leaks" in as_text(found)
    assert as_text(found).count("paper:") == 3
