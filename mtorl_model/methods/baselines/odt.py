"""Online Decision Transformer (Zheng et al., ICML 2022): a Decision Transformer whose policy stays stochastic.

    min -log pi(a | ...)  subject to  H(pi) >= beta,  by the Lagrangian
    policy: -log pi(a | ...) - exp(w) H(pi)        dual: exp(w) (H(pi) - beta)        (equations 2 to 4 of the paper)

Here H is the exact entropy over the channels, beta a share of its largest value.

Departures: only the paper's pretraining on the log; it has no online phase, because a log answers no new action. The
optimiser is Adam in place of LAMB.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.dt import DT, DTConfig, DTNetwork
from mtorl_model.methods.baselines.shared.loss_sum import LossPart, LossSum, channel_part, known_labels
from mtorl_model.methods.baselines.shared.network_method import policy_of
from mtorl_model.methods.method import Prediction


@dataclass(frozen=True, slots=True)
class ODTConfig(DTConfig):
    entropy_share: float = 0.3  # beta, as a share of the entropy of even chances
    first_log_weight: float = -2.0  # w at the start


class ODTOutput(NamedTuple):
    """The logits of the channels, and w."""

    logits_BLA: Tensor
    log_weight: Tensor


class ODTNetwork(nn.Module):
    """A Decision Transformer, and the weight of its entropy."""

    def __init__(self, config: ODTConfig, sizes: InputSizes):
        super().__init__()
        self.transformer = DTNetwork(config, sizes)
        self.log_weight = nn.Parameter(torch.tensor(config.first_log_weight))

    def forward(self, batch: Batch, return_BL: Tensor | None = None) -> ODTOutput:
        return ODTOutput(self.transformer(batch, return_BL), self.log_weight)


def entropies(logits_BLA: Tensor) -> Tensor:
    """H of every step, (B, L), in nats."""
    log_p_BLA = logits_BLA.log_softmax(dim=-1)
    return -(log_p_BLA.exp() * log_p_BLA).sum(dim=-1)


@register
class ODT(DT):
    """Online Decision Transformer, without its online phase."""

    name = "odt"
    Config = ODTConfig

    def new_network(self, sizes: InputSizes) -> ODTNetwork:
        return ODTNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        entropy_target = self.config.entropy_share * math.log(max(len(self.spec.channels), 1))

        def entropy_losses(output: ODTOutput, batch: Batch) -> Tensor:
            return -output.log_weight.detach().exp() * entropies(output.logits_BLA)

        def dual_losses(output: ODTOutput, batch: Batch) -> Tensor:
            excess_BL: Tensor = entropies(output.logits_BLA).detach() - entropy_target
            return output.log_weight.exp() * excess_BL

        return LossSum(
            channel_part(lambda output: output.logits_BLA),
            LossPart("entropy", known_labels, entropy_losses, validates=False),
            LossPart("dual", known_labels, dual_losses, validates=False),
        )

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        return Prediction(policy_of(network(batch, self.target_return(batch)).logits_BLA))
