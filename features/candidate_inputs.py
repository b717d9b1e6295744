"""Candidate rows: all inputs of a prediction about a given candidate, and its labels, from the tables of a day.

An input is known before the exposure (context, profile, history of the user and of the session), belongs to the
candidate, or counts what all users did with the candidate's item up to the evening before.

Shapes: N exposures, C channels, W kinds of counts.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.channel_counts import channel_positions, dense_counts
from features.columns import NO_ROW, Floats, filled_ints, to_floats
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset
from schemas.steps import UNKNOWN_CHANNEL, derived_inputs, last_column, session_inputs

# A rate is (gains + base rate * this) / (exposures + this): one lucky click is not a rate of 1.
PRIOR_EXPOSURES = 20.0
EXPOSURES = "exposures"
IDENTITY = ("user_id", "exposure_id", "exposed_at_ms", "session_id", "position")

Columns = dict[str, Any]


def task_names(dataset: Dataset) -> tuple[str, ...]:
    """The labels: the implied label's two, or the first gain alone."""
    return tuple(dataset.tasks)


def category_names(dataset: Dataset) -> tuple[str, ...]:
    """The categorical inputs: context, profile, candidate, and properties of the latest candidates.

    The latest value of an item column is left out: an item has thousands of values, and few rows for each pair.
    """
    read_columns = (
        *dataset.features(Known.BEFORE),
        *dataset.features(Known.BEFORE, static=True),
        *dataset.features(Known.WITH),
    )
    left_out = {last_column(item) for item in dataset.items}
    derived = (c.name for c in _with_role(derived_inputs(dataset), Role.CATEGORICAL) if c.name not in left_out)
    return ("channel", *(c.name for c in read_columns if c.role is Role.CATEGORICAL), *derived)


def number_names(dataset: Dataset) -> tuple[str, ...]:
    """The numeric inputs, in their order."""
    return tuple(_number_sources(dataset)) + tuple(_history_names(dataset))


def candidate_names(dataset: Dataset) -> frozenset[str]:
    """The inputs that depend on the candidate; all others are the same for every candidate of a request."""
    candidate = {c.name for c in dataset.features(Known.WITH)}
    channel = {"channel", "channel_exposures", *(f"channel_rate_{g}" for g in dataset.gain_names)}
    items = {name for name in _history_names(dataset) if name not in _user_rates(dataset)}
    return frozenset(candidate | channel | items)


def candidate_inputs(exposures: pa.Table, steps: pa.Table, history: pa.Table | None, dataset: Dataset) -> pa.Table:
    """N rows in the order of `exposures`: IDENTITY, the labels, the categories as text, the numbers as doubles.

    exposures, steps: rows of the two tables, row-aligned. history: `item_history` of the evening before; None on the
    first day. Raises ValueError if the two tables have other exposures or another order.
    """
    if not exposures.column("exposure_id").equals(steps.column("exposure_id")):
        raise ValueError("steps and exposures have other rows")
    columns: Columns = {}
    for name in IDENTITY:
        columns[name] = (exposures if name in exposures.column_names else steps).column(name)
    columns |= _labels(exposures, dataset) | _objectives(exposures, dataset)
    for name in category_names(dataset):
        columns[name] = (exposures if name in exposures.column_names else steps).column(name).cast(pa.string())
    for name, table_name in _number_sources(dataset).items():
        columns[name] = to_floats((exposures if table_name == EXPOSURES else steps).column(name))
    columns |= _user_history(steps, dataset) | _own_channel(exposures, steps, dataset)
    columns |= _repeats(exposures, steps, dataset) | _item_history(exposures, history, dataset)
    objectives = (objective_column(objective.name) for objective in dataset.objectives)
    names = (*IDENTITY, *task_names(dataset), *objectives, *category_names(dataset), *number_names(dataset))
    return pa.table({name: columns[name] for name in names})


def with_gains_known_by(exposures: pa.Table, dataset: Dataset, at_ms: int) -> pa.Table:
    """The exposures with each late gain as it was known at that time: 0 if it became known later."""
    for gain, time in dataset.late_gain_times.items():
        is_known = pc.fill_null(pc.less(exposures.column(time), at_ms), False)
        values = pc.if_else(is_known, exposures.column(gain), pa.scalar(0, exposures.column(gain).type))
        exposures = exposures.set_column(exposures.column_names.index(gain), gain, values)
    return exposures


def _with_role(columns: tuple[Column, ...], role: Role) -> tuple[Column, ...]:
    return tuple(c for c in columns if c.role is role)


def _number_sources(dataset: Dataset) -> dict[str, str]:
    """The numbers that are read unchanged, each with its table."""
    read_columns = (
        *dataset.features(Known.BEFORE),
        *dataset.features(Known.BEFORE, static=True),
        *dataset.features(Known.WITH),
    )
    sources = {c.name: EXPOSURES for c in read_columns if c.role is Role.NUMERIC}
    derived = (*derived_inputs(dataset), *session_inputs(dataset))
    sources |= {c.name: "steps" for c in _with_role(derived, Role.NUMERIC)}
    counts = ("seen", "new")
    return sources | {f"{prefix}_{name}": "steps" for prefix in counts for name in (EXPOSURES, *dataset.gain_names)}


