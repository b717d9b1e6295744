"""The sample for fine-tuning a method on candidates: whole sessions of a day, and a replay of earlier days."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import torch

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.session_batch import SessionBatch, session_batches
from mtorl_model.training.config import FineTuneConfig


class CandidateSample(NamedTuple):
    """Exposures of training users; `replay` may be empty."""

    new: CandidateStore
    replay: CandidateStore


def mixed_sessions(sample: CandidateSample, config: FineTuneConfig, *, seed: int) -> Iterator[SessionBatch]:
    """Batches with the same share of replayed exposures each; without earlier days, only new ones.

    config counts exposures in place of windows. A session is never cut, so a batch is a little larger than configured.
    At most config.max_steps batches, and config.passes over the new exposures.
    """
    replayed = round(config.batch_size * config.replay_share) if len(sample.replay) else 0
    new_batches = _endless(sample.new, config.batch_size - replayed, seed)
    replay_batches = _endless(sample.replay, max(replayed, 1), seed)
    steps = min(config.max_steps, -(-config.passes * len(sample.new) // (config.batch_size - replayed)))
    for _ in range(steps):
        parts = [next(new_batches), next(replay_batches)] if replayed else [next(new_batches)]
        yield SessionBatch(*map(torch.cat, zip(*parts, strict=True)))


def _endless(store: CandidateStore, batch_size: int, seed: int) -> Iterator[SessionBatch]:
    """The sessions in random order, again and again, each time in another order."""
    for epoch in count():
        yield from session_batches(store, batch_size, seed=seed, epoch=epoch)
