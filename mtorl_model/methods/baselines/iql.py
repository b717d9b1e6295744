"""Implicit Q-learning (Kostrikov et al., ICLR 2022), for discrete actions.

    V:       |tau - 1(u < 0)| u^2,  u = Q_target(s, a) - V(s)           (equation 5 of the paper)
    Q:       (Q(s, a) - (r + gamma V(s')))^2                            (equation 6)
    policy:  -min(exp(beta (Q_target(s, a) - V(s))), 100) log pi(a | s) (equation 7)

The reward is the scaled, penalised one of equation 3 of MTORL. A state is the inputs of a step. No value of a channel
that was not logged is read.

Departure: one Q network in place of the smaller of two; V and the policy learn from all labels, Q from transitions.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum, channel_losses, known_labels
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, policy_of
from mtorl_model.methods.baselines.shared.step_network import StepNetwork
from mtorl_model.methods.baselines.shared.target_network import WithTarget
from mtorl_model.methods.baselines.shared.transitions import td_errors, transition_labels
from mtorl_model.methods.baselines.shared.value_config import ValueNetworkConfig
from mtorl_model.methods.common.networks.step_losses import chosen, known_action
from mtorl_model.methods.method import POLICY, Prediction

_LARGEST_WEIGHT = 100.0  # of a logged channel in the policy's loss, as in the authors' code


@dataclass(frozen=True, slots=True)
class IQLConfig(ValueNetworkConfig):
    expectile: float = 0.7  # tau
    temperature: float = 3.0  # beta


class IQLOutput(NamedTuple):
    """target_q_BL: of the logged channel, without a gradient."""

    policy_BLA: Tensor  # logits
    q_BLA: Tensor
    target_q_BL: Tensor
    value_BL: Tensor


class IQLNetwork(nn.Module):
    """Three separate networks: policy, Q with its target, V."""

    def __init__(self, config: IQLConfig, sizes: InputSizes):
        super().__init__()
        self.policy = StepNetwork(config, sizes, sizes.actions)
        self.q = WithTarget(StepNetwork(config, sizes, sizes.actions), config.target_share)
        self.value = StepNetwork(config, sizes, 1)

    def forward(self, batch: Batch) -> IQLOutput:
        self.q.follow()
        with torch.no_grad():
            target_q_BL = chosen(self.q.target(batch), known_action(batch)[1])
        return IQLOutput(self.policy(batch), self.q.online(batch), target_q_BL, self.value(batch).squeeze(-1))


@register
class IQL(NetworkMethod):
    """Implicit Q-learning."""

    name = "iql"
    predicts = frozenset({POLICY})
    Config = IQLConfig

    def new_network(self, sizes: InputSizes) -> IQLNetwork:
        return IQLNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        return LossSum(
            LossPart("value", known_labels, self._value_losses),
            LossPart("td", transition_labels, self._td_losses),
            LossPart("policy", known_labels, self._policy_losses),
        )

    def _value_losses(self, output: IQLOutput, batch: Batch) -> Tensor:
        difference_BL = output.target_q_BL - output.value_BL
        weight_BL = torch.where(difference_BL > 0, self.config.expectile, 1.0 - self.config.expectile)
        losses_BL: Tensor = weight_BL * difference_BL.square()
        return losses_BL

    def _td_losses(self, output: IQLOutput, batch: Batch) -> Tensor:
        return td_errors(output.q_BLA, output.value_BL.detach(), batch.reward_BL, self.config.discount, batch).square()

    def _policy_losses(self, output: IQLOutput, batch: Batch) -> Tensor:
        advantage_BL = output.target_q_BL - output.value_BL.detach()
        weight_BL = (self.config.temperature * advantage_BL).exp().clamp_max(_LARGEST_WEIGHT)
        losses_BL: Tensor = weight_BL * channel_losses(output.policy_BLA, batch)
        return losses_BL

    def predict_with(self, network: IQLNetwork, batch: Batch) -> Prediction:
        return Prediction(policy_of(network.policy(batch)))
