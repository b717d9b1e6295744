"""What was known strictly before each step, for all users of a chunk at once: the arithmetic behind history.py.

A step at time t sees exactly the facts with a smaller time. Facts of one user lie side by side in order of time, so
what a step sees is a range of rows: from the user's first to the first one that is not before t. That one position,
`Seen.upto_S`, is the whole rule; every input is a difference of running totals at it, or the row just before it.

Shapes: R rows of the chunk, U users, N exposures, M late gains, F facts of either kind, S = N + U steps (an exposure
each, then a query a user), C channels, W what is counted by channel (exposures, then each gain).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import NONE, Ints, Mask, at, both, codes, filled, floats, ints, offsets, positions
from features.facts import DS, Chunk, LateGains, channel_names, channel_positions
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.steps import (
    LARGEST_SUMMAND,
    TIME_BITS,
    counted_switches,
    known_after_columns,
    last_column,
    mean_column,
    outcome_columns,
    profile_inputs,
    running_means,
    switches_column,
)

KIND = "_kind"
EXPOSURE, QUERY = "exposure", "query"
# numpy's names. "left" is strictly before: the row that bears the time itself is not among those counted.
Side = Literal["left", "right"]
STRICTLY: Side = "left"

_NANO = 1_000_000_000
_MICRO = 1_000_000
_LAST_ID = 2**63 - 1  # the query comes after every exposure


@dataclass(frozen=True)
class Steps:
    """The steps of a chunk: an exposure each, in their order, then a query a user."""

    user_S: Ints
    at_ms_S: Ints

    @classmethod
    def of(cls, chunk: Chunk) -> "Steps":
        return cls(
            np.concatenate([chunk.user_N, np.arange(chunk.users)]),
            np.concatenate([chunk.at_ms_N, np.full(chunk.users, chunk.as_of_ms)]),
        )


@dataclass(frozen=True)
class Seen:
    """Which of F facts, which lie by user and time, each step sees: from the first of its user up to `upto`."""

    start_S: Ints
    upto_S: Ints

    @classmethod
    def of(cls, steps: Steps, user_F: Ints, at_ms_F: Ints, side: Side) -> "Seen":
        facts, asked = _key(user_F, at_ms_F), _key(steps.user_S, steps.at_ms_S)
        return cls(np.searchsorted(user_F, steps.user_S), np.searchsorted(facts, asked, side=side))

    def total(self, value_F: Ints) -> Ints:
        """[S]: the sum over the facts seen."""
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(value_F)])
        total_S: Ints = sums[self.upto_S] - sums[self.start_S]
        return total_S

    def latest(self, is_one_F: Mask) -> Ints:
        """[S]: the latest fact seen that is one of these, or NONE."""
        latest_F = np.maximum.accumulate(np.where(is_one_F, np.arange(len(is_one_F)), NONE))
        found_S = np.concatenate([[NONE], latest_F])[self.upto_S]
        return np.where(found_S >= self.start_S, found_S, NONE)


def known_steps(chunk: Chunk, dataset: Dataset, side: Side) -> pa.Table:
    """A step an exposure, in their order, then a query a user.

    Columns: those of history.with_history; what only `journeys` carries on stands beside the queries. side:
    STRICTLY, but for tests that plant a leak. Raises UserError where there are more than facts.MAX_CHANNELS
    channels.
    """
    channels = channel_names(chunk, dataset)
    steps = Steps.of(chunk)
    seen = Seen.of(steps, chunk.user_N, chunk.at_ms_N, side)
    every = LateGains.of(chunk, dataset, channels)
    # What is not known by the end goes on waiting.
    is_known_M = every.known_at_ms_M < chunk.as_of_ms
    late = every.where(is_known_M)
    late_seen = Seen.of(steps, late.user_M, late.known_at_ms_M, side)
    view = _Views(chunk, steps, seen)
    exposures, users = chunk.exposures, chunk.users

    found: dict[str, Any] = {
        "user_id": both(exposures.column("user_id"), chunk.user_id_U),
        KIND: pa.array([EXPOSURE, QUERY]).take(pa.array(np.repeat([0, 1], [len(exposures), users]))),
        DS: both(exposures.column(DS), pa.nulls(users, pa.string())),
    }
    for column in outcome_columns(dataset):
        of_queries: Any = pa.nulls(users, exposures.column(column.name).type)
        if column.name == "exposure_id":
            of_queries = pa.array(np.full(users, _LAST_ID))
        if column.name == "exposed_at_ms":
            of_queries = pa.array(np.full(users, chunk.as_of_ms))
        found[column.name] = both(exposures.column(column.name), of_queries)

    # The next exposure's context is not known at the end of a day: the latest one stands in for it.
    for column in dataset.features(Known.BEFORE):
        found[column.name] = view.own_or_latest(column.name, chunk.summary("next_step", column.name))
    for column in profile_inputs(dataset):
        found[column.name] = view.own_or_latest(column.name, chunk.summaries.column(column.name))
    for column in known_after_columns(dataset):
        of_summary = chunk.summary("next_step", last_column(column.name))
        found[last_column(column.name)] = view.latest(exposures.column(column.name), of_summary)
    found |= _running_means(chunk, steps, seen, dataset) | _switches(chunk, steps, seen, view, dataset)

    gained = {gain: np.nan_to_num(floats(exposures.column(gain))).astype(np.int64) for gain in dataset.gain_names}
    before_ms = filled(view.previous(exposures.column("exposed_at_ms"), chunk.summary("exposed_at_ms")))
    found["gap_s"] = np.where(before_ms == NONE, 0.0, (steps.at_ms_S - before_ms) / 1000)
    at_ms = {}
    for gain in dataset.gain_names:
        if gain in dataset.late_gains:
            at_ms_S = at(late.known_at_ms_M, late_seen.latest(late.gain_M == gain))
        else:
            at_ms_S = at(chunk.at_ms_N, seen.latest(gained[gain] == 1))
        at_ms[gain] = np.maximum(at_ms_S, filled(chunk.summary("last_gain_at_ms", gain))[steps.user_S])
    for gain, at_ms_S in at_ms.items():
        found[f"since_{gain}_s"] = pa.array((steps.at_ms_S - at_ms_S) / 1000, mask=at_ms_S == NONE)
    at_ms_U = [at_ms_S[len(exposures) :] for at_ms_S in at_ms.values()]
    latest = pa.StructArray.from_arrays([pa.array(ms_U, mask=ms_U == NONE) for ms_U in at_ms_U], list(at_ms))
    found["last_gain_at_ms"] = _of_queries(chunk, latest)

    one_N = np.ones(len(exposures), np.int64)
    for what in ("exposures", *dataset.gain_names):
        if what in dataset.late_gains:
            total_S = late_seen.total(late.gain_M == what)
        else:
            total_S = seen.total(one_N if what == "exposures" else gained[what])
        of_seen, of_new = (chunk.count("next_step", f"{when}_{what}") for when in ("seen", "new"))
        found[f"seen_{what}"] = total_S + of_seen[steps.user_S]
        found[f"new_{what}"] = view.since_previous(found[f"seen_{what}"], of_seen - of_new)
    cost_nano_N = np.rint(np.nan_to_num(floats(exposures.column("cost"))) * _NANO).astype(np.int64)
    of_seen = chunk.count("seen_cost_nano")
    of_new = np.rint(np.nan_to_num(floats(chunk.summary("next_step", "new_cost"))) * _NANO).astype(np.int64)
    found["seen_cost_nano"] = seen.total(cost_nano_N) + of_seen[steps.user_S]
    found["new_cost"] = view.since_previous(found["seen_cost_nano"], of_seen - of_new) / _NANO
    channel_N = channel_positions(exposures.column("channel"), channels)
    seen_SCW = np.zeros((len(steps.user_S), len(channels), 1 + len(gained)), np.int64)
    for c in range(len(channels)):
        for w, what in enumerate(("exposures", *dataset.gain_names)):
            if what in dataset.late_gains:
                seen_SCW[:, c, w] = late_seen.total((late.gain_M == what) & (late.channel_M == c))
            else:
                seen_SCW[:, c, w] = seen.total((channel_N == c) * (one_N if what == "exposures" else gained[what]))
    found |= _by_channel(chunk, steps, view, seen_SCW, dataset, channels)
    found["pending"] = _of_queries(chunk, _as_pending(every.where(~is_known_M), users, channels))
    return pa.table(found)


def _of_queries(chunk: Chunk, values: Any) -> pa.ChunkedArray:
    """[S]: a value a user, told by the query alone; a step of an exposure has none."""
    return both(pa.nulls(len(chunk.user_N), values.type), values)


class _Views:
    """Columns as the steps of a chunk see them."""

    def __init__(self, chunk: Chunk, steps: Steps, seen: Seen) -> None:
        self._chunk, exposures = chunk, len(chunk.user_N)
        of_summary_U = np.where(chunk.has_summary_U, exposures + np.arange(chunk.users), NONE)
        of_summary_S = of_summary_U[steps.user_S]
        ends_U = np.searchsorted(chunk.user_N, np.arange(chunk.users), side="right")
        # The exposure before it in the total order, seen or not; a user's first of the chunk has the summary there.
        before_S = np.concatenate([np.arange(exposures), ends_U]) - 1
        self.previous_S = np.where(before_S >= seen.start_S, before_S, of_summary_S)
        self._latest_S = np.where(seen.upto_S > seen.start_S, seen.upto_S - 1, of_summary_S)

    def latest(self, of_exposures: Any, of_summaries: Any) -> pa.ChunkedArray:
        """[S]: the value of the latest exposure seen."""
        return both(of_exposures, of_summaries).take(positions(self._latest_S))

    def previous(self, of_exposures: Any, of_summaries: Any) -> pa.ChunkedArray:
        """[S]: the value of the step before, seen or not."""
        return both(of_exposures, of_summaries).take(positions(self.previous_S))

    def own_or_latest(self, name: str, of_summaries: Any) -> pa.ChunkedArray:
        """[S]: an exposure's own value, and of a query the latest one."""
        values = both(self._chunk.exposures.column(name), of_summaries)
        own_N = np.arange(len(self._chunk.user_N))
        return values.take(positions(np.concatenate([own_N, self._latest_S[len(own_N) :]])))

    def since_previous(self, total_S: Ints, own_view_U: Ints) -> Ints:
        """[S, ...]: what has been added since the step before. own_view_U: what the summary's last step saw."""
        nothing = np.zeros((1, *own_view_U.shape[1:]), np.int64)  # at NONE, the last place
        views = np.concatenate([total_S[: len(self._chunk.user_N)], own_view_U, nothing])
        added_S: Ints = total_S - views[self.previous_S]
        return added_S


