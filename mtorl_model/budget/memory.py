"""The journey memories of algorithm 1: after every exposure, the next window of each user is available without delay.

At night, a user's window is computed from all exposures (features/point_in_time.py, then
mtorl_model.data.windows.next_steps). Within a day that would take too long: here, running totals are updated by one
exposure, which is another algorithm. Both share how totals become inputs (features/figures.py), and both give the same
inputs for the same exposures (tests/mtorl_model/budget/test_memory.py).

A step's inputs do not depend on its own outcome. So a window moves on by one position and only its last position is
new: the inputs of each step are encoded once, by the model's own encoder, and kept.

Exposures of one user come in order and at distinct times.
Shapes: U users, N of them, L steps, A actions (channels), G gains.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.columns import fixed_length_lists
from features.figures import NEVER, from_nano, gap_s, mean_of_sums, since_s, to_summands
from lakehouse.rows import ARROW_TYPES
from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.environment import LateGain, Moment, Outcome, json_value
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.money import Ints
from mtorl_model.inference.channel_level import click_gain
from schemas.contract import Known, Role
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import (
    MEMORY_STEPS,
    counted_switches,
    known_after_columns,
    last_column,
    mean_column,
    running_means,
    switches_column,
)

_STEP_FIELDS = ("categorical_NLK", "numeric_NLF", "action_in_NLA", "reward_in_NLR", "valid_NL")

Objects = npt.NDArray[Any]


class JourneyMemory:
    """The journeys of U users, empty at first."""

    def __init__(self, encoder: Encoder, dataset: Dataset, profile: Mapping[str, pa.Array], users: int, steps: int):
        """profile: the dataset's profile columns, [U]. steps: L, the length of the windows."""
        spec = encoder.spec
        self._encoder, self._dataset, self._profile = encoder, dataset, profile
        self.users, self._steps = users, steps
        actions, gains = len(spec.channels), len(spec.gains)
        self._channels = np.array([*spec.channels, None], dtype=object)
        self._step_features = [f.name for f in spec.kept_features if not f.static]
        # The totals that are known now, and those that were known at the user's latest step.
        self._seen = _Counts(users, actions, gains)
        self._seen_at_step = _Counts(users, actions, gains)
        self._step_ms_U = np.full(users, NEVER)
        self._gain_ms_UG = np.full((users, gains), NEVER)
        read = {
            c.name
            for c in known_after_columns(dataset)
            for f in (last_column, mean_column, switches_column)
            if f(c.name) in self._step_features
        }
        self._last_U: dict[str, Objects] = {name: np.full(users, None, object) for name in sorted(read)}
        self._sum_micro_U = {name: np.zeros(users, np.int64) for name in running_means(dataset) if name in read}
        self._summands_U = {name: np.zeros(users, np.int64) for name in self._sum_micro_U}
        self._switches_U = {name: np.zeros(users, np.int64) for name in counted_switches(dataset) if name in read}
        # The exposures of the latest steps, the newest last, and the encoded inputs of fewer of them.
        self._click_gain = click_gain(dataset)
        self._at_ms_UT = np.zeros((users, MEMORY_STEPS), np.int64)
        self._channel_UT = np.full((users, MEMORY_STEPS), NO_EXPOSURE, np.int64)
        self._click_UT = np.zeros((users, MEMORY_STEPS), np.int64)
        empty = self._encode(np.arange(0), np.arange(0), self._no_context())
        self._past = {
            name: np.zeros((users, steps - 1, *getattr(empty, name).shape[2:]), getattr(empty, name).dtype)
            for name in _STEP_FIELDS
        }

    @property
    def exposures_UA(self) -> Ints:
        """Exposures seen, by channel of the spec."""
        return self._seen.exposures_UA

    @property
    def gains_UAG(self) -> Ints:
        """Gains known, by channel of the spec."""
        return self._seen.gains_UAG

    def record(self, user_N: Ints) -> ClickRecord:
        """The exposures and clicks of these users. A click that becomes known late is missing."""
        return ClickRecord.from_totals(
            self._at_ms_UT[user_N],
            self._channel_UT[user_N],
            self._click_UT[user_N],
            self.exposures_UA[user_N],
            self.gains_UAG[user_N, :, self._click_gain],
        )

    def windows(self, moment: Moment) -> Encoded:
        """The windows that end with the next step of the moment's users, [N]; no step is a label."""
        user_N = moment.user_N
        newest = self._encode(user_N, moment.at_ms_N, moment.context)
        arrays = {
            name: np.concatenate([self._past[name][user_N], getattr(newest, name)], axis=1) for name in _STEP_FIELDS
        }
        shape = arrays["valid_NL"].shape
        return newest._replace(
            **arrays,
            label_NL=np.zeros(shape, np.bool_),
            action_NL=np.full(shape, -1, np.int32),
            gains_NLG=np.zeros((*shape, self._gain_ms_UG.shape[1]), np.float32),
            maturity_NLG=np.ones((*shape, self._gain_ms_UG.shape[1]), np.float32),
            reward_NL=np.zeros(shape, np.float32),
        )

    def check(self, moment: Moment) -> None:
        """Raise UserError for a moment whose exposures could not be observed."""
        user_N = moment.user_N
        if (np.diff(user_N) <= 0).any() or not ((user_N >= 0) & (user_N < self.users)).all():
            raise UserError("the users of a moment must be distinct, ascending, and users of the environment")
        self._encode(user_N[:1], moment.at_ms_N[:1], {name: v.slice(0, 1) for name, v in moment.context.items()})
        self._require_later(user_N, moment.at_ms_N)
        for name, values in moment.context.items():
            if len(values) != len(user_N):
                raise UserError(
                    f"a moment of {len(user_N)} users has {len(values)} values of {name}: one each is needed"
                )

    def unreadable(self, outcome: Outcome) -> str | None:
        """Why the attributes of these exposures cannot be remembered; None if they can."""
        offers, dtypes = len(outcome.user_N), {c.name: c.dtype for c in known_after_columns(self._dataset)}
        for name, values in outcome.attributes.items():
            if len(values) != offers:
                return f"returns {len(values)} values of {name} for {offers} offers"
            try:
                json.dumps([json_value(value) for value in values], allow_nan=False)
            except (TypeError, ValueError):
                return f"returns a {name} that is not a plain value (None, text, a whole or finite number)"
            try:
                pa.array(values, ARROW_TYPES[dtypes[name]] if name in dtypes else None)
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                return f"returns a {name} that is not {dtypes.get(name, 'one type of value')}"
        return None

    def observe(self, outcome: Outcome, context: Mapping[str, pa.Array]) -> Encoded:
        """Add the offers that became exposures. context: the `before` columns of their steps, one value for each offer.

        Returns the encoded inputs of these steps, as windows of one position, as they were known before the exposures.
        """
        exposed_N = outcome.exposed_N
        user_N, at_ms_N, channel_N = outcome.user_N[exposed_N], outcome.at_ms_N[exposed_N], outcome.channel_N[exposed_N]
        gains_NG = outcome.gains_NG[exposed_N]
        # In a log without costs, the model has never seen one: what a campaign pays is in the ledger alone.
        cost_nano_N = outcome.cost_nano_N[exposed_N] if self._dataset.has_costs else np.zeros(len(user_N), np.int64)
        step = self._encode(
            user_N, at_ms_N, {name: values.filter(pa.array(exposed_N)) for name, values in context.items()}
        )
        if not len(user_N):
            return step
        for name in _STEP_FIELDS:
            past = self._past[name]
            past[user_N] = np.concatenate([past[user_N, 1:], getattr(step, name)], axis=1)
        for past_UT, value_N in (
            (self._at_ms_UT, at_ms_N),
            (self._channel_UT, channel_N),
            (self._click_UT, gains_NG[:, self._click_gain]),
        ):
            past_UT[user_N] = np.column_stack([past_UT[user_N, 1:], value_N])

        first_N = self._seen.exposures_U[user_N] == 0
        self._seen_at_step.copy_from(self._seen, user_N)
        self._seen.add(user_N, channel_N, gains_NG, cost_nano_N)
        self._gain_ms_UG[user_N] = np.where(gains_NG > 0, at_ms_N[:, None], self._gain_ms_UG[user_N])
        self._step_ms_U[user_N] = at_ms_N
        values: dict[str, Sequence[Any] | Objects] = {
            "channel": self._channels[channel_N],
            "cost": from_nano(cost_nano_N),
        }
        for name in self._last_U:
            if name in outcome.attributes:
                values[name] = [v for v, exposed in zip(outcome.attributes[name], exposed_N, strict=True) if exposed]
            self._add_values(name, user_N, _objects(values.get(name, [None] * len(user_N))), first_N)
        return step

    def add_late_gains(self, late_gains: Sequence[LateGain]) -> None:
        """Add gains of earlier exposures that have become known."""
        for late in late_gains:
            self._seen.gains_UG[late.user, late.gain] += 1
            if late.channel >= 0:
                self._seen.gains_UAG[late.user, late.channel, late.gain] += 1
            latest_ms = self._gain_ms_UG[late.user, late.gain]
            self._gain_ms_UG[late.user, late.gain] = max(latest_ms, late.known_at_ms)

    def _add_values(self, name: str, user_N: Ints, value_N: Objects, first_N: npt.NDArray[np.bool_]) -> None:
        """Add the values of one column. first_N: whether the exposure is its user's first."""
        if name in self._sum_micro_U:
            number_N = np.array([np.nan if value is None else float(value) for value in value_N], dtype=np.float64)
            summand_N, is_number_N = to_summands(number_N)
            self._sum_micro_U[name][user_N] += summand_N
            self._summands_U[name][user_N] += is_number_N
        if name in self._switches_U:
            self._switches_U[name][user_N] += (value_N != self._last_U[name][user_N]) & ~first_N
        self._last_U[name][user_N] = value_N

    def _no_context(self) -> dict[str, pa.Array]:
        return {c.name: pa.array([], ARROW_TYPES[c.dtype]) for c in self._dataset.features(Known.BEFORE)}

    def _encode(self, user_N: Ints, at_ms_N: Ints, context: Mapping[str, pa.Array]) -> Encoded:
        """The next step of these users, as windows of one position."""
        self._require_later(user_N, at_ms_N)
        seen, at_step = self._seen, self._seen_at_step
        columns: dict[str, pa.Array] = {
            "valid": pa.array(np.ones(len(user_N), np.bool_)),
            "is_label": pa.array(np.zeros(len(user_N), np.bool_)),
            "channel": pa.nulls(len(user_N), pa.string()),
            "cost": pa.nulls(len(user_N), pa.float64()),
            "seen_exposures": pa.array(seen.exposures_U[user_N]),
            "new_exposures": pa.array((seen.exposures_U - at_step.exposures_U)[user_N]),
            "new_cost": pa.array(from_nano((seen.cost_nano_U - at_step.cost_nano_U)[user_N])),
        }
        per_channel = {
            "seen_exposures_by_channel": seen.exposures_UA[user_N],
            "new_exposures_by_channel": seen.exposures_UA[user_N] - at_step.exposures_UA[user_N],
        }
        for k, gain in enumerate(self._dataset.gain_names):
            columns[gain] = pa.nulls(len(user_N), pa.int32())
            columns[f"seen_{gain}"] = pa.array(seen.gains_UG[user_N, k])
            columns[f"new_{gain}"] = pa.array(seen.gains_UG[user_N, k] - at_step.gains_UG[user_N, k])
            per_channel[f"seen_{gain}_by_channel"] = seen.gains_UAG[user_N, :, k]
        columns |= {name: self._feature(name, user_N, at_ms_N, context) for name in self._step_features}
        lists = {name: fixed_length_lists(values, 1) for name, values in columns.items()}
        for name, counts_NA in per_channel.items():
            lists[name] = fixed_length_lists(fixed_length_lists(pa.array(counts_NA.ravel()), counts_NA.shape[1]), 1)
        feature_names = {f.name for f in self._encoder.spec.kept_features}
        rows = pa.array(user_N)
        lists |= {name: values.take(rows) for name, values in self._profile.items() if name in feature_names}
        return self._encoder.encode(pa.table(lists))

    def _require_later(self, user_N: Ints, at_ms_N: Ints) -> None:
        if (at_ms_N <= self._step_ms_U[user_N]).any():
            raise UserError("exposures of one user must come in order and at distinct times")

    def _feature(self, name: str, user_N: Ints, at_ms_N: Ints, context: Mapping[str, pa.Array]) -> pa.Array:
        """A candidate of schemas.steps.feature_inputs."""
        if name == "gap_s":
            return pa.array(gap_s(at_ms_N, self._step_ms_U[user_N]))
        for k, gain in enumerate(self._dataset.gain_names):
            if name == f"since_{gain}_s":
                return since_s(at_ms_N, self._gain_ms_UG[user_N, k])
        for column in known_after_columns(self._dataset):
            if name == last_column(column.name):
                return pa.array(self._last_U[column.name][user_N].tolist(), ARROW_TYPES[column.dtype])
            if name == mean_column(column.name) and column.role is Role.NUMERIC:
                return mean_of_sums(self._sum_micro_U[column.name][user_N], self._summands_U[column.name][user_N])
            if name == switches_column(column.name) and column.role is Role.CATEGORICAL:
                return pa.array(self._switches_U[column.name][user_N])
        if name in context:
            return context[name]
        raise UserError(f"the environment does not give {name}, which the model reads: every moment must have it")


