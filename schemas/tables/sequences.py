"""One row per window of n steps of a user, oldest first, padded on the left.

The windows of day ds label the exposures of that day. Every exposure after the first of a user is a label exactly once
(`is_label`), and at least min(t, n/2) earlier steps are before it in the window. The other steps are context: they have
no loss, because they are labels of earlier windows. Lists have n entries, which are null for padding (`valid` false).
The table has only the features that the spec keeps, with raw values: the encoders are applied when windows are loaded.
A column of the profile has one value for each window, from the user's last exposure of the day.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import holds, one_of, unique_together
from schemas.splits import SPLITS, split_sql
from schemas.steps import count_inputs, feature_inputs, outcome_columns, profile_inputs
from schemas.tables import SEQUENCES
from schemas.tables.feature_spec import FeatureSpec

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


def sequences(dataset: Dataset, spec: FeatureSpec, steps: int = DEFAULT_STEPS) -> Table:
    kept_names = {feature.name for feature in spec.kept_features}
    by_channel = per_channel_columns(dataset)
    per_step = (
        *outcome_columns(dataset),
        *(c for c in feature_inputs(dataset) if c.name in kept_names),
        *count_inputs(dataset),
    )
    lists = ("valid", "is_label", *(c.name for c in (*per_step, *by_channel)))
    filled = (
        *(f'list_transform("{c.name}", lambda v: v IS NOT NULL) = valid' for c in per_step if not c.nullable),
        *(
            f'list_transform("{c.name}", lambda v: coalesce(len(v) = {len(spec.channels)}, false)) = valid'
            for c in by_channel
        ),
    )
    return Table(
        name=SEQUENCES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("window", "int", "number of the window among the user's of this day, from 0"),
            Column("split", "string", "train, validation or test, by user"),
            Column("valid", "array<boolean>", "true for a real step, false for padding"),
            Column("is_label", "array<boolean>", "true if the step has a loss"),
            *(c for c in profile_inputs(dataset) if c.name in kept_names),
            *(Column(c.name, f"array<{c.dtype}>", c.doc, c.known, True, c.role) for c in per_step),
            *by_channel,
        ),
        key=("user_id", "window"),
        expectations=(
            unique_together(("user_id", "window"), rationale="a window trained on twice weighs twice"),
            one_of("split", SPLITS, rationale="a user without a split could leak into the test"),
            one_of("length", (steps,), rationale="the model reads fixed windows"),
            holds("left_padded", rationale="padding is on the left: the last position is the newest"),
            holds(
                "labels_valid", rationale="padding and context steps are not in the loss, and every window has a label"
            ),
            holds("in_order", rationale="a window out of order teaches the model to look ahead"),
            holds("split_is_right", rationale="a user whose split changes has been trained on before being tested on"),
            holds("lists_aligned", rationale="position t of every list is the same step"),
            holds("steps_filled", rationale="a real step has all its values, padding has none"),
            holds("labelled_once", rationale="an exposure that is a label twice weighs twice"),
            holds("enough_context", rationale="a label without its history is predicted from nothing"),
        ),
        audit_duckdb_sql=f"""
            WITH flat AS (
              SELECT *,
                     list_transform(list_filter(list_zip(exposed_at_ms, exposure_id, is_label), lambda p: p[3]),
                                    lambda p: {{'t': p[1], 'i': p[2]}}) AS labels,
                     list_position(is_label, true) AS first_label,
                     list_filter(list_transform(list_zip(exposed_at_ms, exposure_id),
                                                lambda p: {{'t': p[1], 'i': p[2]}}),
                                 lambda p: p.t IS NOT NULL) AS stamps
              FROM partition),
            labelled AS (SELECT user_id, "window", unnest(list_transform(labels, lambda p: p.i)) AS i FROM flat),
            doubled AS (
              SELECT DISTINCT user_id, "window" FROM labelled
              SEMI JOIN (SELECT i FROM labelled GROUP BY i HAVING count(*) > 1) AS twice USING (i))
            SELECT user_id, "window", split, len(valid) AS length, valid = list_sort(valid) AS left_padded,
                   list_bool_or(is_label) AND NOT list_bool_or(
                     list_transform(list_zip(valid, is_label), lambda p: p[2] AND NOT p[1])) AS labels_valid,
                   stamps = list_sort(stamps) AND len(stamps) = len(list_filter(valid, lambda v: v)) AS in_order,
                   split = {split_sql("user_id")} AS split_is_right,
                   len(list_distinct([{", ".join(f'coalesce(len("{name}"), 0)' for name in lists)}])) = 1
                     AS lists_aligned,
                   {" AND ".join(filled)} AS steps_filled,
                   NOT EXISTS (FROM doubled
                               WHERE doubled.user_id = flat.user_id AND doubled."window" = flat."window")
                     AS labelled_once,
                   len(list_filter(valid[:first_label - 1], lambda v: v))
                     >= least(seen_exposures[first_label], len(valid) // 2) AS enough_context,
                   list_min(list_transform(labels, lambda p: p.t)) AS first_label_ms,
                   list_max(list_transform(labels, lambda p: p.t)) AS last_label_ms
            FROM flat""",
    )