def _running_means(chunk: Chunk, steps: Steps, seen: Seen, dataset: Dataset) -> dict[str, Any]:
    """mean_<number>, and seen_sums: of each the sum in whole millionths, and how many numbers are in it."""
    found: dict[str, Any] = {}
    names = running_means(dataset)
    sums_SK = np.zeros((len(steps.user_S), len(names), 2), np.int64)
    held = chunk.summary("seen_sums")
    flat, parents = pc.list_flatten(held), ints(pc.list_parent_indices(held))
    held_name = pc.struct_field(flat, "name").to_numpy(zero_copy_only=False)
    for k, name in enumerate(names):
        value_N = floats(chunk.exposures.column(name))
        known_N = ~np.isnan(value_N)
        bounded_N = np.clip(np.where(known_N, value_N, 0.0), -LARGEST_SUMMAND, LARGEST_SUMMAND)
        of_name = held_name == name
        for part, summand_N in enumerate((np.rint(bounded_N * _MICRO).astype(np.int64), known_N.astype(np.int64))):
            of_summary_U = np.zeros(chunk.users, np.int64)
            values = ints(pc.struct_field(flat, ("micro", "count")[part]))
            of_summary_U[parents[of_name]] = values[of_name]
            sums_SK[:, k, part] = seen.total(summand_N) + of_summary_U[steps.user_S]
        micro_S, count_S = sums_SK[:, k].T
        found[mean_column(name)] = pa.array(micro_S / _MICRO / np.maximum(count_S, 1), mask=count_S == 0)
    sums_UK = sums_SK[len(chunk.user_N) :]
    entries = pa.StructArray.from_arrays(
        [
            pa.array(list(names), pa.string()).take(pa.array(np.tile(np.arange(len(names)), len(sums_UK)))),
            pa.array(sums_UK[:, :, 0].ravel()), pa.array(sums_UK[:, :, 1].ravel()),
        ],
        ["name", "micro", "count"],
    )  # fmt: skip
    of_users = pa.ListArray.from_arrays(offsets(np.full(chunk.users, len(names))), entries)
    found["seen_sums"] = _of_queries(chunk, of_users)
    return found


