"""One row per user: the predicted reward of the next exposure, and the rank of the user by this reward."""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique
from schemas.tables import USER_REWARD_RANKS
from schemas.tables.channel_policies import FROM_MODEL, INITIAL


def user_reward_ranks(dataset: Dataset) -> Table:
    return Table(
        name=USER_REWARD_RANKS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("predicted_reward", "double", "weighted mean of the predicted gains, 0 to 1"),
            *(Column(f"predicted_{g}", "double", f"probability of {g}") for g in dataset.gain_names),
            Column("rank", "bigint", "1 = best; ties by user_id, no gaps"),
            Column("source", "string", "model, or initial for a user whose journey is too short"),
            Column("model_version", "string", "registered model and version"),
            Column("feature_spec", "string", "version of the feature spec that the model reads"),
            Column("day", "string", "the day at whose end the model predicted, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one rank"),
            between("predicted_reward", low=0, high=1, rationale="a scaled reward"),
            *(between(f"predicted_{gain}", low=0, high=1, rationale="a probability") for gain in dataset.gain_names),
            holds("rank_is_right", rationale="ranks are 1..N without gaps, by reward, ties by user_id"),
            one_of("source", (FROM_MODEL, INITIAL), rationale="the reader must know which"),
        ),
        audit_duckdb_sql="""
            SELECT *, rank = row_number() OVER (ORDER BY predicted_reward DESC, user_id) AS rank_is_right
            FROM partition""",
    )
