"""The samples for fine-tuning on a day: windows of the day itself, and a replay of earlier days against forgetting.

They contain only windows of training users, with labels as known at the end of the day. Both samples depend only on the
dataset, the day and the lake. At most `FineTuneConfig.replay_days` earlier days are opened, so the cost does not grow
with the history: half of them from the last `recent_days`, whose late gains may have become known since, and the others
from all days before those.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from mtorl_model.data.batch import Batch
from mtorl_model.data.delayed_feedback import FeedbackConfig, LabelCutoff, fit_cutoff
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.propensities import read_propensities
from mtorl_model.data.windows.reading import draw_windows, partitions_read
from mtorl_model.data.windows.splits import days_with_windows
from mtorl_model.data.windows.store import WindowsInMemory, label_propensities, user_numbers
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import Dataset
from schemas.days import day_before, day_plus
from schemas.errors import Busy
from schemas.tables import EXPOSURES, SEQUENCES, STEPS


class DaySample(NamedTuple):
    """new, replay: windows, possibly zero. inputs: fingerprints of the partitions read, by path in the lake.

    latest: windows of the day and of the days before it, for models that are fitted again from nothing; empty unless
    they were requested.
    """

    new: Encoded
    replay: Encoded
    latest: WindowsInMemory
    cutoff: LabelCutoff
    inputs: dict[str, str]

    @property
    def has_labels(self) -> bool:
        """Whether the day has a label of a training user."""
        return bool(self.new.label_NL.any())

    def summary(self, config: FineTuneConfig) -> str:
        """The steps and their data in words."""
        new, replayed = len(self.new.valid_NL), len(self.replay.valid_NL)
        return f"{steps_of(new, config)} more steps on {new:,} windows of the day and {replayed:,} of earlier days"


def draw_day(
    lake: Lake,
    encoder: Encoder,
    dataset: Dataset,
    day: str,
    config: FineTuneConfig,
    feedback: FeedbackConfig,
    *,
    known_at_ms: int | None = None,
    with_latest: bool = False,
) -> DaySample:
    """The samples of a day, with labels as known at known_at_ms (None: at the end of the day).

    with_latest: draw `latest`, too.

    Raises UserError if the day's sequences are missing, and Busy if another run publishes one of the days at the same
    time.
    """
    rng = np.random.default_rng(list(hashlib.sha256(f"{dataset.name} {day}".encode()).digest()))
    known_days = days_with_windows(lake, dataset, None, day_before(day))
    recent_days = max(config.recent_days, dataset.outcome_days)
    earlier_days = replay_days(known_days, day, recent_days, config, rng)
    latest = latest_days([*known_days, day], partial(_windows, lake, dataset), config) if with_latest else []
    days = sorted({day, *earlier_days, *latest})
    with consistent_read(partitions_read(lake, dataset, days)):
        lake[SEQUENCES, dataset, day].require()
        if days_with_windows(lake, dataset, None, day_before(day)) != known_days:
            raise Busy(f"another run has just published sequences of days before {day}: run again")
        inputs = {
            key: fingerprint
            for table in (SEQUENCES, STEPS, EXPOSURES)
            for key, fingerprint in lake.fingerprints(table, dataset, days).items()
        }
        new_size, replay_size = per_batch(config)
        columns, channels = list(dict.fromkeys((*encoder.columns, *encoder.time_columns))), encoder.spec.channels
        new = draw_windows(lake, dataset, {day: config.max_steps * new_size}, columns, channels, rng)
        steps = steps_of(len(new), config)
        windows_per_day = -(-steps * replay_size // max(len(earlier_days), 1))
        replay = draw_windows(lake, dataset, dict.fromkeys(earlier_days, windows_per_day), columns, channels, rng)
        at_ms = dataset.end_of_day_ms(day) if known_at_ms is None else known_at_ms
        cutoff = fit_cutoff(at_ms, [new, replay], dataset, feedback)
        return DaySample(
            encoder.encode(new, cutoff),
            encoder.encode(replay, cutoff),
            _latest_windows(lake, encoder, dataset, latest, config, cutoff),
            cutoff,
            inputs,
        )


def _windows(lake: Lake, dataset: Dataset, day: str) -> int:
    return lake[SEQUENCES, dataset, day].require().rows


def latest_days(days: list[str], windows_of: Callable[[str], float], config: FineTuneConfig) -> list[str]:
    """The last of the days that together have latest_windows windows, oldest first. windows_of: the number in a day.

    They are at least fewest_latest_days, so that not everything is learned from one large day, and latest_days at most.
    """
    chosen: list[str] = []
    windows = 0.0
    for day in reversed(days[-config.latest_days :]):
        if windows >= config.latest_windows and len(chosen) >= config.fewest_latest_days:
            break
        chosen.insert(0, day)
        windows += windows_of(day)
    return chosen


def _latest_windows(
    lake: Lake,
    encoder: Encoder,
    dataset: Dataset,
    days: list[str],
    config: FineTuneConfig,
    cutoff: LabelCutoff,
) -> WindowsInMemory:
    """Windows of training users of these days, latest_windows at most; see quotas."""
    columns = list(dict.fromkeys((*encoder.columns, *encoder.time_columns, "user_id", "exposure_id")))
    rng = np.random.default_rng(list(hashlib.sha256(f"latest {dataset.name} {days}".encode()).digest()))
    rows = [lake[SEQUENCES, dataset, day].require().rows for day in days]
    drawn = dict(zip(days, quotas(rows, config.latest_windows), strict=True))
    windows = draw_windows(lake, dataset, drawn, columns, encoder.spec.channels, rng)
    encoded = encoder.encode(windows, cutoff)
    propensities = read_propensities(lake[EXPOSURES, dataset, day] for day in days)
    return WindowsInMemory(encoded, user_numbers(windows), label_propensities(windows, encoded, propensities))


def quotas(rows: Sequence[int], total: int) -> list[int]:
    """How many windows to draw of each day: the same number of each, but no more than it has; together at most total.

    What small days lack is drawn from the larger ones.
    """
    drawn, left = [0] * len(rows), total
    smallest_first = sorted(range(len(rows)), key=lambda day: rows[day])
    for number, day in enumerate(smallest_first):
        drawn[day] = min(rows[day], left // (len(rows) - number))
        left -= drawn[day]
    return drawn


def steps_of(new_windows: int, config: FineTuneConfig) -> int:
    """Optimiser steps for a day with that many windows: config.passes over them, but at most config.max_steps."""
    return min(config.max_steps, -(-config.passes * new_windows // per_batch(config)[0]))


def mixed_batches(sample: DaySample, config: FineTuneConfig, *, seed: int) -> Iterator[Batch]:
    """steps_of batches, each with the same share of replayed windows; without earlier days, only new windows."""
    rng = np.random.default_rng(seed)
    new_rows = _endless(len(sample.new.valid_NL), rng)
    replay_rows = _endless(len(sample.replay.valid_NL), rng)
    new_size, replay_size = per_batch(config)
    for _ in range(steps_of(len(sample.new.valid_NL), config)):
        parts = [sample.new.take(np.sort([next(new_rows) for _ in range(new_size)]))]
        if len(sample.replay.valid_NL):
            parts.append(sample.replay.take(np.sort([next(replay_rows) for _ in range(replay_size)])))
        yield Encoded(*map(np.concatenate, zip(*parts, strict=True))).batch()


def per_batch(config: FineTuneConfig) -> tuple[int, int]:
    """The numbers of new and of replayed windows in a batch."""
    replayed = round(config.batch_size * config.replay_share)
    return config.batch_size - replayed, replayed


def _endless(windows: int, rng: np.random.Generator) -> Iterator[int]:
    """The indices of all windows in random order, again and again, each time in another order."""
    while True:
        yield from rng.permutation(windows).tolist()


def replay_days(
    days: list[str], day: str, recent_days: int, config: FineTuneConfig, rng: np.random.Generator
) -> list[str]:
    """Earlier days to replay, oldest first: half of them of the recent days. days: all that can be read."""
    first_recent = day_plus(day, -recent_days)
    recent = [d for d in days if first_recent <= d < day]
    older = [d for d in days if d < first_recent]
    older_count = min(len(older), config.replay_days // 2)
    recent_count = min(len(recent), config.replay_days - older_count)
    chosen = [*rng.choice(older, older_count, replace=False)] if older_count else []
    chosen += [*rng.choice(recent, recent_count, replace=False)] if recent_count else []
    return sorted(map(str, chosen))
