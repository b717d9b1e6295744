"""Turns windows in the layout of schemas/steps.py into the model's arrays, by the feature spec.

Shape suffixes as in batch.py, with N windows of a table or store in place of B.

The order of the inputs is fixed; `input_names` lists them:
- categorical: the spec's kept categories of a step, then those of the profile, each in the spec's order;
- numeric: the spec's kept numbers of a step, then the history inputs that every dataset has (log counts, smoothed
  gain rates, and both for each channel of the spec), then the kept numbers of the profile;
- reward: see reward_inputs.py.
Whole columns are converted together; no loop runs over rows or steps.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mtorl_model.data.batch import Batch, InputSizes, step_features
from mtorl_model.data.delayed_feedback import LabelCutoff
from mtorl_model.data.reward_inputs import GAINS_AND_REWARD, RewardInputs
from schemas.contract import Role
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import UNKNOWN_CHANNEL
from schemas.tables.feature_spec import OUT_OF_VOCABULARY, Feature, FeatureSpec

# Scaled numbers are clipped at this many standard deviations: beyond it, the exact size carries no information.
NUMERIC_LIMIT = 8.0
# A gain rate is (gains + PRIOR_GAINS) / (exposures + PRIOR_EXPOSURES), so that one lucky click is not a rate of 1.
PRIOR_GAINS, PRIOR_EXPOSURES = 1.0, 10.0

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class InputNames(NamedTuple):
    """A name for each index of the last axis of categorical_BLK, numeric_BLF and reward_in_BLR."""

    categorical: tuple[str, ...]
    numeric: tuple[str, ...]
    reward: tuple[str, ...]


class Labels(NamedTuple):
    """Which steps of N windows are labels, and their outcomes: see Encoded."""

    label_NL: Array
    action_NL: Array
    gains_NLG: Array


class Encoded(NamedTuple):
    """N windows as arrays, in memory or mapped from files. Profile inputs are stored once for each window."""

    categorical_NLK: Array  # int32, 0 = missing, unseen or padding
    profile_categorical_NK: Array  # int32
    numeric_NLF: Array  # float32, like all arrays below without another type
    profile_numeric_NF: Array
    action_in_NLA: Array
    reward_in_NLR: Array
    valid_NL: Array  # bool
    label_NL: Array  # bool
    action_NL: Array  # int32, -1 = no channel, or one that the spec does not know
    gains_NLG: Array
    maturity_NLG: Array
    reward_NL: Array

    def take(self, rows: npt.NDArray[np.int64] | slice) -> "Encoded":
        """The windows of those rows, copied into memory."""
        return Encoded(*(np.array(array[rows]) for array in self))

    def labels(self, rows: npt.NDArray[np.int64] | slice) -> "Labels":
        """The labels of those windows alone."""
        return Labels(*(np.array(getattr(self, name)[rows]) for name in Labels._fields))

    def label_features(self) -> npt.NDArray[np.float32]:
        """The inputs of each label step as one row of numbers, [labels, columns]; see step_features."""
        return step_features(self.batch(), self.label_NL)

    def batch(self) -> Batch:
        """The windows as tensors; the profile is repeated at every real step."""
        valid_NL1 = self.valid_NL[:, :, None]
        categorical = _with_profile(self.categorical_NLK, self.profile_categorical_NK, valid_NL1)
        numeric = _with_profile(self.numeric_NLF, self.profile_numeric_NF, valid_NL1)
        return Batch(
            categorical_BLK=torch.from_numpy(categorical.astype(np.int64)),
            numeric_BLF=torch.from_numpy(numeric),
            action_in_BLA=torch.from_numpy(self.action_in_NLA),
            reward_in_BLR=torch.from_numpy(self.reward_in_NLR),
            valid_BL=torch.from_numpy(self.valid_NL),
            label_BL=torch.from_numpy(self.label_NL),
            action_BL=torch.from_numpy(self.action_NL.astype(np.int64)),
            gains_BLG=torch.from_numpy(self.gains_NLG),
            maturity_BLG=torch.from_numpy(self.maturity_NLG),
            reward_BL=torch.from_numpy(self.reward_NL),
        )


def _with_profile(steps_NLX: Array, profile_NX: Array, valid_NL1: Bools) -> Array:
    return np.concatenate([steps_NLX, profile_NX[:, None, :] * valid_NL1], axis=2)


def input_names(spec: FeatureSpec, reward_inputs: RewardInputs) -> InputNames:
    """The names of the inputs, in their order."""
    gains, channels = spec.gains, spec.channels
    categorical = (f.name for static in (False, True) for f in _kept_features(spec, Role.CATEGORICAL, static))
    return InputNames(
        categorical=tuple(categorical),
        numeric=(
            *(f.name for f in _kept_features(spec, Role.NUMERIC, False)),
            *(f"log_{prefix}_{event}" for prefix in ("seen", "new") for event in ("exposures", *gains)),
            *(f"rate_{g}" for g in gains),
            *(f"log_seen_{c}" for c in channels),
            *(f"share_{c}" for c in channels),
            *(f"rate_{g}_{c}" for g in gains for c in channels),
            *(f.name for f in _kept_features(spec, Role.NUMERIC, True)),
        ),
        reward=reward_inputs.names(gains),
    )


def input_sizes(spec: FeatureSpec, reward_inputs: RewardInputs) -> InputSizes:
    """The sizes that a model's weights depend on."""
    names = input_names(spec, reward_inputs)
    vocabulary = {f.name: len(f.vocabulary) + 1 for f in spec.kept_features}
    return InputSizes(
        vocabulary=tuple(vocabulary[name] for name in names.categorical),
        numeric=len(names.numeric),
        actions=len(spec.channels),
        reward_inputs=len(names.reward),
        gains=len(spec.gains),
    )


