"""A loss that is a weighted sum of means, each over a kind of label: an objective of the training loop.

Shapes: B windows, L steps, A actions (channels), G gains, X any shape, P parts.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from mtorl_model.data.batch import Batch
from mtorl_model.methods.common.masks import masked_mean
from mtorl_model.methods.common.networks.step_losses import chosen, gain_labels, gain_losses, known_action


class LossPart(NamedTuple):
    """The mean of some losses over some labels.

    labels: which entries count, [X] boolean, from the batch alone. losses: of the network's output, [X].
    """

    name: str
    labels: Callable[[Batch], Tensor]
    losses: Callable[[Any, Batch], Tensor]
    weight: float = 1.0
    validates: bool = True  # whether early stopping counts it


class LossSum:
    """The objective of some parts (training/objective.py). Random draws of a method are made in its network."""

    def __init__(self, *parts: LossPart) -> None:
        self.parts = parts
        self.names = ("total", *(part.name for part in parts))
        self.validation_names = tuple(part.name for part in parts if part.validates)

    def draw(self, batch: Batch, generator: Generator) -> Tensor:
        return torch.empty(0)

    def label_counts(self, batch: Batch, drawn: Tensor) -> Tensor:
        return torch.stack([part.labels(batch).sum() for part in self.parts]).double()

    def losses(self, output: Any, batch: Batch, drawn: Tensor, share: Tensor | None) -> tuple[Tensor, Tensor]:
        mean_P = self._means(output, batch)
        if share is not None:
            mean_P = mean_P * share.to(mean_P.dtype)
        total = self._weights(mean_P) @ mean_P
        return total, torch.cat([total[None], mean_P]).detach()

    def validation_losses(self, output: Any, batch: Batch) -> Tensor:
        """The parts that early stopping counts, with their weights."""
        mean_P = self._means(output, batch)
        weighted_P = self._weights(mean_P) * mean_P
        return torch.stack([loss for loss, part in zip(weighted_P, self.parts, strict=True) if part.validates])

    def _means(self, output: Any, batch: Batch) -> Tensor:
        return torch.stack([masked_mean(part.losses(output, batch), part.labels(batch)) for part in self.parts])

    def _weights(self, mean_P: Tensor) -> Tensor:
        return torch.tensor([part.weight for part in self.parts], device=mean_P.device)


def known_labels(batch: Batch) -> Tensor:
    """The labels whose channel the feature spec knows, (B, L)."""
    return known_action(batch)[0]


def channel_losses(logits_BLA: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy of the logged channel, (B, L)."""
    return -chosen(logits_BLA.log_softmax(dim=-1), known_action(batch)[1])


def channel_part(logits_of: Callable[[Any], Tensor], weight: float = 1.0) -> LossPart:
    """Imitation of the logged channels. logits_of: the logits of an output, (B, L, A)."""
    return LossPart("channel", known_labels, lambda output, batch: channel_losses(logits_of(output), batch), weight)


def gain_parts(
    gains: Sequence[str], logits_of: Callable[[Any, Batch], Tensor], labels: Callable[[Batch], Tensor] = gain_labels
) -> list[LossPart]:
    """A part for each gain, which together weigh as much as one. logits_of: of an output and the batch, (B, L, G)."""

    def part(k: int, name: str) -> LossPart:
        return LossPart(
            name,
            lambda batch: labels(batch)[..., k],
            lambda output, batch: gain_losses(logits_of(output, batch), batch)[..., k],
            1.0 / len(gains),
        )

    return [part(k, name) for k, name in enumerate(gains)]
