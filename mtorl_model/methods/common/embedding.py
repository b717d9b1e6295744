"""Tables of vectors for categorical inputs.

Shapes: B windows, L steps, K categorical inputs.
"""

import math

import torch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch


def embedding_size(vocabulary: int) -> int:
    """Numbers that describe one of `vocabulary` codes: grows like a root, 32 at most."""
    return min(32, round(1.6 * math.pow(vocabulary, 0.56)))


class CategoricalEmbedding(nn.Module):
    """One embedding table for each categorical input.

    The paper of MTORL concatenates the raw features. A code is not a quantity, so here each is looked up in a table.
    width: the numbers of each vector; 0: they grow with the vocabulary. Vectors start small, so that a category which
    is rare in training has little effect. dropout is the share of inputs that are hidden in a training window: the
    network relies less on single categories, and the vector of code 0 is trained to stand for unseen values. A hidden
    input is hidden at every step, because neighbouring steps often have the same value.
    """

    def __init__(self, vocabulary: tuple[int, ...], *, width: int = 0, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        tables = [nn.Embedding(size, width or embedding_size(size)) for size in vocabulary]
        for table in tables:
            nn.init.normal_(table.weight, std=0.1)
        self.tables = nn.ModuleList(tables)
        self.size = sum(table.embedding_dim for table in tables)

    def forward(self, codes_BLK: Tensor) -> list[Tensor]:
        """The vectors of each input, K tensors of shape (B, L, size of that table)."""
        if self.training and self.dropout:
            windows, _, inputs = codes_BLK.shape
            hidden_B1K = torch.rand(windows, 1, inputs, device=codes_BLK.device) < self.dropout
            codes_BLK = codes_BLK.masked_fill(hidden_B1K, 0)
        return [table(codes_BL) for table, codes_BL in zip(self.tables, codes_BLK.unbind(-1), strict=True)]


def step_inputs(batch: Batch, embedding: CategoricalEmbedding) -> Tensor:
    """All that was known before each step: a_{t-1}, r_{t-1}, numbers, vectors of categories, (B, L, E).

    At padding, features are 0 and categories have the vectors of code 0.
    """
    real_BL1 = batch.valid_BL.unsqueeze(-1)
    codes_BLK = torch.where(real_BL1, batch.categorical_BLK, 0)
    features = (batch.action_in_BLA, batch.reward_in_BLR, batch.numeric_BLF)
    return torch.cat([*(torch.where(real_BL1, x, 0.0) for x in features), *embedding(codes_BLK)], dim=-1)