def _switches(chunk: Chunk, steps: Steps, seen: Seen, view: _Views, dataset: Dataset) -> dict[str, Any]:
    """How often each category differed from the exposure before it; a user's first exposure changes nothing."""
    found: dict[str, Any] = {}
    before_N = view.previous_S[: len(chunk.user_N)]
    for name in counted_switches(dataset):
        values = both(chunk.exposures.column(name), chunk.summary("next_step", last_column(name)))
        code = codes(values)
        changed_N = (code[: len(before_N)] != code[before_N]) & (before_N != NONE)
        of_summary_U = chunk.count("next_step", switches_column(name))
        found[switches_column(name)] = seen.total(changed_N.astype(np.int64)) + of_summary_U[steps.user_S]
    return found


def _by_channel(
    chunk: Chunk, steps: Steps, view: _Views, seen_SCW: Ints, dataset: Dataset, channels: Sequence[str]
) -> dict[str, Any]:
    """seen_by_channel and new_by_channel. seen_SCW: counts of what the chunk's own facts have brought."""
    what = ("exposures", *dataset.gain_names)
    of_seen, of_new = (_summary_counts(chunk, f"{when}_by_channel", what, channels) for when in ("seen", "new"))
    total_SCW = seen_SCW + of_seen[steps.user_S]
    new_SCW = view.since_previous(total_SCW, of_seen - of_new)
    return {
        "seen_by_channel": _as_entries(total_SCW, what, channels),
        "new_by_channel": _as_entries(new_SCW, what, channels),
    }


