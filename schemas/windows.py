"""A window of n steps of a user, oldest first, padded on the left: what a model of channel choices reads.

The table `sequences` names the steps of each window, and mtorl_model/data/window_reading.py gathers their values. Lists
have n entries, which are null for padding (`valid` false). Values are raw: encoders are applied when windows are read.
The profile has one value for each window, from the user's last exposure of the day.
"""

from schemas.contract import Column
from schemas.dataset import Dataset
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs

DEFAULT_STEPS = 20  # the paper's n


def counted_by_channel(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The counts by channel: exposures and gains over the history (`seen`), exposures since the last step (`new`).

    They are the action a_{t-1}. The reward r_{t-1} is computed from the sums over channels (equation 18).
    """
    return {"seen": ("exposures", *dataset.gain_names), "new": ("exposures",)}


def per_channel_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of the counts by channel, each of shape [n][channels of the spec]."""
    return tuple(
        Column(f"{period}_{fact}_by_channel", "array<array<int>>", f"{period}_{fact}, per channel of the spec")
        for period, facts in counted_by_channel(dataset).items()
        for fact in facts
    )


def window_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns of a padded window. A model reads the features among them that its feature spec keeps."""
    per_step = (*outcome_columns(dataset), *feature_inputs(dataset), *count_inputs(dataset))
    return (
        dataset.user_id.column,
        Column("window", "int", "number of the window among the user's of this day, from 0"),
        Column("split", "string", "train, validation or test, by user"),
        Column("valid", "array<boolean>", "true for a real step, false for padding"),
        Column("is_label", "array<boolean>", "true if the step has a loss"),
        *profile_inputs(dataset),
        *(Column(c.name, f"array<{c.dtype}>", c.doc, c.known, True, c.role) for c in per_step),
        *per_channel_columns(dataset),
    )
