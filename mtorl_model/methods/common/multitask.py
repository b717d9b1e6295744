"""Networks that predict several tasks of one exposure, each with a probability.

A task may imply the task before it: a conversion after the click implies the click. ESMM builds this in, the other
networks learn it. BatchNorm is computed on real rows only, because rows of padding never reach these networks.

Shapes: N exposures, K categorical inputs, F numeric inputs, T tasks, E embedded size, D hidden size, X experts.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mtorl_model.methods.common.embedding import CategoricalEmbedding
from schemas.json_config import JsonConfig, require


class CandidateSizes(NamedTuple):
    """The sizes of the inputs and outputs."""

    vocabulary: tuple[int, ...]  # number of codes of each categorical input, code 0 included; length K
    numeric: int  # F
    tasks: int  # T


@dataclass(frozen=True, slots=True)
class NetworkConfig(JsonConfig):
    """Which network, and its sizes. The defaults are those of the RMTL paper, section 4.1."""

    network: str = "mmoe"  # one of NETWORKS
    embedding: int = 128  # numbers per code; 0: they grow with the vocabulary
    bottom: tuple[int, ...] = (512, 256)  # hidden sizes of a shared bottom or of an expert
    tower: tuple[int, ...] = (128, 64)  # hidden sizes of a task's tower, before its one output
    experts: int = 8  # of MMoE; PLE has half as many shared ones, and half as many for each task
    levels: int = 1  # of PLE
    dropout: float = 0.2
    category_dropout: float = 0.0  # share of the categorical inputs that training hides; see CategoricalEmbedding
    batch_norm: bool = True  # as the published code, which the paper does not mention

    def __post_init__(self) -> None:
        for name in ("bottom", "tower"):  # JSON has no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        require(
            self.network in NETWORKS,
            f"network config: unknown network '{self.network}': choose one of {', '.join(NETWORKS)}",
        )
        require(bool(self.bottom), "network config: bottom has no layer, must have at least 1")
        for name in ("experts", "levels"):
            require(getattr(self, name) >= 1, f"network config: {name} is {getattr(self, name)}, must be at least 1")
        for name in ("dropout", "category_dropout"):
            require(
                0.0 <= getattr(self, name) < 1.0, f"network config: {name} is {getattr(self, name)}, must be in [0, 1)"
            )


class Inputs(nn.Module):
    """The inputs of an exposure as one vector: the vectors of its codes, then its numbers."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__()
        self.embedding = CategoricalEmbedding(sizes.vocabulary, width=config.embedding, dropout=config.category_dropout)
        self.size = self.embedding.size + sizes.numeric

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        """(N, E)."""
        vectors = [vectors_N1D.squeeze(1) for vectors_N1D in self.embedding(categorical_NK.unsqueeze(1))]
        return torch.cat([*vectors, numeric_NF], dim=1)


def perceptron(
    inputs: int, hidden: Sequence[int], *, dropout: float, batch_norm: bool, output: bool = False
) -> nn.Sequential:
    """Layers of Linear, BatchNorm, ReLU and dropout; with `output`, a last Linear layer with one output."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers.append(nn.Linear(inputs, size))
        if batch_norm:
            layers.append(nn.BatchNorm1d(size))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        inputs = size
    if output:
        layers.append(nn.Linear(inputs, 1))
    return nn.Sequential(*layers)


def task_probabilities(towers: nn.ModuleList, representations: Sequence[Tensor]) -> Tensor:
    """(N, T): each task's tower reads its representation (N, D)."""
    logits = [tower(x_ND) for tower, x_ND in zip(towers, representations, strict=True)]
    return torch.cat(logits, dim=1).sigmoid()


