"""The sample for fine-tuning a method on candidates: whole sessions of a day, and a replay of earlier days.

As for windows (day_sample.py), it has only training users, with labels as known at the end of the day, and it depends
only on the dataset, the day and the lake. A large day is not read whole, but a few parts of its users.
"""

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np
import torch

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from lakehouse.storage.data_files import part_of
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.candidates.reading import partitions_of, read_candidates
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.parts import parts_with_rows
from mtorl_model.data.session_batch import SessionBatch, session_batches
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import latest_days, per_batch, quotas, replay_days
from schemas.dataset import Dataset
from schemas.splits import SHARES, TRAIN
from schemas.tables import STEPS

# A window has at most ten labels, and a batch of FineTuneConfig.batch_size windows about as many labels as this.
EXPOSURES_PER_WINDOW = 8


class CandidateSample(NamedTuple):
    """Exposures of training users; `replay`, those of replayed_days, may be empty.

    inputs: fingerprints of the partitions read, by key.

    latest: single exposures of the day and of the days before it, for models that are fitted again from scratch; empty
    unless they were requested.
    """

    new: CandidateStore
    replay: CandidateStore
    latest: CandidateStore
    cutoff: LabelCutoff
    inputs: dict[str, str]
    replayed_days: tuple[str, ...] = ()

    @property
    def has_labels(self) -> bool:
        """Whether the day has an exposure of a training user."""
        return len(self.new) > 0

    def summary(self, config: FineTuneConfig) -> str:
        """The steps and their data in words."""
        steps = _steps(len(self.new), config)
        return f"{steps} more steps on {len(self.new):,} exposures of the day and {len(self.replay):,} of earlier days"


def draw_candidates(
    lake: Lake,
    encoder: CandidateEncoder,
    dataset: Dataset,
    day: str,
    days_before: list[str],
    config: FineTuneConfig,
    cutoff: LabelCutoff,
    *,
    with_latest: bool = False,
) -> CandidateSample:
    """The sample of a day. days_before: the earlier days that can be read. cutoff: at the end of the day.

    with_latest: draw `latest`, too.

    Raises UserError if the day's tables are missing, and Busy if another run publishes one of the days at the same
    time.
    """
    rng = np.random.default_rng(list(hashlib.sha256(f"candidates {dataset.name} {day}".encode()).digest()))
    earlier_days = replay_days(days_before, day, max(config.recent_days, dataset.outcome_days), config, rng)
    latest = latest_days([*days_before, day], partial(_windows, lake, dataset), config) if with_latest else []
    partitions = [p for d in sorted({*earlier_days, *latest, day}) for p in partitions_of(lake, dataset, d)]

    def read(d: str, rows: int) -> CandidateStore:
        """About that many rows of training users, or more; all rows of a day that has fewer."""
        size_of = {part_of(file): file.rows * SHARES[TRAIN] for file in lake[STEPS, dataset, d].data_files()}
        parts = parts_with_rows(size_of, max(rows, 1), rng) or None  # None for a day without rows, which has no part
        return read_candidates(lake, dataset, [d], encoder, cutoff, TRAIN, parts)[0]

    def read_sessions(d: str, most_rows: int) -> CandidateStore:
        return _some_sessions(read(d, most_rows), most_rows, rng)

    with consistent_read(partitions):
        new_size, replay_size = _per_batch(config)
        new = read_sessions(day, config.max_steps * new_size)
        rows_per_day = -(-_steps(len(new), config) * replay_size // max(len(earlier_days), 1))
        replay = [read_sessions(earlier, rows_per_day) for earlier in earlier_days]
        latest_rows = [
            _some_rows(read(d, rows), rows, rng) for d, rows in _latest_quotas(lake, dataset, latest, config)
        ]
        inputs = {partition.key: partition.require().fingerprint for partition in partitions}
    no_rows = new.take(np.arange(0))
    return CandidateSample(
        new, _joined(replay, no_rows), _joined(latest_rows, no_rows), cutoff, inputs, tuple(earlier_days)
    )


def _joined(stores: list[CandidateStore], no_rows: CandidateStore) -> CandidateStore:
    return CandidateStore.concatenate(stores) if stores else no_rows


def _windows(lake: Lake, dataset: Dataset, day: str) -> float:
    """The size of a day, in windows."""
    return lake[STEPS, dataset, day].require().rows / EXPOSURES_PER_WINDOW


def _latest_quotas(lake: Lake, dataset: Dataset, days: list[str], config: FineTuneConfig) -> list[tuple[str, int]]:
    """How many rows of each day to read for `latest`, as many of one day as of another; see quotas."""
    rows = [lake[STEPS, dataset, day].require().rows for day in days]
    return list(zip(days, quotas(rows, config.latest_windows * EXPOSURES_PER_WINDOW), strict=True))


def _some_rows(store: CandidateStore, most_rows: int, rng: np.random.Generator) -> CandidateStore:
    """Random rows, at most as many."""
    return store.take(np.sort(rng.choice(len(store), min(most_rows, len(store)), replace=False)))


def _some_sessions(store: CandidateStore, most_rows: int, rng: np.random.Generator) -> CandidateStore:
    """Random whole sessions with at most that many rows, or one session; all of them if they have no more."""
    if len(store) <= most_rows:
        return store
    start_S = store.session_start_S
    length_S = np.diff(start_S, append=len(store))
    order_S = rng.permutation(len(start_S))
    sessions = max(1, int(np.searchsorted(np.cumsum(length_S[order_S]), most_rows, side="right")))
    is_chosen_S = np.zeros(len(start_S), dtype=bool)
    is_chosen_S[order_S[:sessions]] = True
    return store.take(np.flatnonzero(np.repeat(is_chosen_S, length_S)))


def mixed_sessions(sample: CandidateSample, config: FineTuneConfig, *, seed: int) -> Iterator[SessionBatch]:
    """Batches with the same share of replayed exposures each; without earlier days, only new ones.

    A session is never cut, so a batch is a little larger than configured. At most config.max_steps batches, and
    config.passes over the new exposures.
    """
    new_size, replay_size = _per_batch(config)
    new_batches = _endless(sample.new, new_size, seed)
    replay_batches = _endless(sample.replay, max(replay_size, 1), seed)
    for _ in range(_steps(len(sample.new), config)):
        parts = [next(new_batches)]
        if replay_size and len(sample.replay):
            parts.append(next(replay_batches))
        yield SessionBatch(*map(torch.cat, zip(*parts, strict=True)))


def _per_batch(config: FineTuneConfig) -> tuple[int, int]:
    """The numbers of new and of replayed exposures in a batch."""
    new, replayed = per_batch(config)
    return new * EXPOSURES_PER_WINDOW, replayed * EXPOSURES_PER_WINDOW


def _steps(new_rows: int, config: FineTuneConfig) -> int:
    return min(config.max_steps, -(-config.passes * new_rows // _per_batch(config)[0]))


def _endless(store: CandidateStore, batch_size: int, seed: int) -> Iterator[SessionBatch]:
    """The sessions in random order, again and again, each time in another order."""
    for epoch in count():
        yield from session_batches(store, batch_size, seed=seed, epoch=epoch)
