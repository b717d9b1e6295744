"""The filter of the informed strategy: calibrated, and more accurate the more it has observed."""

import numpy as np
import pytest

from simulation.informed import Informed
from simulation.simulator import PAST_ROUNDS, Simulator


@pytest.mark.slow(0.5)
def test_the_filter_is_calibrated_and_learns_from_the_clicks():
    simulator = Simulator(1500, 3)
    errors, variances = [], []
    informed = Informed(simulator)
    for number, _ in enumerate(simulator.reset()):
        if number in (0, PAST_ROUNDS - 1):
            reward_UA, cost_UA = informed.expect()
            truth_UA = simulator.reward()
            assert reward_UA.mean() == pytest.approx(truth_UA.mean(), rel=0.06)
            assert cost_UA.mean() == pytest.approx(simulator.cost_nano().mean(), rel=0.04)
            errors.append(np.mean((reward_UA - truth_UA) ** 2))
            variances.append(truth_UA.var())
    assert errors[1] < 0.8 * errors[0]
    assert errors[0] <= 1.05 * variances[0]
