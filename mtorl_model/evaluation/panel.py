"""The users on whom models are compared: those in some parts of each day's files, as many as a comparison needs.

A part of the files has a random share of the users, the same users every day. So a comparison over many days of a large
log reads a small share of them.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.splits import SHARES


def panel(
    lake: Lake, dataset: Dataset, model: Method, days: Sequence[str], split: str, windows: int
) -> frozenset[str] | None:
    """Parts whose users of the split have at least about `windows` windows in these days; None for all parts.

    One part is the least: an eighth of the users. Every last day has other parts, so that the same users do not decide
    every night.
    """
    source = source_of(model)
    parts = sorted(source.parts(lake, dataset, days))
    expected = SHARES[split] * sum(source.windows(lake, dataset, day) for day in days)
    count = math.ceil(len(parts) * windows / max(expected, 1.0))
    if count >= len(parts):
        return None
    rng = np.random.default_rng(list(hashlib.sha256(f"panel {dataset.name} {max(days, default='')}".encode()).digest()))
    return frozenset(parts[number] for number in rng.permutation(len(parts))[:count])
