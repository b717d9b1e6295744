"""Decision Transformer (Chen et al., NeurIPS 2021): the channel that leads to a given return.

    tokens ... a_{t-1}, R_t, s_t -> a_t;  loss: cross-entropy of the logged channel

Tokens go through causal attention; a_t is read at the token s_t. In training R_t is the return that followed; for
prediction it is a high return of the training users, the same at every step.

Departures, all of which keep what is not known out of the input:
- R_t is the mean reward of step t and the later ones of its window, in place of their sum: a sum would tell how many
  exposures follow.
- Past returns are not lowered by the rewards observed so far, because at prediction all steps have the same R.
- a_{t-1} counts the exposures that became known between two steps, as everywhere in this project.
- A position is counted from the first step of the window. Feed-forward layers are as wide as the others:
  they are the Add&Norm layers of MTORL.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.shared.loss_sum import LossSum, channel_part
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, policy_of
from mtorl_model.methods.baselines.shared.step_network import width
from mtorl_model.methods.common.embedding import CategoricalEmbedding, step_inputs
from mtorl_model.methods.common.networks.layers import AddNorm, CausalAttention, linear
from mtorl_model.methods.method import POLICY, Floats, Prediction
from schemas.json_config import require

_WINDOWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class DTConfig(NetworkConfig):
    heads: int = 1  # attention heads; must divide hidden
    return_quantile: float = 0.9  # of the training returns: the return that prediction is conditioned on

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require(self.hidden % self.heads == 0, f"heads {self.heads} must divide hidden {self.hidden}")
        require(0.0 <= self.return_quantile <= 1.0, f"return_quantile is {self.return_quantile}, must be in [0, 1]")


class DTNetwork(nn.Module):
    """Logits of the channel at every step."""

    def __init__(self, config: DTConfig, sizes: InputSizes):
        super().__init__()
        d = config.hidden
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        self.action = linear(sizes.actions, d)
        self.return_token = linear(1, d)
        self.state = linear(width(sizes, self.embedding), d)
        self.position = nn.Embedding(config.steps, d)
        self.norm = nn.LayerNorm(d)
        self.attention = nn.ModuleList(
            CausalAttention(d, heads=config.heads, dropout=config.dropout) for _ in range(config.layers)
        )
        self.add_norm = nn.ModuleList(AddNorm(d, dropout=config.dropout) for _ in range(config.layers))
        self.out = linear(d, sizes.actions)

    def forward(self, batch: Batch, return_BL: Tensor | None = None) -> Tensor:
        """return_BL: R; left out, it is the return that followed, for training and its validation."""
        return_BL = mean_rewards_to_go(batch) if return_BL is None else return_BL
        previous_BLA = torch.where(batch.valid_BL.unsqueeze(-1), batch.action_in_BLA, 0.0)
        state_BLD = self.state(step_inputs(batch, self.embedding))
        index_BL = (batch.valid_BL.cumsum(dim=1) - 1).clamp(0, self.position.num_embeddings - 1)
        tokens_BLTD = torch.stack(
            [self.action(previous_BLA), self.return_token(return_BL.unsqueeze(-1)), state_BLD], dim=2
        )
        x_BTD = self.norm((tokens_BLTD + self.position(index_BL).unsqueeze(2)).flatten(1, 2))
        valid_BT = batch.valid_BL.repeat_interleave(3, dim=1)
        for attention, add_norm in zip(self.attention, self.add_norm, strict=True):
            x_BTD = add_norm(x_BTD + attention(x_BTD, valid_BT))
        return self.out(x_BTD[:, 2::3]).float()  # type: ignore[no-any-return]


def mean_rewards_to_go(batch: Batch) -> Tensor:
    """The mean reward of each step and the later ones of its window, (B, L); 0 at padding."""
    reward_BL = torch.where(batch.valid_BL, batch.reward_BL, 0.0)
    sum_BL, steps_BL = (x.flip(1).cumsum(dim=1).flip(1) for x in (reward_BL, batch.valid_BL.float()))
    return torch.where(batch.valid_BL, sum_BL / steps_BL.clamp_min(1.0), 0.0)


@register
class DT(NetworkMethod):
    """Decision Transformer."""

    name = "dt"
    predicts = frozenset({POLICY})
    Config = DTConfig

    def new_network(self, sizes: InputSizes) -> nn.Module:
        return DTNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        return LossSum(channel_part(lambda output: output))

    def choose(self, train: WindowStore) -> dict[str, Floats]:
        returns = [mean_rewards_to_go(batch)[batch.label_BL].numpy() for batch in train.in_order(_WINDOWS_AT_ONCE)]
        return {"target_return": np.array([np.quantile(np.concatenate(returns), self.config.return_quantile)])}

    def target_return(self, batch: Batch) -> Tensor:
        """The return that prediction is conditioned on, at every step, (B, L)."""
        return torch.full(batch.valid_BL.shape, float(self.chosen["target_return"][0]), device=batch.valid_BL.device)

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        return Prediction(policy_of(network(batch, self.target_return(batch))))
