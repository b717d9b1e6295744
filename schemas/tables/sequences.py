"""One row per window of n steps of a user: which steps of the user's journey it has, and which of them are labels.

The windows of day ds label the exposures of that day. Every exposure after the first of a user is a label exactly once,
and at least min(t, n/2) earlier steps are before it in the window. The other steps are context: they have no loss,
because they are labels of earlier windows.

A window refers to steps by their places in the journey (`journey_position` of the table `steps`): it has the steps from
`first_step` to `last_step`, of which those from `first_label` on are labels. If the journey is shorter than n, the
other positions are padding, before the first step. The values of the steps are in `exposures` and `steps`, each once;
those of context in the partitions of earlier days. A column of the profile has one value for each window, from the
user's last exposure of the day.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique_together
from schemas.splits import SPLITS, split_sql
from schemas.steps import MEMORY_STEPS, profile_inputs
from schemas.tables import SEQUENCES


def sequences(dataset: Dataset) -> Table:
    return Table(
        name=SEQUENCES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("window", "int", "number of the window among the user's of this day, from 0"),
            Column("split", "string", "train, validation or test, by user"),
            Column("length", "int", "n, the positions of the window"),
            Column("padding", "int", "how many positions have no step"),
            Column("first_step", "int", "place of the oldest step in the user's journey, from 0"),
            Column("first_label", "int", "place of the oldest label"),
            Column("last_step", "int", "place of the newest step, which is the newest label"),
            *profile_inputs(dataset),
        ),
        key=("user_id", "window"),
        expectations=(
            unique_together(("user_id", "window"), rationale="a window trained on twice weighs twice"),
            one_of("split", SPLITS, rationale="a user without a split could leak into the test"),
            between("length", low=2, high=MEMORY_STEPS, rationale="the journey memory has no longer windows"),
            holds("one_length", rationale="the model reads fixed windows"),
            holds("has_all_positions", rationale="steps and padding together are the n positions of the window"),
            holds("left_padded", rationale="only a journey that begins in the window leaves positions without a step"),
            holds("has_labels", rationale="context steps are not in the loss, and every window has a label"),
            holds("split_is_right", rationale="a user whose split changes has been trained on before being tested on"),
            holds("labelled_once", rationale="an exposure that is a label twice weighs twice"),
            holds("enough_context", rationale="a label without its history is predicted from nothing"),
        ),
        audit_duckdb_sql=f"""
            SELECT *, length = min(length) OVER () AS one_length,
                   padding >= 0 AND padding + last_step - first_step + 1 = length AS has_all_positions,
                   first_step = 0 OR (first_step > 0 AND padding = 0) AS left_padded,
                   first_label BETWEEN greatest(first_step, 1) AND last_step AS has_labels,
                   split = {split_sql("user_id")} AS split_is_right,
                   first_label = coalesce(lag(last_step) OVER (PARTITION BY user_id ORDER BY "window") + 1, first_label)
                     AS labelled_once,
                   first_label - first_step >= least(first_label, length // 2) AS enough_context
            FROM partition""",
    )
