"""One row per user: the chance of each task at the next exposure, and the user's rank by it.

No candidate is known at night, so a chance is the mean over candidates drawn from the day's exposures, the same ones
for every user (mtorl_model/inference/next_candidates.py).
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique
from schemas.tables import TASK_PREDICTIONS


def score_names(dataset: Dataset) -> tuple[str, ...]:
    """The tasks, and with several tasks their product."""
    tasks = tuple(dataset.tasks)
    return (*tasks, "product") if len(tasks) > 1 else tasks


def task_predictions(dataset: Dataset) -> Table:
    scores = score_names(dataset)
    is_ranked = " AND ".join(
        f"rank_{name} = row_number() OVER (ORDER BY predicted_{name} DESC, user_id)" for name in scores
    )
    return Table(
        name=TASK_PREDICTIONS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            *(Column(f"predicted_{name}", "double", f"chance of {name}; product: of all tasks") for name in scores),
            *(Column(f"rank_{name}", "bigint", f"1 = best by {name}; ties by user_id, no gaps") for name in scores),
            Column("model_version", "string", "registered model and version"),
            Column("day", "string", "the day at whose end the model predicted, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one rank"),
            *(between(f"predicted_{name}", low=0, high=1, rationale="a probability") for name in scores),
            holds("rank_is_right", rationale="ranks are 1..N without gaps, by chance, ties by user_id"),
        ),
        audit_duckdb_sql=f"SELECT *, {is_ranked} AS rank_is_right FROM partition",
    )
