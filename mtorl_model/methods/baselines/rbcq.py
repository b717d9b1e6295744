"""R-BCQ of BCORLE(lambda) (Zhang et al., NeurIPS 2021): batch-constrained Q-learning for any price of costs.

    state (s, lambda),  reward r - lambda c,  lambda ~ U(0, L) for each window
    Q = sum_k alpha_k Q_k,  alpha random on the simplex in training, even for prediction       (random ensemble mixture)
    allowed(s) = {a : G(a | s) / max_a' G(a' | s) > threshold},  G imitates the log by its cross-entropy
    loss = Huber(Q(s, a, lambda) - (r - lambda c + gamma Q_target(s', argmax_{a' allowed} Q(s', a', lambda), lambda)))
         + cross-entropy of G

For prediction lambda is the least price at which the greedy policy spends no more than the log did (bisection on
training windows). Published code, for comparison: its two heads are the same three layers, so G and Q are identical,
and Q is fitted to the one-hot action. Here they are separate networks.

Departures: we know the paper's equations from memory. A window has one lambda, so that the states of a transition have
the same. The paper's policy is greedy; ours is a softmax over the allowed channels, whose most probable one is the
greedy one.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.device import device
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.budgets import channel_costs, least_price
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum, channel_part
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, policy_of
from mtorl_model.methods.baselines.shared.step_network import StepNetwork
from mtorl_model.methods.baselines.shared.target_network import WithTarget
from mtorl_model.methods.baselines.shared.transitions import gains_and_costs, td_errors, transition_labels
from mtorl_model.methods.baselines.shared.value_config import ValueNetworkConfig
from mtorl_model.methods.common.networks.step_losses import chosen
from mtorl_model.methods.method import POLICY, Floats, Prediction

_WINDOWS_FOR_PRICE = 2048


@dataclass(frozen=True, slots=True)
class RBCQConfig(ValueNetworkConfig):
    value_heads: int = 5  # K
    highest_price: float = 2.0  # L; at 1 the reward is that of equation 3 of MTORL
    threshold: float = 0.3  # of G, relative to the most probable channel, as in discrete BCQ
    sharpness: float = 10.0  # of the softmax over the allowed channels


class RBCQOutput(NamedTuple):
    """q_BLA: mixed. next_value_BL: the value of each step as a next state, without a gradient."""

    q_BLA: Tensor
    imitation_BLA: Tensor  # logits of G
    next_value_BL: Tensor
    price_B1: Tensor


class RBCQNetwork(nn.Module):
    """Q with its target, and G."""

    def __init__(self, config: RBCQConfig, sizes: InputSizes):
        super().__init__()
        self.config, self.sizes = config, sizes
        self.price: float | None = None  # if set, the only price that the network learns for
        q = StepNetwork(config, sizes, config.value_heads * sizes.actions, further=1)
        self.q = WithTarget(q, config.target_share)
        self.imitation = StepNetwork(config, sizes, sizes.actions)

    def forward(self, batch: Batch, price: float | None = None) -> RBCQOutput:
        """price: lambda of all windows. Left out: self.price; without one, random in training, else the middle."""
        self.q.follow()
        price_B1 = self._prices(batch, self.price if price is None else price)
        mixture_B1K = self._mixture(batch)
        imitation_BLA = self.imitation(batch)
        q_BLA = self._mixed(self.q.online, batch, price_B1, mixture_B1K)
        with torch.no_grad():
            greedy_BL = self.allowed_q(q_BLA, imitation_BLA).argmax(dim=-1)
            next_value_BL = chosen(self._mixed(self.q.target, batch, price_B1, mixture_B1K), greedy_BL)
        return RBCQOutput(q_BLA, imitation_BLA, next_value_BL, price_B1)

    def allowed_q(self, q_BLA: Tensor, imitation_BLA: Tensor) -> Tensor:
        """Q, and minus infinity for the channels that the log hardly ever shows."""
        relative_BLA = (imitation_BLA - imitation_BLA.amax(dim=-1, keepdim=True)).exp()
        return torch.where(relative_BLA > self.config.threshold, q_BLA, -torch.inf)

    def greedy(self, batch: Batch) -> Tensor:
        """The channel with the highest Q among the allowed ones, (B, L)."""
        output: RBCQOutput = self(batch)
        return self.allowed_q(output.q_BLA, output.imitation_BLA).argmax(dim=-1)

    def _prices(self, batch: Batch, price: float | None) -> Tensor:
        shape, device_of = (len(batch.valid_BL), 1), batch.valid_BL.device
        if self.training and price is None:
            return self.config.highest_price * torch.rand(shape, device=device_of)
        return torch.full(shape, self.config.highest_price / 2 if price is None else price, device=device_of)

    def _mixture(self, batch: Batch) -> Tensor:
        """alpha of each window, (B, 1, K)."""
        shape, device_of = (len(batch.valid_BL), 1, self.config.value_heads), batch.valid_BL.device
        weight_B1K = torch.rand(shape, device=device_of) if self.training else torch.ones(shape, device=device_of)
        return weight_B1K / weight_B1K.sum(dim=-1, keepdim=True)

    def _mixed(self, network: StepNetwork, batch: Batch, price_B1: Tensor, mixture_B1K: Tensor) -> Tensor:
        price_BL1 = price_B1.unsqueeze(-1).expand(*batch.valid_BL.shape, 1)
        q_BLKA = network(batch, price_BL1).unflatten(-1, (-1, self.sizes.actions))
        return torch.einsum("blka,bik->bla", q_BLKA, mixture_B1K)


@register
class RBCQ(NetworkMethod):
    """R-BCQ."""

    name = "rbcq"
    predicts = frozenset({POLICY})
    Config = RBCQConfig

    def new_network(self, sizes: InputSizes) -> RBCQNetwork:
        return RBCQNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        imitation = channel_part(lambda output: output.imitation_BLA)
        return LossSum(LossPart("td", transition_labels, self._td_losses), imitation)

    def _td_losses(self, output: RBCQOutput, batch: Batch) -> Tensor:
        gain_BL, cost_BL = gains_and_costs(batch, self.spec)
        reward_BL = gain_BL - output.price_B1 * cost_BL
        errors_BM = td_errors(output.q_BLA, output.next_value_BL, reward_BL, self.config.discount, batch)
        return F.huber_loss(errors_BM, torch.zeros_like(errors_BM), reduction="none")

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        cost_A, budget = channel_costs(train, self.spec)
        batch = train.windows.take(slice(0, _WINDOWS_FOR_PRICE)).batch()

        def spend(price: float) -> float:
            policy_NA = self.policy_at(batch, price)[batch.label_BL.numpy()]
            return float(cost_A[policy_NA.argmax(axis=-1)].mean())

        return {"price": np.array([least_price(spend, budget, self.config.highest_price)])}

    @torch.inference_mode()
    def policy_at(self, batch: Batch, price: float) -> Floats:
        """The policy for a price, (B, L, A); the mean over the networks."""
        batch = batch.to_device(device())
        policies = [self.policy_with(network, batch, price) for network in self._ready()]
        policy_BLA: Floats = np.mean(policies, axis=0)
        return policy_BLA

    def policy_with(self, network: RBCQNetwork, batch: Batch, price: float) -> Floats:
        output = network(batch, price)
        return policy_of(self.config.sharpness * network.allowed_q(output.q_BLA, output.imitation_BLA))

    def predict_with(self, network: RBCQNetwork, batch: Batch) -> Prediction:
        return Prediction(self.policy_with(network, batch, float(self.chosen["price"][0])))
