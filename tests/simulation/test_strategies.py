"""The informed strategy's filter: calibrated, and the better the more it has seen."""

import numpy as np
import pytest

from simulation.simulator import PAST_ROUNDS, Simulator
from simulation.strategies import Informed


def test_the_filter_is_calibrated_and_learns_from_what_was_shown():
    simulator = Simulator(1500, 3)
    errors, spreads = [], []
    informed = Informed(simulator)
    for number, _ in enumerate(simulator.reset()):
        if number in (0, PAST_ROUNDS - 1):
            reward_UA, cost_UA = informed.expect()
            truth_UA = simulator.reward()
            assert reward_UA.mean() == pytest.approx(truth_UA.mean(), rel=0.06)
            assert cost_UA.mean() == pytest.approx(simulator.cost_nano().mean(), rel=0.04)
            errors.append(np.mean((reward_UA - truth_UA) ** 2))
            spreads.append(truth_UA.var())
    assert errors[1] < 0.8 * errors[0]
    assert errors[0] <= 1.05 * spreads[0]