def _summary_counts(chunk: Chunk, name: str, what: Sequence[str], channels: Sequence[str]) -> Ints:
    """[U, C, W]: the summaries' counts."""
    held = chunk.summary("next_step", name)
    flat, user = pc.list_flatten(held), ints(pc.list_parent_indices(held))
    counts_UCW = np.zeros((chunk.users, len(channels), len(what)), np.int64)
    channel = channel_positions(pc.struct_field(flat, "channel"), channels)
    for w, field in enumerate(what):
        counts_UCW[user, channel, w] = ints(pc.struct_field(flat, field))
    return counts_UCW


def _as_entries(counts_SCW: Ints, what: Sequence[str], channels: Sequence[str]) -> pa.ListArray:
    """A list a step: the channels that have a count, in the order of `channels`."""
    has_SC = (counts_SCW > 0).any(axis=2)
    step, channel = np.nonzero(has_SC)
    counts = counts_SCW[step, channel].astype(np.int32)
    entries = pa.StructArray.from_arrays(
        [pa.array(list(channels), pa.string()).take(pa.array(channel)), *(pa.array(column) for column in counts.T)],
        ["channel", *what],
    )
    return pa.ListArray.from_arrays(offsets(has_SC.sum(axis=1)), entries)


def _as_pending(waiting: LateGains, users: int, channels: Sequence[str]) -> pa.ListArray:
    """[U]: what each user's exposures may still bring, in order of time."""
    entries = pa.StructArray.from_arrays(
        [
            pa.array(waiting.known_at_ms_M),
            pa.array(list(channels), pa.string()).take(pa.array(waiting.channel_M)),
            pa.array(waiting.gain_M, pa.string()),
        ],
        ["known_at_ms", "channel", "gain"],
    )
    return pa.ListArray.from_arrays(offsets(np.bincount(waiting.user_M, minlength=users)), entries)


def _key(user: Ints, at_ms: Ints) -> Ints:
    """One number that orders by user, then time."""
    return (user << TIME_BITS) + at_ms
