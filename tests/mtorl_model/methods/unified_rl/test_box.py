"""The box: penalty and trust against closed forms, and exploration against its propensities."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import kstest

from mtorl_model.methods.unified_rl.box import Box

BOX = Box(half_width=0.15, penalty_scale=0.3)


def test_inside_the_box_neither_penalty_nor_gradient():
    action_XD = torch.tensor([[0.14, -0.149], [0.0, 0.1]], requires_grad=True)
    penalty_X = BOX.penalty(action_XD, torch.zeros(2, 2))
    penalty_X.sum().backward()
    assert penalty_X.tolist() == [0.0, 0.0]
    assert action_XD.grad.abs().max() == 0.0
    assert BOX.trust(action_XD, torch.zeros(2, 2)).tolist() == [1.0, 1.0]


def test_outside_the_box_the_penalty_is_exponential_and_continuous():
    excess = torch.tensor([0.0, 1e-6, 0.09, 0.18])  # a width of .3 times beta .3 is .09
    action_X1 = (0.15 + excess)[:, None]
    penalty_X = BOX.penalty(action_X1, torch.zeros(4, 1))
    assert penalty_X.numpy() == pytest.approx([0.0, 1e-6 / 0.09, np.e - 1, np.e**2 - 1], abs=1e-6)
    trust_X = BOX.trust(action_X1, torch.zeros(4, 1))
    assert trust_X.numpy() == pytest.approx([1.0, 1.0, np.exp(-1), np.exp(-2)], abs=1e-4)


def test_penalties_of_dimensions_add_up():
    single = BOX.penalty(torch.tensor([[0.3, 0.0]]), torch.zeros(1, 2))
    double = BOX.penalty(torch.tensor([[0.3, -0.4]]), torch.zeros(1, 2))
    assert double.item() == pytest.approx(single.item() + BOX.penalty(torch.tensor([[0.4]]), torch.zeros(1, 1)).item())


@pytest.mark.parametrize(("best", "eta", "expected"), [(0.9, 0.05, 0.229), (0.9, 1.2, 0.150), (0.1, 1.2, 0.1)])
def test_the_action_that_trades_value_for_the_penalty(best, eta, expected):
    """Q = -(a - best)^2 less the penalty: at its maximum 2 (best - a) = eta / w exp((a - bound) / w), w = .09."""

    def loss(action: float) -> float:
        penalty = BOX.penalty(torch.tensor([[action]], dtype=torch.float64), torch.zeros(1, 1)).item()
        return (action - best) ** 2 + eta * penalty

    action = minimize_scalar(loss, bounds=(-1, 1), method="bounded", options={"xatol": 1e-9}).x
    assert action == pytest.approx(expected, abs=5e-4)
    if eta == 0.05:
        assert 2 * (best - action) == pytest.approx(eta / 0.09 * np.exp((action - 0.15) / 0.09), rel=1e-3)


def test_progressive_training_moves_a_box_bound_a_round():
    """The best action is .5 away: five rounds around the previous policy reach it, one round the first bound."""
    policy, policies = 0.0, []
    for _ in range(5):

        def loss(action: float, centre: float = policy) -> float:
            action_11, centre_11 = (torch.tensor([[x]], dtype=torch.float64) for x in (action, centre))
            return (action - 0.5) ** 2 + 1.2 * BOX.penalty(action_11, centre_11).item()

        policy = minimize_scalar(loss, bounds=(-1, 1), method="bounded", options={"xatol": 1e-10}).x
        policies.append(policy)
    assert policies == pytest.approx([0.15, 0.30, 0.45, 0.50, 0.50], abs=1e-6)


def test_explored_actions_are_uniform_in_the_box_with_their_density():
    rng = np.random.default_rng(3)
    centre_ND = np.tile([0.3, -0.95], (4_000, 1))  # the second box is cut at -1
    action_ND = BOX.explored(centre_ND, rng)
    low, high = np.array([0.15, -1.0]), np.array([0.45, -0.8])
    assert ((action_ND >= low) & (action_ND <= high)).all()
    for dimension in range(2):
        scaled_N = (action_ND[:, dimension] - low[dimension]) / (high[dimension] - low[dimension])
        assert kstest(scaled_N, "uniform").pvalue > 0.01
    assert np.allclose(BOX.density(centre_ND), 1.0 / (0.3 * 0.2))
