"""NCIS of a fusion policy on explored actions whose true rewards are known."""

import numpy as np
import pyarrow as pa
import pytest
from candidate_rows import store_of

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.evaluation import fusion_value
from mtorl_model.evaluation.fusion_value import FEWEST_EFFECTIVE, KERNEL_SHARE, Explored, ncis, value_report
from mtorl_model.methods.method import FusedScores, Prediction
from schemas.dataset import get_dataset

DIMENSIONS = 3
BEST = np.array([0.1, -0.05, 0.0])


def explored(rows: int = 60_000, seed: int = 0) -> tuple[Explored, np.ndarray]:
    """Rewards of actions uniform in boxes around 0; and the half width of each row's box.

    Every second request has a wide box, in which a density is lower, and a reward that is higher by 1.
    """
    rng = np.random.default_rng(seed)
    is_wide_K = np.arange(rows) % 2 == 1
    half_width_K = np.where(is_wide_K, 0.3, 0.15)
    action_KD = rng.uniform(-1, 1, (rows, DIMENSIONS)) * half_width_K[:, None]
    reward_K = _reward(action_KD) + is_wide_K + rng.normal(0, 0.1, rows)
    propensity_K = 1.0 / (2 * half_width_K) ** DIMENSIONS
    user_K = rng.integers(0, 3_000, rows)
    return Explored(user_K, action_KD, half_width_K, propensity_K, reward_K - reward_K.mean()), half_width_K


def _reward(action_KD: np.ndarray) -> np.ndarray:
    return 1.0 - 5.0 * np.square(action_KD - BEST).sum(axis=1)


def _mean_reward(centre_D: np.ndarray, half_width_K: np.ndarray) -> float:
    """The mean reward of actions that are uniform in boxes of these half widths around the centre."""
    return float(np.mean(1.0 - 5.0 * (np.square(centre_D - BEST).sum() + DIMENSIONS * half_width_K**2 / 3)))


@pytest.mark.parametrize("target", [[0.05, 0.0, 0.0], [-0.05, 0.05, 0.02]])
def test_the_estimate_is_the_true_difference_to_the_explored_actions(target):
    log, half_width_K = explored()
    target_D = np.array(target)
    report = ncis(log, np.tile(target_D, (len(half_width_K), 1)))
    assert report["identified"]
    true = _mean_reward(target_D, KERNEL_SHARE * half_width_K) - _mean_reward(np.zeros(DIMENSIONS), half_width_K)
    difference = report["minus_explored"]
    assert difference["low"] < true < difference["high"]
    assert difference["high"] - difference["low"] < 0.05
    assert report["effective"] == pytest.approx(len(half_width_K) * KERNEL_SHARE**DIMENSIONS, rel=0.05)


def test_a_policy_far_from_the_explored_actions_has_no_value():
    log, half_width_K = explored()
    report = ncis(log, np.full((len(half_width_K), DIMENSIONS), 0.5))
    assert not report["identified"]
    assert report["minus_explored"] is None
    assert report["why"].startswith(
        "0 effective ones of the 60,000 explored actions are near those of the policy; 200 are"
    )


class ByRow:
    """A method of fusion whose powers name the row, if each row is a separate request."""

    def predict(self, store: CandidateStore) -> Prediction:
        assert len(np.unique(store.session_N)) == len(store)
        power_NI = 1.0 + np.tile(store.numeric_NF[:, :1].astype(np.float64), (1, 2))
        bias_NI = np.full_like(power_NI, 0.05)
        return FusedScores(power_NI[:, 0], power_NI, power_NI, bias_NI, power_NI, bias_NI).prediction


def test_each_logged_action_is_compared_with_the_policys_at_its_request(monkeypatch):
    rows = 12
    numbers_NF = np.arange(rows)[:, None] / 100.0
    store = store_of(np.arange(rows) // 4, np.zeros((rows, 1)), numbers_NF, np.zeros((rows, 2)), (2,))
    logged = {
        "request_id": [8, 4, 9, 99], "power_click": [1.01] * 4, "power_conversion": [1.0] * 4,
        "bias_click": [0.05] * 4, "bias_conversion": [0.05] * 4, "half_width": [0.15] * 4, "propensity": [7.0] * 4,
        "reward_consumption": [1.0, 2.0, 4.0, 9.0], "reward_others": [0.0] * 4, "day": ["1", "1", "2", "2"],
    }  # fmt: skip
    compared = []
    monkeypatch.setattr(fusion_value, "_logged", lambda *_: pa.table(logged))
    monkeypatch.setattr(fusion_value, "ncis", lambda log, target_KD: compared.append((log, target_KD)))
    value_report(None, get_dataset("criteo"), ["1", "2"], ByRow(), store)
    ((log, target_KD),) = compared
    assert target_KD == pytest.approx(np.array([[0.08, 0.08, 0, 0], [0.04, 0.04, 0, 0], [0.09, 0.09, 0, 0]]))
    assert log.action_KD == pytest.approx(np.tile([0.01, 0, 0, 0], (3, 1)))
    assert log.user_K.tolist() == [2, 1, 2]
    assert log.reward_K.tolist() == [-0.5, 0.5, 0.0]  # minus the mean of the day
    monkeypatch.setattr(fusion_value, "_logged", lambda *_: pa.table(logged).slice(3))
    report = value_report(None, get_dataset("criteo"), ["1", "2"], ByRow(), store)
    assert report["why"] == "no explored action of these users is logged with its propensity"


def test_too_few_actions_near_the_policy_give_no_value():
    for rows, is_enough in ((FEWEST_EFFECTIVE * 4, False), (FEWEST_EFFECTIVE * 16, True)):
        log, half_width_K = explored(rows)
        assert ncis(log, np.zeros((rows, DIMENSIONS)))["identified"] is is_enough, len(half_width_K)
