"""The self-check: presets pass it, and a learner that cannot learn does not."""

from dataclasses import replace

import pytest
import torch
from method_inputs import CandidateInputs
from synthetic import make_spec

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.chain.config import PRESETS
from mtorl_model.methods.unified_rl.chain.known_world import LEAST_SHARE, faults_of_learner, gained_share
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.method import UnifiedRL
from schemas.dataset import get_dataset
from schemas.errors import UserError

SMALL = PRESETS["small"].learner


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_learn_most_of_what_the_box_allows(preset):
    share = gained_share(replace(PRESETS[preset].learner, critics=4))
    assert 0.8 < share <= 1.0
    assert 0.5 * share > LEAST_SHARE


@pytest.mark.slow
@pytest.mark.parametrize("learning_rate", [1.0, 1e-7])  # it diverges; it does not move
def test_settings_with_which_nothing_is_learned_are_a_fault(learning_rate):
    (fault,) = faults_of_learner(replace(SMALL, learning_rate=learning_rate))
    assert "the learner reaches " in fault


@pytest.mark.slow
def test_a_training_with_such_settings_is_refused_before_it_begins():
    inputs = CandidateInputs(make_spec(get_dataset("kuairand"), "2022-04-22", "2022-04-23"))
    config = PRESETS["small"].changed({"learning_rate": 1.0, "steps": 20})
    with pytest.raises(UserError, match=r"unified_rl does not learn with these settings \(--set\): in a world"):
        inputs.fit(UnifiedRL, config, 20)


@pytest.mark.slow
def test_an_actor_that_goes_the_wrong_way_earns_less_than_equal_weights(monkeypatch):
    right_way = FusionLearner._values
    monkeypatch.setattr(FusionLearner, "_values", lambda self, critics, state_BS, action_BD, centre_BD: right_way(
        self, critics, state_BS, 2 * centre_BD - action_BD if torch.is_grad_enabled() and action_BD.requires_grad
        else action_BD, centre_BD))  # fmt: skip
    assert gained_share(replace(SMALL)) < 0


@pytest.mark.slow
def test_a_served_action_stays_in_the_box(monkeypatch):
    """Otherwise an actor that leaves it could earn more than the best action in the box."""
    monkeypatch.setattr(Box, "penalty", lambda self, action_BD, centre_BD: torch.zeros(len(action_BD)))
    assert gained_share(SMALL) <= 1.0