class MultiTaskNetwork(nn.Module, ABC):
    """The base: the inputs of an exposure, from which a network predicts every task."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__()
        self.config, self.sizes = config, sizes
        self.inputs = Inputs(config, sizes)

    @abstractmethod
    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        """The probability of each task, (N, T)."""

    def layers(self, inputs: int, hidden: Sequence[int], *, output: bool = False) -> nn.Sequential:
        config = self.config
        return perceptron(inputs, hidden, dropout=config.dropout, batch_norm=config.batch_norm, output=output)

    def for_each_task(self, inputs: int, hidden: Sequence[int], *, output: bool) -> nn.ModuleList:
        return nn.ModuleList(self.layers(inputs, hidden, output=output) for _ in range(self.sizes.tasks))

    def towers_on_bottoms(self) -> nn.ModuleList:
        """Towers that read representations of the last size of `bottom`."""
        return self.for_each_task(self.config.bottom[-1], self.config.tower, output=True)


class SharedInputsNetwork(MultiTaskNetwork):
    """A network whose tasks share the vectors of the codes. Each task's tower reads its representation."""

    towers: nn.ModuleList

    @abstractmethod
    def represent(self, x_NE: Tensor) -> list[Tensor]:
        """The representations for the T tasks, each (N, D)."""

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        return task_probabilities(self.towers, self.represent(self.inputs(categorical_NK, numeric_NF)))


class SingleTask(MultiTaskNetwork):
    """A network for each task. They share nothing, not even the vectors of the codes."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        self.further_inputs = nn.ModuleList(Inputs(config, sizes) for _ in range(1, sizes.tasks))
        self.bottoms = self.for_each_task(self.inputs.size, config.bottom, output=False)
        self.towers = self.towers_on_bottoms()

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        x = [read(categorical_NK, numeric_NF) for read in (self.inputs, *self.further_inputs)]
        representations = [bottom(x_NE) for bottom, x_NE in zip(self.bottoms, x, strict=True)]
        return task_probabilities(self.towers, representations)


class SharedBottom(SharedInputsNetwork):
    """One bottom for all tasks (Caruana, Multitask learning, 1997)."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        self.bottom = self.layers(self.inputs.size, config.bottom)
        self.towers = self.towers_on_bottoms()

    def represent(self, x_NE: Tensor) -> list[Tensor]:
        return [self.bottom(x_NE)] * self.sizes.tasks


class ESMM(SharedInputsNetwork):
    """Each task's tower predicts it given the task before it, and only the vectors of the codes are shared.

    The probability of a task is the product up to its own: p(click and conversion) = p(click) p(conversion | click)
    (Ma et al., Entire space multi-task model, SIGIR 2018). A task never has a higher probability than the one before.
    """

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        hidden = (*config.bottom, *config.tower)
        self.towers = self.for_each_task(self.inputs.size, hidden, output=True)

    def represent(self, x_NE: Tensor) -> list[Tensor]:
        return [x_NE] * self.sizes.tasks

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        return super().forward(categorical_NK, numeric_NF).cumprod(dim=1)


class Gate(nn.Module):
    """Weights of experts, which depend on the input, and the experts' weighted mean."""

    def __init__(self, inputs: int, experts: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, experts)

    def forward(self, x_ND: Tensor, experts_NXD: Tensor) -> Tensor:
        """(N, D)."""
        weight_NX = self.linear(x_ND).softmax(dim=1)
        return torch.einsum("nx,nxd->nd", weight_NX, experts_NXD)


