"""Exploration as it is served: uniform in the box, logged with its propensity, the same when it is repeated."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import kstest

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.exploration import explore

BOX = Box(half_width=0.15, penalty_scale=0.3)
REQUESTS = 3_000
IDS = pa.array([f"request {n}" for n in range(REQUESTS)])
_STATES = np.random.default_rng(0).normal(size=(REQUESTS, 2))
# The second dimension is sometimes so near to -1 that its box is cut.
CENTRES = np.column_stack([0.2 * np.tanh(_STATES[:, 0]), -0.95 * np.abs(np.tanh(_STATES[:, 1]))])
LOG = explore(CENTRES, BOX, IDS, "2026-03-01")


def test_every_action_is_in_the_box_and_has_its_propensity():
    low_ND, high_ND = np.maximum(CENTRES - 0.15, -1.0), CENTRES + 0.15
    assert ((low_ND <= LOG.action_ND) & (LOG.action_ND <= high_ND)).all()
    assert pytest.approx(1.0 / (high_ND - low_ND).prod(axis=1)) == LOG.propensity_N
    assert BOX.contains(LOG.action_ND, CENTRES).all()


def test_actions_are_uniform_and_independent_by_dimension():
    low_ND = np.maximum(CENTRES - 0.15, -1.0)
    share_ND = (LOG.action_ND - low_ND) / (CENTRES + 0.15 - low_ND)
    for share_N in share_ND.T:
        assert kstest(share_N, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(share_ND.T)[0, 1]) < 0.06


def test_a_request_gets_the_same_action_again_and_another_one_the_next_day():
    assert (explore(CENTRES, BOX, IDS, "2026-03-01").action_ND == LOG.action_ND).all()
    backwards = explore(CENTRES[::-1], BOX, IDS[::-1], "2026-03-01")
    assert (backwards.action_ND[::-1] == LOG.action_ND).all()
    assert (explore(CENTRES, BOX, IDS, "2026-03-02").action_ND != LOG.action_ND).all()
