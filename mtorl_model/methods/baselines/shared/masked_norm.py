"""Batch normalisation whose statistics leave entries out, such as padding."""

import torch
from torch import Tensor, nn


class MaskedNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) of each feature, without scale and shift.

    In training the statistics are those of the counted entries of the batch; otherwise moving averages. A batch with
    fewer than two counted entries uses the moving averages.
    """

    mean_D: Tensor
    variance_D: Tensor

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean_D", torch.zeros(features))
        self.register_buffer("variance_D", torch.ones(features))

    def forward(self, x_XD: Tensor, counted_X: Tensor) -> Tensor:
        mean_D, variance_D = self.mean_D, self.variance_D
        if self.training:
            mean_D, variance_D = self._batch_statistics(x_XD.float(), counted_X)
        return (x_XD - mean_D) / torch.sqrt(variance_D + self.eps)

    def _batch_statistics(self, x_XD: Tensor, counted_X: Tensor) -> tuple[Tensor, Tensor]:
        """The statistics of the batch, which move the averages."""
        axes = tuple(range(x_XD.dim() - 1))
        counted_X1, count = counted_X.unsqueeze(-1), counted_X.sum()
        mean_D = torch.where(counted_X1, x_XD, 0.0).sum(dim=axes) / count.clamp_min(1)
        variance_D = torch.where(counted_X1, (x_XD - mean_D).square(), 0.0).sum(dim=axes) / count.clamp_min(1)
        is_enough = count >= 2
        # Copies: backward needs the averages as they are here.
        mean_D = torch.where(is_enough, mean_D, self.mean_D.clone())
        variance_D = torch.where(is_enough, variance_D, self.variance_D.clone())
        with torch.no_grad():
            self.mean_D.lerp_(mean_D, self.momentum)
            self.variance_D.lerp_(variance_D, self.momentum)
        return mean_D, variance_D
