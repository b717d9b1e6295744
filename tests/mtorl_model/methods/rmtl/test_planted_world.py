"""RMTL's weights must win if the rest of the session matters for the loss; see planted_sessions.py.

Each difference is paired over users and seeds: RMTL against the same weights made constant, and in random order.
"""

import copy

import numpy as np
import pytest
import torch
from planted_sessions import OneSlope, importance, planted_sessions

from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.methods.rmtl.config import ActorTrainConfig, CriticConfig
from mtorl_model.methods.rmtl.stages import loss_weights, predict, train_actor, train_critics

CRITIC = CriticConfig(
    critic_bottom=(16,), critic_tower=(8,), critic_dropout=0.0, action=4, critic_learning_rate=3e-3, critic_epochs=6
)
TRAIN = ActorTrainConfig(batch_size=256, learning_rate=0.03, max_epochs=3, patience=3, device="cpu")
SEEDS = range(3)


@pytest.fixture(scope="module")
def losses() -> dict[str, np.ndarray]:
    """By weighting, the mean cross-entropies of unseen users' exposures over the seeds."""
    test = planted_sessions(500, seed=99)
    sums: dict[str, np.ndarray] = {}
    for seed in SEEDS:
        train, valid = planted_sessions(500, seed=2 * seed), planted_sessions(100, seed=2 * seed + 1)
        torch.manual_seed(seed)
        start = OneSlope()
        train_actor(start, train, valid, TRAIN, seed=seed)
        critics, _ = train_critics(start, train, CRITIC, batch_size=256, seed=seed, device="cpu")
        for weighting in ("critics", "constant", "permuted", "return"):
            actor, config = copy.deepcopy(start), CriticConfig(weighting=weighting)
            train_actor(actor, train, valid, TRAIN, seed=seed, weight_of=loss_weights(critics, config, seed=seed))
            p_N = np.clip(predict(actor, test)[:, 0], 1e-4, 1 - 1e-4)
            label_N = test.labels_NT[:, 0]
            loss_N = -label_N * np.log(p_N) - (1 - label_N) * np.log(1 - p_N)
            sums[weighting] = sums.get(weighting, 0.0) + loss_N / len(SEEDS)
    weight_N = importance(test, CRITIC.gamma)
    users = UserBootstrap(test.user_N)
    return {
        name: np.divide(*users.sums(np.stack([weight_N * loss_N, weight_N], axis=1)).T)
        for name, loss_N in sums.items()
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("control", ["constant", "permuted"])
def test_rmtl_wins_in_a_world_in_which_the_rest_of_the_session_matters(
    losses: dict[str, np.ndarray], control: str
) -> None:
    difference = estimate(losses["critics"] - losses[control])
    assert difference["high"] is not None
    assert difference["high"] < -0.005


@pytest.mark.slow
def test_without_order_the_weights_learn_nothing_that_lasts(losses: dict[str, np.ndarray]) -> None:
    """The controls stay near log 2, the loss of the constant prediction."""
    for control in ("constant", "permuted"):
        assert losses[control][0] == pytest.approx(np.log(2), abs=0.03)