def _kept_features(spec: FeatureSpec, role: Role, static: bool) -> list[Feature]:
    return [f for f in spec.kept_features if f.role == role.value and f.static is static]


class Encoder:
    """Applies a feature spec, unchanged, to windows of its dataset."""

    def __init__(self, spec: FeatureSpec, dataset: Dataset, reward_inputs: RewardInputs = GAINS_AND_REWARD) -> None:
        """Raises UserError if the spec is for another dataset, or if its smallest and largest reward are equal."""
        if (spec.dataset, spec.gains) != (dataset.name, dataset.gain_names):
            raise UserError(
                f"the feature spec is for {spec.dataset} with the gains {', '.join(spec.gains)}, not for "
                f"{dataset.name} with {', '.join(dataset.gain_names)}: fit it again (make run)"
            )
        if not spec.reward.high > spec.reward.low:
            raise UserError(f"all training users of {dataset.name} earn the same reward, so no model can be trained")
        self.spec, self.dataset = spec, dataset
        self.reward_inputs = reward_inputs
        self._late_gains_at = dataset.late_gain_times
        self._weights_G = np.array(spec.gain_weights)

    @property
    def input_names(self) -> InputNames:
        return input_names(self.spec, self.reward_inputs)

    @property
    def sizes(self) -> InputSizes:
        """The sizes that a model's weights depend on."""
        return input_sizes(self.spec, self.reward_inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of padded windows (schemas/steps.py) that are read."""
        events = ("exposures", *self.spec.gains)
        return (
            "valid",
            *(f.name for f in self.spec.kept_features),
            *(f"{prefix}_{event}" for prefix in ("seen", "new") for event in events),
            "new_cost",
            *(f"seen_{event}_by_channel" for event in events),
            "new_exposures_by_channel",
            "is_label",
            "channel",
            *self.spec.gains,
            "cost",
        )

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns of padded windows that are read in addition if there is a label cutoff."""
        return ("exposed_at_ms", *self._late_gains_at.values())

    def encode(self, table: pa.Table | pa.RecordBatch, cutoff: LabelCutoff | None = None) -> Encoded:
        """The windows of a table as arrays.

        cutoff: labels contain the outcome as it was known at that moment; None: the full outcome. Raises UserError if
        a column is missing, or if a list and `valid` have different lengths.
        """
        categorical_NK, numeric_NF = self.encode_profile(table)
        steps = self.encode_steps(table, cutoff)
        return steps._replace(profile_categorical_NK=categorical_NK, profile_numeric_NF=numeric_NF)

    def encode_steps(self, table: pa.Table | pa.RecordBatch, cutoff: LabelCutoff | None = None) -> Encoded:
        """`encode` without the columns of the profile; the arrays of the profile have no columns."""
        windows = _Windows(table)
        valid_NL = windows.flags("valid")
        seen_exposures, new_exposures = windows.counts("seen_exposures"), windows.counts("new_exposures")
        seen_NLG = _stack([windows.counts(f"seen_{g}") for g in self.spec.gains])
        new_NLG = _stack([windows.counts(f"new_{g}") for g in self.spec.gains])
        width = len(self.spec.channels)
        exposures_NLA = windows.per_channel("seen_exposures_by_channel", width)
        gains_by_channel = [windows.per_channel(f"seen_{g}_by_channel", width) for g in self.spec.gains]
        numeric_NLF = np.concatenate(
            [
                *(_scaled(windows.numbers(f.name), f)[..., None] for f in self._features(Role.NUMERIC, False)),
                np.log1p(seen_exposures)[..., None],
                np.log1p(seen_NLG),
                np.log1p(new_exposures)[..., None],
                np.log1p(new_NLG),
                _smoothed_rate(seen_NLG, seen_exposures[..., None]),
                np.log1p(exposures_NLA),
                exposures_NLA / np.maximum(seen_exposures, 1)[..., None],
                *(_smoothed_rate(gained_NLA, exposures_NLA) for gained_NLA in gains_by_channel),
            ],
            axis=-1,
        )
        # If one exposure was added since the previous step, this is exactly the one-hot a_{t-1} of the paper. Several
        # exposures with one time stamp count by their square root, so that a burst does not dominate the other inputs.
        action_in_NLA = np.sqrt(windows.per_channel("new_exposures_by_channel", width))
        reward_in_NLR = self.reward_inputs.encode(new_NLG, self._scaled_reward(new_NLG, windows.counts("new_cost")))
        codes = [_codes(windows.steps(f.name), f).reshape(valid_NL.shape) for f in self._features(Role.CATEGORICAL)]
        real = valid_NL[..., None]  # sets every input at padding to 0
        return Encoded(
            categorical_NLK=(_stack(codes, valid_NL.shape) * real).astype(np.int32),
            profile_categorical_NK=np.zeros((len(valid_NL), 0), np.int32),
            numeric_NLF=(numeric_NLF * real).astype(np.float32),
            profile_numeric_NF=np.zeros((len(valid_NL), 0), np.float32),
            action_in_NLA=(action_in_NLA * real).astype(np.float32),
            reward_in_NLR=(reward_in_NLR * real).astype(np.float32),
            valid_NL=valid_NL,
            **self._labels(windows, valid_NL, cutoff),
        )

    def encode_profile(self, table: pa.Table | pa.RecordBatch) -> tuple[Ints, npt.NDArray[np.float32]]:
        """[N, K] and [N, F]: the columns of the profile of a table with a value in each row."""
        codes = [_codes(_values(table, f.name), f) for f in self._features(Role.CATEGORICAL, True)]
        numbers = [_scaled(_floats(_values(table, f.name)), f) for f in self._features(Role.NUMERIC, True)]
        shape = (table.num_rows,)
        return _stack(codes, shape).astype(np.int32), _stack(numbers, shape).astype(np.float32)

    def _features(self, role: Role, static: bool = False) -> list[Feature]:
        return _kept_features(self.spec, role, static)

    def _scaled_reward(self, gains_NLG: Array, cost_NL: Array) -> Array:
        """minmax(g - s w) of equation 3, with the fused gain of equation 18; [N, L], in [0, 1]."""
        scale = self.spec.reward
        penalised_NL = gains_NLG @ self._weights_G - scale.penalty * cost_NL
        scaled_NL: Array = np.clip((penalised_NL - scale.low) / (scale.high - scale.low), 0.0, 1.0)
        return scaled_NL

    def _labels(self, windows: "_Windows", valid_NL: Bools, cutoff: LabelCutoff | None) -> dict[str, Array]:
        channels = pa.array(self.spec.channels, pa.string())
        action_NL = _index_in(windows.steps("channel"), channels).reshape(valid_NL.shape)
        gains_NLG = _stack([windows.counts(g) for g in self.spec.gains])
        maturity_NLG = np.ones_like(gains_NLG)
        if cutoff is not None and self._late_gains_at:
            age_s_NL = np.nan_to_num((cutoff.at_ms - windows.numbers("exposed_at_ms")) / 1000)
            for k, gain in enumerate(self.spec.gains):
                if gain in self._late_gains_at:
                    known_at_NL = windows.numbers(self._late_gains_at[gain])  # NaN without a gain
                    gains_NLG[..., k] *= known_at_NL < cutoff.at_ms  # False for NaN
                    maturity_NLG[..., k] = cutoff.maturity[gain].share_known(age_s_NL)
        return {
            # A channel that the spec does not know hides the action, not the gains. Without a channel: no label.
            "label_NL": windows.flags("is_label") & valid_NL & windows.has_text("channel"),
            "action_NL": action_NL,
            "gains_NLG": gains_NLG.astype(np.float32),
            "maturity_NLG": maturity_NLG.astype(np.float32),
            "reward_NL": (self._scaled_reward(gains_NLG, windows.counts("cost")) * valid_NL).astype(np.float32),
        }


class _Windows:
    """Columns of windows by name, as arrays. Raises UserError if a column is missing or a list has another length."""

    def __init__(self, table: pa.Table | pa.RecordBatch) -> None:
        self._table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        lengths = pc.unique(pc.list_value_length(self._column("valid"))).to_pylist()
        if len(lengths) > 1:
            raise UserError(f"windows of {sorted(map(str, lengths))} steps in one table: the model reads one length")
        self._shape = (self._table.num_rows, lengths[0] if lengths else 0)

    def flags(self, name: str) -> Bools:
        """[N, L]; null becomes False."""
        values: Bools = pc.fill_null(self.steps(name), False).to_numpy(zero_copy_only=False).reshape(self._shape)
        return values

    def has_text(self, name: str) -> Bools:
        """[N, L]: whether the step has a value that is not empty."""
        is_named = pc.not_equal(pc.cast(self.steps(name), pa.string()), UNKNOWN_CHANNEL)
        named: Bools = pc.fill_null(is_named, False).to_numpy(zero_copy_only=False).reshape(self._shape)
        return named

    def counts(self, name: str) -> Doubles:
        """[N, L]; null becomes 0."""
        return np.nan_to_num(self.numbers(name))

    def numbers(self, name: str) -> Doubles:
        """[N, L]; null becomes NaN."""
        return _floats(self.steps(name)).reshape(self._shape)

    def per_channel(self, name: str, width: int) -> Doubles:
        """[N, L, width]; a null step or entry becomes 0."""
        steps = self.steps(name)
        _require_lengths(steps, width, f"{name}: counts of another number of channels than the spec's {width}")
        counts = np.zeros((len(steps), width))
        counts[steps.is_valid().to_numpy(zero_copy_only=False)] = _floats(steps.flatten()).reshape(-1, width)
        return np.nan_to_num(counts).reshape(*self._shape, width)

    def steps(self, name: str) -> pa.Array:
        """The N * L entries of a list column; nulls stay."""
        column = self._column(name)
        if column.null_count:
            raise UserError(f"a window without {name}: build the partition again (make run)")
        _require_lengths(column, self._shape[1], f"{name}: not as many entries as steps in the window")
        return column.flatten()

    def _column(self, name: str) -> pa.Array:
        return _values(self._table, name)


def _values(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    """A column as one array. Raises UserError if it is missing."""
    if name not in table.schema.names:
        raise UserError(f"windows lack the column {name} that the feature spec keeps: build them again (make run)")
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _require_lengths(lists: pa.Array, length: int, message: str) -> None:
    bounds = pc.min_max(pc.list_value_length(lists)).as_py()
    if not {bounds["min"], bounds["max"]} <= {length, None}:
        raise UserError(f"windows: {message}; build the partition again (make run)")


def _floats(values: pa.Array) -> Doubles:
    numbers: Doubles = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _index_in(values: pa.Array, vocabulary: pa.Array) -> Ints:
    """Index of each value, as text, in the vocabulary; -1 if it is null or not in the vocabulary."""
    index_or_null = pc.index_in(pc.cast(values, pa.string()), value_set=vocabulary)
    index: Ints = pc.fill_null(index_or_null, -1).to_numpy(zero_copy_only=False)
    return index


def _codes(values: pa.Array, feature: Feature) -> Ints:
    """Codes from 1 in the spec's order; 0 if missing or unseen."""
    codes: Ints = _index_in(values, pa.array(feature.vocabulary, pa.string())) + (OUT_OF_VOCABULARY + 1)
    return codes


def _scaled(values: Doubles, feature: Feature) -> Doubles:
    """(x - mean) / std, where x is log1p(value / unit) if the feature has a unit; missing values become 0.

    Clipped to [-NUMERIC_LIMIT, NUMERIC_LIMIT]. Raises UserError if the spec has no mean and positive scale.
    """
    if feature.mean is None or feature.std is None or not (math.isfinite(feature.mean) and feature.std > 0):
        raise UserError(f"feature spec: {feature.name} has no mean and positive scale; fit the spec again (make run)")
    if feature.unit is not None:
        # Some logs write a negative amount in place of a missing one or 0.
        values = np.log1p(np.maximum(values, 0.0) / feature.unit)
    return np.nan_to_num(np.clip((values - feature.mean) / feature.std, -NUMERIC_LIMIT, NUMERIC_LIMIT))


def _smoothed_rate(gains: Array, exposures: Array) -> Array:
    rate: Array = (gains + PRIOR_GAINS) / (exposures + PRIOR_EXPOSURES)
    return rate


def _stack(arrays: Sequence[Array], shape: tuple[int, ...] = ()) -> Array:
    """The arrays stacked along a new last axis; without arrays, zeros of the shape (*shape, 0)."""
    return np.stack(arrays, axis=-1) if arrays else np.zeros((*shape, 0))
