"""One row per user: the weights that fuse the predictions of a candidate into one ranking score, for the next request.

The score of a candidate is the product of (prediction + bias) to the power, over the objectives of the contract
(equation 1 of UnifiedRL). A user's weights are the same for all candidates; `python -m mtorl_model.fuse` applies them.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique
from schemas.tables import FUSION_WEIGHTS

LARGEST_POWER, LARGEST_BIAS = 2.0, 0.1
SMALLEST_SUM = 0.1  # of a user's powers: with a smaller one, nearly equal scores rank the candidates


def power_column(objective: str) -> str:
    return f"power_{objective}"


def bias_column(objective: str) -> str:
    return f"bias_{objective}"


def fusion_weights(dataset: Dataset) -> Table:
    names = tuple(objective.name for objective in dataset.objectives)
    power_sum = " + ".join(map(power_column, names)) or "0.0"
    return Table(
        name=FUSION_WEIGHTS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            *(Column(power_column(name), "double", f"power of the prediction of {name}, 0 to 2") for name in names),
            *(Column(bias_column(name), "double", f"is added to the prediction of {name}, 0 to .1") for name in names),
            Column("model_version", "string", "registered model and version, e.g. unified_rl_kuairand/3"),
            Column("day", "string", "the day at whose end the weights were chosen, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one fusion"),
            *(
                between(column(name), low=0, high=high, rationale="weights outside of the box were never tried")
                for column, high in ((power_column, LARGEST_POWER), (bias_column, LARGEST_BIAS))
                for name in names
            ),
            holds("ranks_candidates", rationale="powers of 0 give all candidates one score: a collapsed policy"),
        ),
        audit_duckdb_sql=f"SELECT *, {power_sum} >= {SMALLEST_SUM} AS ranks_candidates FROM partition",
    )
