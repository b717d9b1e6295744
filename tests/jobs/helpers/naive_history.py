"""The inputs of a step, computed in the slow and obvious way: the oracle of the tests of features."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from schemas.dataset import Dataset
from schemas.steps import (
    UNKNOWN_CHANNEL,
    counted_switches,
    known_after_columns,
    last_column,
    mean_column,
    running_means,
    switches_column,
)


def comparable(value: object) -> object:
    """A value of an input in a form in which equal inputs are equal: rounded, and None for a missing number."""
    if isinstance(value, list):
        return [tuple(entry.values()) if isinstance(entry, dict) else tuple(entry) for entry in value]
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 9)
    return value


def naive_inputs(user: pd.DataFrame, dataset: Dataset, at_ms: int, previous_ms: int | None) -> dict[str, Any]:
    """The inputs of a step of this user at `at_ms`, whose previous step was at previous_ms (None at the first)."""
    now = _view(user, dataset, at_ms)
    previous = _view(user, dataset, previous_ms if previous_ms is not None else 0)
    known = user[user.exposed_at_ms < at_ms].sort_values(["exposed_at_ms", "exposure_id"])
    latest = known.iloc[-1] if len(known) else None
    result: dict[str, Any] = {
        last_column(c.name): None if latest is None else _plain(latest[c.name]) for c in known_after_columns(dataset)
    }
    for name in running_means(dataset):
        numbers = known[name].dropna()
        result[mean_column(name)] = sum(round(x * 1e6) for x in numbers) / 1e6 / len(numbers) if len(numbers) else None
    for name in counted_switches(dataset):
        categories = [_plain(value) for value in known[name]]
        result[switches_column(name)] = sum(a != b for a, b in pairwise(categories))
    result["gap_s"] = 0.0 if previous_ms is None else (at_ms - previous_ms) / 1000
    for counted in ("exposures", *dataset.gain_names):
        result[f"seen_{counted}"] = sum(now[counted].values())
        result[f"new_{counted}"] = result[f"seen_{counted}"] - sum(previous[counted].values())
    for gain in dataset.gain_names:
        times = now["times"][gain]
        result[f"since_{gain}_s"] = (at_ms - max(times)) / 1000 if times else None
    result["new_cost"] = round(now["cost"] - previous["cost"], 9)
    result["seen_by_channel"] = _by_channel(now, {}, dataset)
    result["new_by_channel"] = _by_channel(now, previous, dataset)
    return result


def _view(user: pd.DataFrame, dataset: Dataset, at_ms: int) -> dict[str, Any]:
    """Everything counted from what was known strictly before at_ms, by channel."""
    view: dict[str, Any] = {counted: {} for counted in ("exposures", *dataset.gain_names)}
    view |= {"cost": 0.0, "times": {gain: [] for gain in dataset.gain_names}}
    for row in user.itertuples(index=False):
        channel = _plain(row.channel) or UNKNOWN_CHANNEL
        if row.exposed_at_ms < at_ms:
            view["exposures"][channel] = view["exposures"].get(channel, 0) + 1
            view["cost"] += row.cost
        for gain in dataset.gain_names:
            known_at = getattr(row, dataset.column(gain).known_at or "exposed_at_ms")
            if getattr(row, gain) == 1 and known_at < at_ms:
                view[gain][channel] = view[gain].get(channel, 0) + 1
                view["times"][gain].append(known_at)
    return view


def _by_channel(now: dict[str, Any], previous: dict[str, Any], dataset: Dataset) -> list[tuple]:
    counted = ("exposures", *dataset.gain_names)
    rows = []
    for channel in sorted({c for w in counted for c in now[w]}):
        counts = [now[w].get(channel, 0) - previous.get(w, {}).get(channel, 0) for w in counted]
        if any(counts):
            rows.append((channel, *counts))
    return rows


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