class MMoE(SharedInputsNetwork):
    """Experts, and a gate for each task (Ma et al., Multi-gate mixture-of-experts, KDD 2018)."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        size = self.inputs.size
        self.experts = nn.ModuleList(self.layers(size, config.bottom) for _ in range(config.experts))
        self.gates = nn.ModuleList(Gate(size, config.experts) for _ in range(sizes.tasks))
        self.towers = self.towers_on_bottoms()

    def represent(self, x_NE: Tensor) -> list[Tensor]:
        experts_NXD = torch.stack([expert(x_NE) for expert in self.experts], dim=1)
        return [gate(x_NE, experts_NXD) for gate in self.gates]


class Extraction(nn.Module):
    """One level of PLE: experts of each task and shared ones; a gate for each task, and one for the shared input."""

    def __init__(self, network: MultiTaskNetwork, inputs: int, *, is_last: bool) -> None:
        super().__init__()
        config, tasks = network.config, network.sizes.tasks
        self.experts_per_group = max(config.experts // 2, 1)
        # A group of experts for each task, one behind another, and then the shared ones.
        self.experts = nn.ModuleList(
            network.layers(inputs, config.bottom) for _ in range((tasks + 1) * self.experts_per_group)
        )
        self.gates = nn.ModuleList(Gate(inputs, 2 * self.experts_per_group) for _ in range(tasks))
        self.shared_gate = None if is_last else Gate(inputs, (tasks + 1) * self.experts_per_group)

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """inputs: of each task, then the shared one. Returns the same, without the shared one at the last level."""
        outputs = [expert(inputs[k // self.experts_per_group]) for k, expert in enumerate(self.experts)]
        groups = torch.stack(outputs, dim=1).chunk(len(inputs), dim=1)
        shared_NXD = groups[-1]
        outputs = [
            gate(x_ND, torch.cat([task_NXD, shared_NXD], dim=1))
            for gate, x_ND, task_NXD in zip(self.gates, inputs[:-1], groups[:-1], strict=True)
        ]
        if self.shared_gate is not None:
            outputs.append(self.shared_gate(inputs[-1], torch.cat(groups, dim=1)))
        return outputs


class PLE(SharedInputsNetwork):
    """Progressive layered extraction (Tang et al., RecSys 2020); with one level, customised gate control."""

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        self.extractions = nn.ModuleList(
            Extraction(self, config.bottom[-1] if level else self.inputs.size, is_last=level == config.levels - 1)
            for level in range(config.levels)
        )
        self.towers = self.towers_on_bottoms()

    def represent(self, x_NE: Tensor) -> list[Tensor]:
        outputs = [x_NE] * (self.sizes.tasks + 1)
        for extraction in self.extractions:
            outputs = extraction(outputs)
        return outputs


class Transfer(nn.Module):
    """A task's representation and the information of the task before it, weighted by attention."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.passed_on = perceptron(size, (size,), dropout=0.0, batch_norm=False)
        self.query, self.key, self.value = (nn.Linear(size, size, bias=False) for _ in range(3))

    def forward(self, task_ND: Tensor, previous_ND: Tensor) -> Tensor:
        pair_N2D = torch.stack([task_ND, self.passed_on(previous_ND)], dim=1)
        score_N2 = (self.query(pair_N2D) * self.key(pair_N2D)).sum(dim=2) / pair_N2D.shape[2] ** 0.5
        return torch.einsum("np,npd->nd", score_N2.softmax(dim=1), self.value(pair_N2D))


class AITM(SharedInputsNetwork):
    """A bottom for each task; each task passes information on to the next one (Xi et al., AITM, KDD 2021).

    The paper's additional loss for a task that is likelier than the one before it is not used.
    """

    def __init__(self, config: NetworkConfig, sizes: CandidateSizes) -> None:
        super().__init__(config, sizes)
        self.bottoms = self.for_each_task(self.inputs.size, config.bottom, output=False)
        self.transfers = nn.ModuleList(Transfer(config.bottom[-1]) for _ in range(sizes.tasks - 1))
        self.towers = self.towers_on_bottoms()

    def represent(self, x_NE: Tensor) -> list[Tensor]:
        first, *further = (bottom(x_NE) for bottom in self.bottoms)
        outputs = [first]
        for transfer, task_ND in zip(self.transfers, further, strict=True):
            outputs.append(transfer(task_ND, outputs[-1]))
        return outputs


NETWORKS: Mapping[str, type[MultiTaskNetwork]] = {
    "single": SingleTask,
    "shared": SharedBottom,
    "esmm": ESMM,
    "mmoe": MMoE,
    "ple": PLE,
    "aitm": AITM,
}


def build_network(config: NetworkConfig, sizes: CandidateSizes) -> MultiTaskNetwork:
    """The network with random weights, which depend on torch's generator."""
    return NETWORKS[config.network](config, sizes)
