"""What the training loop needs to know of a loss: nothing of its names or parts but what is said here."""

from typing import Any, Protocol

from torch import Generator, Tensor

from mtorl_model.data.batch import Batch


class Objective(Protocol):
    """A loss of P parts, each a mean over labels of its own kind, and what of it is watched on validation users.

    A batch may come in parts (micro-batches). Whatever is random in a loss is drawn for each micro-batch by `draw`
    and handed back as `drawn`, so that counting and computing see the same.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each part, length P; the first is the total, which is minimised."""

    @property
    def validation_names(self) -> tuple[str, ...]:
        """A name for each of V validation losses, which early stopping watches the sum of."""

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        """What is random in the loss of this micro-batch."""

    def label_counts(self, batch: Batch, drawn: Tensor) -> Tensor:
        """Over how many labels each part but the total is a mean, (P - 1,) float64. Counts of micro-batches add up."""

    def losses(self, output: Any, batch: Batch, drawn: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
        """The total with its graph, and all parts without theirs, (P,).

        output: what the network made of the batch. share: the micro-batch's label_counts divided by those of the
        whole batch, so that losses and gradients of all micro-batches add up to the batch's; None: it is the whole.
        """

    def validation_losses(self, output: Any, batch: Batch) -> Tensor:
        """(V,)."""
