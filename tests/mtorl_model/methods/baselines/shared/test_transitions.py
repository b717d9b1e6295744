"""Transitions lead to labels, and values come from the next step alone."""

import torch
from random_batch import random_batch
from synthetic import make_spec

from mtorl_model.methods.baselines.shared.transitions import gains_and_costs, td_errors, transition_labels
from schemas.dataset import get_dataset

SPEC = make_spec(get_dataset("criteo"), "2022-04-10", "2022-04-11")


def test_every_label_but_a_first_step_ends_one_transition() -> None:
    batch = random_batch()
    batch = batch._replace(action_BL=batch.action_BL.clamp_min(0))
    assert transition_labels(batch).sum() == batch.label_BL.sum()
    # A first step has no step before it, also where padding precedes it.
    all_labels = batch._replace(label_BL=batch.valid_BL)
    assert transition_labels(all_labels).sum() == batch.valid_BL.sum() - len(batch.valid_BL)
    unknown = batch._replace(action_BL=torch.full_like(batch.action_BL, -1))
    assert not transition_labels(unknown).any()


def test_an_error_is_the_value_minus_reward_and_discounted_next_value() -> None:
    batch = random_batch(1, 3)._replace(
        valid_BL=torch.ones(1, 3, dtype=torch.bool),
        label_BL=torch.tensor([[False, True, True]]),
        action_BL=torch.tensor([[2, 0, 1]]),
    )
    q_BLA = torch.tensor([[[0.0, 0.0, 5.0], [3.0, 0.0, 0.0], [9.0, 9.0, 9.0]]])
    value_BL, reward_BL = torch.tensor([[7.0, 2.0, 4.0]]), torch.tensor([[1.0, 0.5, 8.0]])
    errors_BM = td_errors(q_BLA, value_BL, reward_BL, 0.5, batch)
    torch.testing.assert_close(errors_BM, torch.tensor([[5.0 - 1.0 - 0.5 * 2.0, 3.0 - 0.5 - 0.5 * 4.0]]))


def test_gain_minus_cost_is_the_reward_where_it_is_not_clipped() -> None:
    batch = random_batch()
    scale, weights = SPEC.reward, torch.tensor(SPEC.gain_weights)
    cost_BL = 0.1 * torch.rand(batch.valid_BL.shape) * batch.valid_BL
    span = scale.high - scale.low
    raw_BL = batch.gains_BLG @ weights - scale.penalty * cost_BL
    batch = batch._replace(reward_BL=((raw_BL - scale.low) / span) * batch.valid_BL)
    gain_BL, penalised_BL = gains_and_costs(batch, SPEC)
    torch.testing.assert_close(penalised_BL * span / scale.penalty, cost_BL, atol=1e-5, rtol=1e-4)
    reward_BL = gain_BL - penalised_BL - scale.low / span
    torch.testing.assert_close(reward_BL[batch.valid_BL], batch.reward_BL[batch.valid_BL], atol=1e-6, rtol=1e-5)