class _Counts:
    """Running totals of U users; of channels, those of the spec."""

    def __init__(self, users: int, actions: int, gains: int) -> None:
        self.exposures_U = np.zeros(users, np.int64)
        self.cost_nano_U = np.zeros(users, np.int64)
        self.gains_UG = np.zeros((users, gains), np.int64)
        self.exposures_UA = np.zeros((users, actions), np.int64)
        self.gains_UAG = np.zeros((users, actions, gains), np.int64)

    def add(self, user_N: Ints, channel_N: Ints, gains_NG: Ints, cost_nano_N: Ints) -> None:
        """Add one exposure for each of these users. No user appears twice."""
        self.exposures_U[user_N] += 1
        self.cost_nano_U[user_N] += cost_nano_N
        self.gains_UG[user_N] += gains_NG
        known_N = channel_N >= 0
        self.exposures_UA[user_N[known_N], channel_N[known_N]] += 1
        self.gains_UAG[user_N[known_N], channel_N[known_N]] += gains_NG[known_N]

    def copy_from(self, source: "_Counts", user_N: Ints) -> None:
        for name, totals in vars(self).items():
            totals[user_N] = getattr(source, name)[user_N]


def _objects(values: Sequence[Any] | Objects) -> Objects:
    result = np.empty(len(values), dtype=object)
    result[:] = [None if value is None or value != value else value for value in values]
    return result