def _history_names(dataset: Dataset) -> tuple[str, ...]:
    gains = dataset.gain_names
    return (
        *_user_rates(dataset),
        "channel_exposures",
        *(f"channel_rate_{g}" for g in gains),
        *(f"same_{item}" for item in dataset.items),
        *(f"{item}_{name}" for item in dataset.items for name in (EXPOSURES, *(f"rate_{g}" for g in gains))),
    )


def _user_rates(dataset: Dataset) -> tuple[str, ...]:
    return tuple(f"rate_{g}" for g in dataset.gain_names)


def objective_column(objective: str) -> str:
    """The column of an objective's label in candidate rows."""
    return f"objective_{objective}"


def _objectives(exposures: pa.Table, dataset: Dataset) -> Columns:
    """1 where the exposure has the objective, else 0, also for a missing outcome."""
    return {
        objective_column(objective.name): np.max(
            [np.nan_to_num(to_floats(exposures.column(name))) > 0 for name in objective.columns], axis=0
        ).astype(np.float64)
        for objective in dataset.objectives
    }


def _labels(exposures: pa.Table, dataset: Dataset) -> Columns:
    names, implied = task_names(dataset), dataset.implied_label
    if implied is None:
        return {names[0]: to_floats(exposures.column(names[0]))}
    first, second = (to_floats(exposures.column(name)) for name in (implied.first, implied.second))
    return {names[0]: first, names[1]: first * second}


def _rate(gains_N: Floats, exposures_N: Floats, base: float | Floats) -> Floats:
    return (gains_N + base * PRIOR_EXPOSURES) / (exposures_N + PRIOR_EXPOSURES)


def _user_history(steps: pa.Table, dataset: Dataset) -> Columns:
    """rate_<gain>: the user's gains per exposure so far, with a base rate of 0."""
    seen_N = to_floats(steps.column("seen_exposures"))
    return {f"rate_{g}": _rate(to_floats(steps.column(f"seen_{g}")), seen_N, 0.0) for g in dataset.gain_names}


def _own_channel(exposures: pa.Table, steps: pa.Table, dataset: Dataset) -> Columns:
    """The user's history in the candidate's channel; all of it missing if the channel is unknown."""
    counted = (EXPOSURES, *dataset.gain_names)
    channel = exposures.column("channel")
    channels = sorted({*filter(None, pc.unique(channel).to_pylist()), UNKNOWN_CHANNEL})
    counts_WNC = dense_counts(steps.column("seen_by_channel").combine_chunks(), counted, channels)
    position_N = channel_positions(channel, channels)
    counts_WN = counts_WNC[:, np.arange(len(position_N)), position_N].astype(np.float64)
    counts_WN[:, position_N == channels.index(UNKNOWN_CHANNEL)] = np.nan
    rates = {f"channel_rate_{g}": _rate(counts_WN[w], counts_WN[0], 0.0) for w, g in enumerate(counted) if w}
    return {"channel_exposures": counts_WN[0], **rates}


def _repeats(exposures: pa.Table, steps: pa.Table, dataset: Dataset) -> Columns:
    """same_<item>: 1 if the candidate has the item of the user's latest exposure; missing if one of them is."""
    return {
        f"same_{item}": to_floats(pc.equal(exposures.column(item), steps.column(last_column(item))).cast(pa.int8()))
        for item in dataset.items
    }


def _item_history(exposures: pa.Table, history: pa.Table | None, dataset: Dataset) -> Columns:
    """For each item: its exposures up to the evening before, and its rates. A new value has the base rate."""
    columns: Columns = {}
    for item in dataset.items:
        rows = None if history is None else history.filter(pc.equal(history.column("item"), item))
        columns |= _one_item(exposures.column(item), rows, item, dataset)
    return columns


def _one_item(values: pa.ChunkedArray, rows: pa.Table | None, item: str, dataset: Dataset) -> Columns:
    if rows is None or not len(rows):
        missing_N = np.full(len(values), np.nan)
        return {f"{item}_{name}": missing_N for name in (EXPOSURES, *(f"rate_{g}" for g in dataset.gain_names))}
    row_N = filled_ints(pc.index_in(values.cast(pa.string()), value_set=rows.column("value").combine_chunks()), NO_ROW)
    is_missing_N = np.asarray(pc.is_null(values))
    totals: Mapping[str, npt.NDArray[np.float64]] = {
        name: np.append(to_floats(rows.column(name)), 0.0) for name in (EXPOSURES, *dataset.gain_names)
    }
    exposures_N = np.where(is_missing_N, np.nan, totals[EXPOSURES][row_N])
    columns: Columns = {f"{item}_{EXPOSURES}": exposures_N}
    for gain in dataset.gain_names:
        base = totals[gain].sum() / totals[EXPOSURES].sum()
        columns[f"{item}_rate_{gain}"] = _rate(totals[gain][row_N], exposures_N, base)
    return columns
