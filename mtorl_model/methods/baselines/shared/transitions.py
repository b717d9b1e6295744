"""Transitions between the steps of a window, and the temporal-difference errors of the methods that learn values.

A transition leads from the step before a label to the label. Every exposure but a user's first is a label exactly once,
so every transition is learned from once, whatever the windows. A journey continues after a window, so no step is
terminal; the last exposure of a user starts no transition.

Shapes: B windows, L steps, M = L - 1 pairs of steps, A actions (channels).
"""

import torch
from torch import Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.common.networks.step_losses import chosen
from schemas.tables.feature_spec import FeatureSpec


def transition_labels(batch: Batch) -> Tensor:
    """Whether two neighbouring steps are a transition with a known channel, (B, M)."""
    return batch.label_BL[:, 1:] & batch.valid_BL[:, :-1] & (batch.action_BL[:, :-1] >= 0)


def start_action(batch: Batch) -> Tensor:
    """The channel of each transition, (B, M), 0 elsewhere."""
    return torch.where(transition_labels(batch), batch.action_BL[:, :-1], 0)


def td_errors(q_BLA: Tensor, next_value_BL: Tensor, reward_BL: Tensor, discount: float, batch: Batch) -> Tensor:
    """Q(s, a) - (r + discount V(s')), (B, M). next_value_BL: V of every step, without a gradient."""
    target_BM = reward_BL[:, :-1] + discount * next_value_BL[:, 1:]
    error_BM = chosen(q_BLA[:, :-1], start_action(batch)) - target_BM
    return torch.where(transition_labels(batch), error_BM, 0.0)


def gains_and_costs(batch: Batch, spec: FeatureSpec) -> tuple[Tensor, Tensor]:
    """The gain and the penalised cost of every step, (B, L), whose difference is the reward of equation 3 of MTORL.

    Both are divided by the span of the rewards. The cost follows from the reward, so it is too small where the reward
    was clipped at 0; it is 0 in a log without costs.
    """
    span = spec.reward.high - spec.reward.low
    weights_G = torch.tensor(spec.gain_weights, dtype=torch.float32, device=batch.gains_BLG.device)
    gain_BL = batch.gains_BLG @ weights_G / span
    penalised_BL = batch.reward_BL + spec.reward.low / span
    return gain_BL, torch.where(batch.valid_BL, (gain_BL - penalised_BL).clamp_min(0.0), 0.0)
