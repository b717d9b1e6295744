"""One row per user: the channel to use next, and the probability of each channel."""

from schemas.contract import Column, Severity, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique
from schemas.tables import CHANNEL_POLICIES

FROM_MODEL, INITIAL = "model", "initial"
FEWEST_USERS = 10  # with fewer users scored by the model, their policies are not compared with each other
NEARLY_ALL = 0.99  # share of these users with the same recommended channel
COLLAPSED = 0.95  # mean probability of that channel


def channel_policies(dataset: Dataset) -> Table:
    return Table(
        name=CHANNEL_POLICIES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("channel", "string", "the recommended channel: the most probable one (equation 10)"),
            Column("policy", "map<string, double>", "probability of each channel; sums to 1 (equation 11)"),
            Column("source", "string", "model, or initial for a user whose journey is too short (equation 17)"),
            Column("model_version", "string", "registered model and version, e.g. mtorl_kuairand/3"),
            Column("feature_spec", "string", "version of the feature spec that the model reads"),
            Column("day", "string", "the day at whose end the model predicted, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one policy"),
            between("total", low=1 - 1e-6, high=1 + 1e-6, rationale="probabilities sum to 1"),
            between("lowest", low=0, rationale="a probability is never negative"),
            holds("is_best", rationale="the recommended channel is the most probable one"),
            one_of("source", (FROM_MODEL, INITIAL), rationale="the reader must know which"),
            holds(
                "policies_differ",
                rationale="one channel for nearly everyone, and surely, is a collapsed policy: it ignores the user",
            ),
            holds(
                "recommendations_differ",
                rationale="one recommended channel for nearly everyone is a policy about to collapse",
                severity=Severity.WARNING,
            ),
        ),
        # A few users can be alike by chance, so they are not compared. Users with too short a journey all have the same
        # initial policy, so they are left out. `nearly all` is used because a few users who differ from all others do
        # not show that the model depends on the user.
        audit_duckdb_sql=f"""
            WITH modelled AS (SELECT channel, policy FROM partition WHERE source = '{FROM_MODEL}'),
            together AS (
              SELECT count(*) >= {FEWEST_USERS} AND avg((channel = leader)::INT) >= {NEARLY_ALL} AS alike,
                     avg(coalesce(policy[leader], 0)) >= {COLLAPSED} AS sure
              FROM modelled CROSS JOIN (SELECT mode(channel) AS leader FROM modelled))
            SELECT user_id, channel, source, list_sum(map_values(policy)) AS total,
                   list_min(map_values(policy)) AS lowest,
                   policy[channel] = list_max(map_values(policy)) AS is_best,
                   source <> '{FROM_MODEL}' OR NOT (alike AND sure) AS policies_differ,
                   source <> '{FROM_MODEL}' OR NOT alike OR sure AS recommendations_differ
            FROM partition CROSS JOIN together""",
    )
