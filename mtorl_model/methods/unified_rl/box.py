"""The box around the behaviour policy's action, in which exploration is uniform and a policy is trusted.

Shapes: X any leading axes, D dimensions of an action.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Box:
    """A box of this half width in each dimension. penalty_scale: beta, in box widths."""

    half_width: float
    penalty_scale: float

    def explored(self, centre_XD: Floats, rng: np.random.Generator) -> Floats:
        """Actions drawn uniformly from the box (equation 3); the part outside of [-1, 1] is not drawn."""
        return self.placed(centre_XD, rng.random(centre_XD.shape))

    def placed(self, centre_XD: Floats, share_XD: Floats) -> Floats:
        """The actions at these shares of the way through the box, from 0, its lower bound, to 1."""
        low_XD, high_XD = self._bounds(centre_XD)
        return low_XD + (high_XD - low_XD) * share_XD

    def contains(self, action_XD: Floats, centre_XD: Floats) -> npt.NDArray[np.bool_]:
        """[X]: whether the action can have been drawn around this centre; rounding errors are allowed."""
        low_XD, high_XD = self._bounds(centre_XD)
        contained_XD = (action_XD >= low_XD - _ROUNDING) & (action_XD <= high_XD + _ROUNDING)
        contained_X: npt.NDArray[np.bool_] = np.all(contained_XD, axis=-1)
        return contained_X

    def density(self, centre_XD: Floats) -> Floats:
        """[X]: the density with which each action of the box is drawn, the propensity of an explored action."""
        low_XD, high_XD = self._bounds(centre_XD)
        density_X: Floats = 1.0 / (high_XD - low_XD).prod(axis=-1)
        return density_X

    def penalty(self, action_XD: Tensor, centre_XD: Tensor) -> Tensor:
        """[X]: 0 in the box, and exponential in the distance outside (equation 5), summed over the dimensions.

        The paper's penalty jumps from 0 to 1 at the bound and has no gradient for the jump; here 1 is subtracted.
        """
        return torch.expm1(self._relative_excess(action_XD, centre_XD)).sum(dim=-1)

    def trust(self, action_XD: Tensor, centre_XD: Tensor) -> Tensor:
        """[X]: phi of equation 6, the factor of the value of an action: 1 in the box, exponentially less outside."""
        return torch.exp(-self._relative_excess(action_XD, centre_XD).sum(dim=-1))

    def _relative_excess(self, action_XD: Tensor, centre_XD: Tensor) -> Tensor:
        excess_XD = ((action_XD - centre_XD).abs() - self.half_width).clamp_min(0.0)
        return excess_XD / (self.penalty_scale * 2.0 * self.half_width)

    def _bounds(self, centre_XD: Floats) -> tuple[Floats, Floats]:
        return np.maximum(centre_XD - self.half_width, -1.0), np.minimum(centre_XD + self.half_width, 1.0)
