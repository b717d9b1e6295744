"""An ensemble: networks that differ in their seed alone, and whose probabilities are averaged."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from mtorl_model.data.windows.store import WindowStore
from mtorl_model.methods.method import Run
from mtorl_model.training import loop
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from mtorl_model.training.day_sample import DaySample, mixed_batches
from mtorl_model.training.loop import History
from mtorl_model.training.objective import Objective

N = TypeVar("N", bound=nn.Module)


def seeds_of(config: TrainConfig) -> range:
    """The seed of each member."""
    return range(config.seed, config.seed + config.members)


def seeded(new_network: Callable[[], N], seed: int) -> N:
    """A network with random weights, which depend on the seed only."""
    torch.manual_seed(seed)
    return new_network()


def fit_members(
    new_network: Callable[[], N],
    train: WindowStore,
    valid: WindowStore,
    objective: Objective,
    config: TrainConfig,
    run: Run,
) -> tuple[tuple[N, ...], list[History]]:
    """Train one member after another; each has its own checkpoint. Writes the curves of the run."""
    after_epoch = run.after_epoch
    report = (lambda history: after_epoch(len(history.epochs), history.best.monitor)) if after_epoch else None
    networks, histories = [], []
    for seed in seeds_of(config):
        networks.append(seeded(new_network, seed))
        # A finished network keeps its checkpoint until all are finished: after a kill none is trained again.
        histories.append(
            loop.fit(
                networks[-1], train, valid, objective, replace(config, seed=seed),
                checkpoints=run.checkpoints / str(seed) if run.checkpoints else None,
                identity=run.identity, after_epoch=report,
            )
        )  # fmt: skip
    run.curves = merged_curves(histories)
    return tuple(networks), histories


def fine_tune_members(
    networks: Sequence[nn.Module], sample: DaySample, objective: Objective, config: FineTuneConfig
) -> dict[str, float]:
    """Each network learns from differently drawn batches; the names of the second network's losses end in _2."""
    curves: dict[str, float] = {}
    for member, network in enumerate(networks, start=1):
        batches = mixed_batches(sample, config, seed=member)
        losses = loop.fine_tune(network, batches, objective, config, seed=member)
        curves |= {f"train_{name}{_suffix(member)}": value for name, value in losses.items()}
    return curves


def merged_curves(histories: Sequence[History]) -> list[dict[str, float]]:
    """All figures of each epoch; the names of the second and later networks' figures end in the network's number."""
    curves: list[dict[str, float]] = [{} for _ in range(max(len(history.epochs) for history in histories))]
    for member, history in enumerate(histories, start=1):
        for curve, epoch in zip(curves, history.epochs, strict=False):  # networks stop at different epochs
            curve |= {name + _suffix(member): value for name, value in epoch.curves().items()}
    return curves


def _suffix(member: int) -> str:
    return f"_{member}" if member > 1 else ""
