"""The window that scores a user: the remembered steps of the journey, and the next step at the last position.

Windows for training are named in the table `sequences`. A journey contains all that a window for scoring needs, so
the same layout is built here from it alone.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import NO_ROW
from mtorl_model.data.windows.reading import padded_lists, step_columns
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import count_inputs, feature_inputs, outcome_columns, per_channel_columns, profile_inputs
from schemas.tables.feature_spec import FeatureSpec


def journeys_to_windows(journeys: pa.Table, spec: FeatureSpec, dataset: Dataset, steps: int) -> pa.Table:
    """One window of `steps` positions for each row of `journeys`, rows in their order.

    journeys: the layout of schemas/tables/journeys.py, or only its columns journey_columns. Returns the layout of
    schemas/steps.py without the training columns `window` and `split`, and without outcomes that
    `journeys` lacks. A window has the latest steps - 1 remembered steps, padded on the left, and then `next_step`,
    which is valid and has no outcome. No step is a label. Raises UserError if `journeys` lacks an input.
    """
    memory = journeys.column("memory").combine_chunks()
    next_steps = journeys.column("next_step").combine_chunks()
    users = len(journeys)

    # All remembered steps followed by all next steps form one pool; each position of a window is one row of it.
    remembered_steps = memory.flatten()
    lengths = pc.list_value_length(memory).to_numpy()
    ends = np.cumsum(lengths)
    starts = ends - lengths
    remembered_row = ends[:, None] + np.arange(1 - steps, 0)
    remembered_row = np.where(remembered_row >= starts[:, None], remembered_row, NO_ROW)
    next_row = len(remembered_steps) + np.arange(users)[:, None]
    row = np.concatenate([remembered_row, next_row], axis=1)

    def pooled(name: str) -> pa.Array:
        if remembered_steps.type.get_field_index(name) < 0:
            raise UserError(f"journeys lack the input {name} that the model reads: build them again (make run)")
        remembered = pc.struct_field(remembered_steps, name)
        has_next = next_steps.type.get_field_index(name) >= 0
        upcoming = pc.struct_field(next_steps, name) if has_next else pa.nulls(users, remembered.type)
        return pa.concat_arrays([remembered, upcoming])

    kept_names = {f.name for f in spec.kept_features}
    names = (
        "user_id", "valid", "is_label",
        *(c.name for c in profile_inputs(dataset) if c.name in kept_names),
        *(c.name for c in outcome_columns(dataset) if remembered_steps.type.get_field_index(c.name) >= 0),
        *(c.name for c in feature_inputs(dataset) if c.name in kept_names),
        *(c.name for c in count_inputs(dataset)),
        *(c.name for c in per_channel_columns(dataset)),
    )  # fmt: skip
    pool = pa.table({name: pooled(name) for name in step_columns(dataset, names)})
    return padded_lists(journeys, pool, row, np.zeros(row.shape, dtype=bool), dataset, names, spec.channels)


def journey_columns(spec: FeatureSpec, dataset: Dataset) -> list[str]:
    """The columns of the table `journeys` that journeys_to_windows reads, as paths in its Parquet files."""
    kept_names = {f.name for f in spec.kept_features}
    outcomes = ("channel", *dataset.gain_names, "cost")
    inputs = (
        *(c.name for c in feature_inputs(dataset) if c.name in kept_names),
        *(c.name for c in count_inputs(dataset)),
        "seen_by_channel",
        "new_by_channel",
    )
    return [
        "user_id",
        *(c.name for c in profile_inputs(dataset) if c.name in kept_names),
        *(f"memory.list.element.{name}" for name in (*outcomes, *inputs)),
        *(f"next_step.{name}" for name in inputs),
    ]
