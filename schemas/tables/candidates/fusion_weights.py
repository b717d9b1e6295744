"""One row per user: the weights that fuse the predictions of a candidate into one ranking score, for the next request.

The score of a candidate is the product of (prediction + bias) to the power, over the objectives of the contract
(equation 1 of UnifiedRL). A user's weights are the same for all candidates; `python -m mtorl_model.fuse` applies them.

They are in the box around the weights of the behaviour policy, around which the policy was trained. A service may
explore: it draws each power uniformly from the row's power - half_width to power + half_width, and each bias from
bias - half_width / 20 to bias + half_width / 20, within their scales.
"""

from collections.abc import Sequence

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique
from schemas.tables import FUSION_WEIGHTS

LARGEST_POWER, LARGEST_BIAS = 2.0, 0.1
SMALLEST_SUM = 0.1  # of a user's powers: with a smaller one, nearly equal scores rank the candidates
LEAST_SPREAD = 1e-3  # between the largest and the smallest weight of users, if a policy distinguishes them
_ROUNDING = 1e-6


def power_column(objective: str) -> str:
    return f"power_{objective}"


def bias_column(objective: str) -> str:
    return f"bias_{objective}"


def behaviour_column(weight_column: str) -> str:
    """The column with the behaviour policy's value of a power or a bias."""
    return f"behaviour_{weight_column}"


def weight_columns(names: Sequence[str]) -> tuple[Column, ...]:
    """The powers and biases of these objectives, those of the behaviour policy, and the box around the latter."""
    documented = {power_column(name): f"power of the prediction of {name}, 0 to 2" for name in names}
    documented |= {bias_column(name): f"is added to the prediction of {name}, 0 to .1" for name in names}
    return (
        *(Column(column, "double", doc) for column, doc in documented.items()),
        *(Column(behaviour_column(column), "double", f"{column} of the behaviour policy") for column in documented),
        Column(
            "half_width", "double", "of the box around the behaviour policy, in powers; a twentieth of it in biases"
        ),
    )


def is_in_box(names: Sequence[str]) -> str:
    """A condition in DuckDB SQL on the columns of weight_columns: whether the weights are in the box."""
    widths = [(power_column(name), 1.0) for name in names] + [(bias_column(name), LARGEST_BIAS / 2) for name in names]
    bounds = (f"abs({c} - {behaviour_column(c)}) <= {scale} * half_width + {_ROUNDING}" for c, scale in widths)
    return " AND ".join(bounds) or "true"


def _differs_between_users(names: Sequence[str]) -> str:
    """A condition in DuckDB SQL: false if all rows have the same weights although the behaviour policy's differ."""
    columns = [f(name) for f in (power_column, bias_column) for name in names]
    if not columns:
        return "true"
    spread = "greatest({})"
    spread_of_policy = spread.format(", ".join(f"max({c}) OVER () - min({c}) OVER ()" for c in columns))
    behaviour = (behaviour_column(c) for c in columns)
    spread_of_behaviour = spread.format(", ".join(f"max({c}) OVER () - min({c}) OVER ()" for c in behaviour))
    return f"NOT ({spread_of_policy} <= {_ROUNDING} AND {spread_of_behaviour} > {LEAST_SPREAD})"


def fusion_weights(dataset: Dataset) -> Table:
    names = tuple(objective.name for objective in dataset.objectives)
    power_sum = " + ".join(map(power_column, names)) or "0.0"
    return Table(
        name=FUSION_WEIGHTS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            *weight_columns(names),
            Column("model_version", "string", "registered model and version, e.g. unified_rl_kuairand/3"),
            Column("day", "string", "the day at whose end the weights were chosen, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one fusion"),
            *(
                between(column(name), low=0, high=high, rationale="the scale of an action")
                for column, high in ((power_column, LARGEST_POWER), (bias_column, LARGEST_BIAS))
                for name in names
            ),
            between("half_width", low=0, above_low=True, rationale="a box without width contains one action only"),
            holds("ranks_candidates", rationale="powers of 0 give all candidates one score: a collapsed policy"),
            holds("is_in_box", rationale="the policy was trained on weights in this box only"),
            holds(
                "differs_between_users",
                rationale="one action for all users, where the training actions vary, is a collapsed policy",
            ),
        ),
        audit_duckdb_sql=(
            f"SELECT *, {power_sum} >= {SMALLEST_SUM} AS ranks_candidates, {is_in_box(names)} AS is_in_box, "
            f"{_differs_between_users(names)} AS differs_between_users FROM partition"
        ),
    )
