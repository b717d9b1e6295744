"""Cut the one window that scores a user: the remembered steps, and the next one as the last position.

Training windows are cut by Spark into the table `sequences`; at scoring the journeys are at hand already,
so the same layout is built from them in Arrow, in arithmetic on list offsets.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec
from schemas.tables.sequences import counted_by_channel


def journeys_to_windows(journeys: pa.Table, spec: FeatureSpec, dataset: Dataset, steps: int) -> pa.Table:
    """One window of `steps` positions for each row of `journeys`, rows in their order.

    journeys: the layout of schemas/tables/journeys.py, or journey_columns of it. Returns the layout of
    schemas/tables/sequences.py without the training columns `window` and `split`, and without outcomes that
    `journeys` lacks: the latest steps - 1 remembered steps, then
    `next_step`, valid and without outcome; padded on the left; no step is a label.
    """
    memory = journeys.column("memory").combine_chunks()
    upcoming = journeys.column("next_step").combine_chunks()
    users = len(journeys)

    # Remembered steps and next steps lie in one pool; each position of a window takes one entry, or null.
    past_steps = memory.flatten()
    lengths = pc.list_value_length(memory).to_numpy()
    ends = np.cumsum(lengths)
    starts = ends - lengths
    remembered = ends[:, None] + np.arange(1 - steps, 0)
    upcoming_at = len(past_steps) + np.arange(users)[:, None]
    entry = np.concatenate([remembered, upcoming_at], axis=1)
    valid = np.concatenate([remembered >= starts[:, None], np.ones((users, 1), dtype=bool)], axis=1)
    entries = pa.array(entry.ravel(), mask=~valid.ravel())

    def per_step(name: str) -> pa.Array:
        if past_steps.type.get_field_index(name) < 0:
            raise UserError(f"journeys remember no {name}, which the model reads: build them again (make run)")
        past = pc.struct_field(past_steps, name)
        known = upcoming.type.get_field_index(name) >= 0
        newest = pc.struct_field(upcoming, name) if known else pa.nulls(users, past.type)
        return pa.concat_arrays([past, newest]).take(entries)

    kept = {f.name for f in spec.kept_features}
    features = [c.name for c in feature_inputs(dataset) if c.name in kept]
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "user_id": journeys.column("user_id"),
        "valid": _windows(pa.array(valid.ravel()), steps),
        "is_label": _windows(pa.array(np.zeros(users * steps, dtype=bool)), steps),
    }
    columns |= {c.name: journeys.column(c.name) for c in profile_inputs(dataset) if c.name in kept}
    columns |= {
        name: _windows(per_step(name), steps)
        for name in (
            *(c.name for c in outcome_columns(dataset) if past_steps.type.get_field_index(c.name) >= 0),
            *features,
            *(c.name for c in count_inputs(dataset)),
        )
    }
    for when, counted in counted_by_channel(dataset).items():
        counts = per_step(f"{when}_by_channel")
        columns |= {
            f"{when}_{what}_by_channel": _windows(dense_counts(counts, what, spec.channels), steps) for what in counted
        }
    return pa.table(columns)


def journey_columns(spec: FeatureSpec, dataset: Dataset) -> list[str]:
    """The columns of the table `journeys` that windows for the model are cut from, as paths in its Parquet files."""
    kept = {f.name for f in spec.kept_features}
    outcomes = ("channel", *dataset.gain_names, "cost")
    inputs = (
        *(c.name for c in feature_inputs(dataset) if c.name in kept),
        *(c.name for c in count_inputs(dataset)),
        "seen_by_channel",
        "new_by_channel",
    )
    return [
        "user_id",
        *(c.name for c in profile_inputs(dataset) if c.name in kept),
        *(f"memory.list.element.{name}" for name in (*outcomes, *inputs)),
        *(f"next_step.{name}" for name in inputs),
    ]


def _windows(flat: pa.Array, steps: int) -> pa.Array:
    """Fold consecutive runs of `steps` values into lists."""
    offsets = np.arange(0, len(flat) + 1, steps, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def dense_counts(counts: pa.Array, what: str, channels: tuple[str, ...]) -> pa.Array:
    """Sparse counts by channel (seen_by_channel) as one number for each of `channels`; null stays null.

    Exposures of unknown channel and of channels outside the spec have no place in it and are dropped.
    """
    present = counts.is_valid()
    flat = counts.flatten()
    lengths = pc.list_value_length(counts).fill_null(0).to_numpy()
    step = np.repeat(np.arange(len(counts)), lengths)
    code = pc.index_in(pc.struct_field(flat, "channel"), value_set=pa.array(channels, pa.string()))
    inside = code.is_valid().to_numpy(zero_copy_only=False)
    dense: npt.NDArray[np.int32] = np.zeros((len(counts), len(channels)), dtype=np.int32)
    dense[step[inside], code.drop_null().to_numpy()] = pc.struct_field(flat, what).to_numpy()[inside]

    filled = present.to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(filled * len(channels))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(dense[filled].ravel()), mask=pc.invert(present))
