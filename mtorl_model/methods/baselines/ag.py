"""AG, our reading of budget allocation by an offline Lagrangian game (Cai et al., WSDM 2023).

    round t: the policy player answers lambda_t by batch-constrained Q-learning of r - lambda_t c
             the price player moves: lambda_{t+1} = [lambda_t + step (cost of the policy / budget - 1)]_+
    kept:    of the policies that spend no more than the log did, the one with the highest value; without any such
             policy, the cheapest

The value of a policy pi comes from fitted Q evaluation, Q(s, a) = r + gamma Q(s', pi(s')) with r the gain alone, which
is fitted on training users and read on validation users. The policy player is R-BCQ with one head and one price, and
starts from the networks of the round before.

Departure: the paper mixes the policies of all rounds; here it is one of them, so that a model is one network.
"""

import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.device import device
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.baselines.rbcq import RBCQ, RBCQConfig, RBCQNetwork
from mtorl_model.methods.baselines.shared.budgets import channel_costs
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum
from mtorl_model.methods.baselines.shared.step_network import StepNetwork
from mtorl_model.methods.baselines.shared.target_network import WithTarget
from mtorl_model.methods.baselines.shared.transitions import gains_and_costs, td_errors, transition_labels
from mtorl_model.methods.common.networks.members import merged_curves, seeded, seeds_of
from mtorl_model.methods.common.networks.step_losses import chosen
from mtorl_model.methods.method import Floats, Prediction, Run, State
from mtorl_model.training import loop
from mtorl_model.training.loop import History

_WINDOWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class AGConfig(RBCQConfig):
    value_heads: int = 1
    rounds: int = 5
    price_step: float = 0.5  # change of lambda if a policy spends twice the budget
    evaluation_epochs: int = 3  # of each fitted Q evaluation


class Round(NamedTuple):
    """The policy of a round, its cost a step and its value."""

    network: RBCQNetwork
    history: History
    cost: float
    value: float


class PolicyValue(nn.Module):
    """Q of a frozen greedy policy."""

    def __init__(self, policy: RBCQNetwork, config: AGConfig, sizes: InputSizes):
        super().__init__()
        self.q = WithTarget(StepNetwork(config, sizes, sizes.actions), config.target_share)
        self.policy = copy.deepcopy(policy).requires_grad_(False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Q, (B, L, A), and the target's value of the policy at each step, (B, L), without a gradient."""
        self.q.follow()
        with torch.no_grad():
            value_BL = chosen(self.q.target(batch), self.policy.eval().greedy(batch))
        return self.q.online(batch), value_BL


@register
class AG(RBCQ):
    """The best feasible policy of a Lagrangian game; its price is among the chosen numbers."""

    name = "ag"
    Config = AGConfig

    def fit_networks(
        self, train: WindowStore, valid: WindowStore, run: Run
    ) -> tuple[tuple[RBCQNetwork, ...], list[History]]:
        """Play a game for each member; each round has checkpoints."""
        best = [self._play(seed, train, valid, run) for seed in seeds_of(self.config.train)]
        histories = [played.history for played in best]
        run.curves = merged_curves(histories)
        return tuple(played.network for played in best), histories

    def _play(self, seed: int, train: WindowStore, valid: WindowStore, run: Run) -> Round:
        cost_A, budget = channel_costs(train, self.spec)
        network: RBCQNetwork = seeded(self._new_network, seed)
        price = 0.0
        rounds: list[Round] = []
        for number in range(self.config.rounds):
            network = copy.deepcopy(network)
            network.price = price

            def fit(part: nn.Module, objective: LossSum, epochs: int, name: str = f"{seed}_{number}") -> History:
                config = replace(self.config.train, seed=seed, max_epochs=epochs)
                folder = run.checkpoints / name / type(part).__name__ if run.checkpoints else None
                return loop.fit(part, train, valid, objective, config, checkpoints=folder, identity=run.identity)

            history = fit(network, self.objective(), self.config.train.max_epochs)
            value = PolicyValue(network, self.config, network.sizes)
            fit(value, self._evaluation(), self.config.evaluation_epochs)
            rounds.append(Round(network, history, _mean_cost(network, train, cost_A), _mean_value(value, valid)))
            if budget > 0.0:
                price = max(0.0, price + self.config.price_step * (rounds[-1].cost / budget - 1.0))
        feasible = [played for played in rounds if played.cost <= budget]
        if not feasible:
            return min(rounds, key=lambda played: played.cost)
        return max(feasible, key=lambda played: played.value)

    def _evaluation(self) -> LossSum:
        """The loss of PolicyValue."""

        def losses(output: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
            gain_BL, _ = gains_and_costs(batch, self.spec)
            return td_errors(*output, gain_BL, self.config.discount, batch).square()

        return LossSum(LossPart("td", transition_labels, losses))

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        return {"price": np.array([network.price for network in self.networks])}

    def restore(self, state: State) -> None:
        super().restore(state)
        for network, price in zip(self.networks, self.chosen["price"], strict=True):
            network.price = float(price)

    def predict_with(self, network: RBCQNetwork, batch: Batch) -> Prediction:
        assert network.price is not None
        return Prediction(self.policy_with(network, batch, network.price))


@torch.inference_mode()
def _mean_cost(network: RBCQNetwork, train: WindowStore, cost_A: Floats) -> float:
    """The cost of the greedy policy at a label of the training users, by the mean costs of the channels."""
    batches = (batch.to_device(device()) for batch in train.in_order(_WINDOWS_AT_ONCE))
    network.to(device()).eval()
    channel_N = np.concatenate([network.greedy(batch)[batch.label_BL].cpu().numpy() for batch in batches])
    return float(cost_A[channel_N].mean())


@torch.inference_mode()
def _mean_value(value: PolicyValue, valid: WindowStore) -> float:
    """The value of the policy at a label of the validation users."""
    batches = (batch.to_device(device()) for batch in valid.in_order(_WINDOWS_AT_ONCE))
    value.to(device()).eval()
    values = [chosen(value(batch)[0], value.policy.greedy(batch))[batch.label_BL].cpu().numpy() for batch in batches]
    return float(np.concatenate(values).mean())
