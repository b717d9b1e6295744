"""The interface between the training loop and a loss. The loop uses nothing else of it."""

from typing import Any, Protocol

from torch import Generator, Tensor

from mtorl_model.data.batch import Batch


class Objective(Protocol):
    """A loss with P parts, each a mean over some kind of label, and V losses for early stopping.

    A batch may be computed as several micro-batches. `draw` makes the random draws of the loss for one micro-batch; its
    result is passed to the other methods as `drawn`, so that they use the same draws.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each part, length P; the first is the total, which is minimised."""

    @property
    def validation_names(self) -> tuple[str, ...]:
        """A name for each validation loss, length V; early stopping uses their sum."""

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """The random draws for this micro-batch."""

    def label_counts(self, batch: Batch, drawn: Tensor) -> Tensor:
        """The number of labels of each part except the total, (P - 1,) float64. Counts of micro-batches add up."""

    def losses(self, output: Any, batch: Batch, drawn: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
        """The total with its graph, and all parts without a graph, (P,).

        output: of the network for this batch. share: label_counts of the micro-batch divided by those of the whole
        batch, so that losses and gradients of all micro-batches add up to those of the batch; None: no micro-batches.
        """

    def validation_losses(self, output: Any, batch: Batch) -> Tensor:
        """The validation losses of a batch, (V,)."""
