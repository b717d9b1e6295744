"""Conservative Q-learning (Kumar et al., NeurIPS 2020), for discrete actions.

    loss = 1/2 (Q(s, a) - (r + gamma max_a' Q_target(s', a')))^2 + alpha (logsumexp_a Q(s, a) - Q(s, a_logged))

The reward is the scaled, penalised one of equation 3 of MTORL. A state is the inputs of a step. The policy is
softmax(Q), whose most probable channel is the greedy one; the conservative term is its cross-entropy.

Departure: both terms are means over their own labels (transitions.py), because a window's last step has no next one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum, channel_part
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, policy_of
from mtorl_model.methods.baselines.shared.step_network import StepNetwork
from mtorl_model.methods.baselines.shared.target_network import WithTarget
from mtorl_model.methods.baselines.shared.transitions import td_errors, transition_labels
from mtorl_model.methods.baselines.shared.value_config import ValueNetworkConfig
from mtorl_model.methods.method import POLICY, Prediction


@dataclass(frozen=True, slots=True)
class CQLConfig(ValueNetworkConfig):
    alpha: float = 1.0  # weight of the conservative term


class QValues(NamedTuple):
    """Q of every channel, and the value of each step as a next state, without a gradient."""

    q_BLA: Tensor
    next_value_BL: Tensor


class CQLNetwork(WithTarget[StepNetwork]):
    """A network whose outputs are Q."""

    def __init__(self, config: CQLConfig, sizes: InputSizes):
        super().__init__(StepNetwork(config, sizes, sizes.actions), config.target_share)

    def forward(self, batch: Batch) -> QValues:
        self.follow()
        with torch.no_grad():
            next_value_BL = self.target(batch).amax(dim=-1)
        return QValues(self.online(batch), next_value_BL)


@register
class CQL(NetworkMethod):
    """Conservative Q-learning."""

    name = "cql"
    predicts = frozenset({POLICY})
    Config = CQLConfig

    def new_network(self, sizes: InputSizes) -> CQLNetwork:
        return CQLNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        conservative = channel_part(lambda output: output.q_BLA, self.config.alpha)
        return LossSum(LossPart("td", transition_labels, self._td_losses), conservative)

    def _td_losses(self, output: QValues, batch: Batch) -> Tensor:
        errors_BM = td_errors(output.q_BLA, output.next_value_BL, batch.reward_BL, self.config.discount, batch)
        return 0.5 * errors_BM.square()

    def predict_with(self, network: CQLNetwork, batch: Batch) -> Prediction:
        return Prediction(policy_of(network.online(batch)))
