"""One row per user: a vector that describes the user's journey, for use in other models (section 4.5 of the paper).

It is the output of the model's user encoder, causal states and causal attention, for the user's next exposure. Vectors
of different model versions cannot be compared: a retraining turns the axes. The table is published only if it is
switched on.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import holds, unique
from schemas.tables import USER_EMBEDDINGS

EMBEDDING = "embedding"
FEWEST_USERS = 10  # with fewer users, equal vectors can be chance


def user_embeddings(dataset: Dataset) -> Table:
    return Table(
        name=USER_EMBEDDINGS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column(EMBEDDING, "array<float>", "the vector; all users have the same number of components, no unit"),
            Column("model_version", "string", "registered model and version, e.g. mtorl_kuairand/3"),
            Column("feature_spec", "string", "version of the feature spec that the model reads"),
            Column("day", "string", "the day at whose end the user was encoded, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one vector"),
            holds("same_size", rationale="a reader turns the column into a matrix"),
            holds("users_differ", rationale="one vector for all users describes none of them"),
        ),
        audit_duckdb_sql=f"""
            WITH together AS (
              SELECT max(len({EMBEDDING})) AS size,
                     count(*) < {FEWEST_USERS} OR count(DISTINCT {EMBEDDING}) > 1 AS differ
              FROM partition)
            SELECT user_id, len({EMBEDDING}) = size AND size > 0 AS same_size, differ AS users_differ
            FROM partition CROSS JOIN together""",
    )
