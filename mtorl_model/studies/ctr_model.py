"""A click model in the manner of DIN (Zhou et al., Deep Interest Network, KDD 2018), which can read user embeddings.

A step and the channel that is offered at it are the target. Each step up to it gives one vector of history; an
activation unit weighs it by how well it fits the target, without a softmax, as in the paper. The weighted sum, the
target and, if there is one, the user embedding predict the gains. DIN's features of the advertisement are those that
this log has: the channel and the inputs of the step.

Shapes as in data/batch.py, N labels, E size of the user embedding.
"""

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.common.embedding import CategoricalEmbedding

HIDDEN = 32


class ClickModel(nn.Module):
    """Predicts the log-odds of each gain of the labels of a batch, whose channel is known."""

    def __init__(self, sizes: InputSizes, *, user_embedding: int = 0, dropout: float = 0.2) -> None:
        """user_embedding: E; 0 for a model that reads none."""
        super().__init__()
        self.sizes = sizes
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=dropout)
        inputs = sizes.numeric + sizes.actions + sizes.reward_inputs + self.embedding.size
        self.step = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.LeakyReLU())
        self.target = nn.Linear(HIDDEN + sizes.actions, HIDDEN)
        self.activation = nn.Sequential(nn.Linear(4 * HIDDEN, HIDDEN), nn.LeakyReLU(), nn.Linear(HIDDEN, 1))
        self.user = nn.Sequential(nn.LayerNorm(user_embedding), nn.Dropout(dropout)) if user_embedding else None
        self.out = nn.Sequential(
            nn.Linear(2 * HIDDEN + user_embedding, 2 * HIDDEN), nn.LeakyReLU(), nn.Dropout(dropout),
            nn.Linear(2 * HIDDEN, sizes.gains),
        )  # fmt: skip

    def forward(self, batch: Batch, user_BLE: Tensor | None = None) -> Tensor:
        """[N, G]: the log-odds, in the order of batch.label_BL. user_BLE: the user embedding at every step."""
        vectors = (batch.numeric_BLF, batch.action_in_BLA, batch.reward_in_BLR, *self.embedding(batch.categorical_BLK))
        step_BLD = self.step(torch.cat(vectors, dim=-1))
        window_N, position_N = batch.label_BL.nonzero(as_tuple=True)
        channel_NA = nn.functional.one_hot(batch.action_BL[batch.label_BL], self.sizes.actions).float()
        target_ND = self.target(torch.cat([step_BLD[batch.label_BL], channel_NA], dim=-1))
        history_NLD = step_BLD[window_N]
        repeated_NLD = target_ND[:, None].expand_as(history_NLD)
        pair = (repeated_NLD, history_NLD, repeated_NLD - history_NLD, repeated_NLD * history_NLD)
        weight_NL = self.activation(torch.cat(pair, dim=-1)).squeeze(-1)
        # The past and the step itself, whose inputs have the outcome of the previous exposure; never later steps.
        is_past_NL = torch.arange(batch.label_BL.shape[1])[None] <= position_N[:, None]
        weight_NL = weight_NL * (is_past_NL & batch.valid_BL[window_N])
        interest_ND = (weight_NL[:, None] @ history_NLD).squeeze(1)
        parts = [target_ND, interest_ND]
        if self.user is not None:
            assert user_BLE is not None
            parts.append(self.user(user_BLE[batch.label_BL]))
        odds_NG: Tensor = self.out(torch.cat(parts, dim=-1))
        return odds_NG
