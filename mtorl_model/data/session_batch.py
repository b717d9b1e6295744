"""Exposures of whole sessions as tensors, for methods that predict what a chosen candidate will bring.

Sessions follow one another without padding, the exposures of each in their order; `is_last_N` ends a session. So no row
of padding can take part in anything.

Shapes: N exposures, K categorical inputs, F numeric inputs, T tasks.
"""

from typing import NamedTuple

from torch import Tensor


class SessionBatch(NamedTuple):
    """Exposures with inputs that are known before their outcome, and their labels."""

    categorical_NK: Tensor  # int64 codes; 0 = missing or unseen
    numeric_NF: Tensor  # float32, scaled; 0 if missing
    label_NT: Tensor  # float32, 0 or 1
    is_last_N: Tensor  # bool, the last exposure of its session

    def to_device(self, device: str) -> "SessionBatch":
        """A copy of the batch on that device."""
        return SessionBatch(*(tensor.to(device) for tensor in self))
