"""One row per user: the channel to use next, and the probability of each channel."""

from schemas.basis import BASES, IMITATION, VALUE
from schemas.contract import Column, Severity, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique
from schemas.tables import CHANNEL_POLICIES

FROM_MODEL, INITIAL = "model", "initial"
RECOMMENDATION = "recommendation"  # how channels were chosen, in the manifests of scores: basis and exploration
FEWEST_USERS = 10  # with fewer users scored by the model, their policies are not compared with each other
NEARLY_ALL = 0.99  # share of these users with the same recommended channel
COLLAPSED = 0.95  # mean probability of that channel


def channel_policies(dataset: Dataset) -> Table:
    values = [f"expected_{gain}" for gain in dataset.gain_names]
    value, probable = (
        values[0],
        " AND ".join(
            f"coalesce(list_min(map_values({v})) >= 0 AND list_max(map_values({v})) <= 1, true)" for v in values
        ),
    )
    return Table(
        name=CHANNEL_POLICIES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("channel", "string", "the channel to use: the recommended one, or a drawn one if `explored`"),
            Column("basis", "string", "of the recommended channel: value, imitation or constant (schemas/basis.py)"),
            Column("explored", "boolean", "whether the channel was drawn, to learn what other channels are worth"),
            Column("propensity", "double", "probability with which this channel was chosen; 1 without exploration"),
            *(
                Column(
                    f"expected_{gain}",
                    "map<string, double>",
                    f"probability of {gain} in each channel; null if the model does not predict it",
                    nullable=True,
                )
                for gain in dataset.gain_names
            ),
            Column(
                "policy",
                "map<string, double>",
                "probability that the log chooses each channel; sums to 1 (equation 11)",
            ),
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
            holds("is_best", rationale="without exploration, the channel is the best one by its basis"),
            holds("probable", rationale="a value in a channel is a probability"),
            between("propensity", low=0, high=1, above_low=True, rationale="off-policy estimates divide by it"),
            holds("chance_is_right", rationale="the probabilities of a user's channels sum to 1"),
            one_of("basis", BASES, rationale="the reader must know which"),
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
            WITH imitation AS (
              SELECT policy,
                     map_keys(policy)[list_position(map_values(policy), list_max(map_values(policy)))] AS channel
              FROM partition WHERE source = '{FROM_MODEL}'),
            together AS (
              SELECT count(*) >= {FEWEST_USERS} AND avg((channel = leader)::INT) >= {NEARLY_ALL} AS alike,
                     avg(coalesce(policy[leader], 0)) >= {COLLAPSED} AS sure
              FROM imitation CROSS JOIN (SELECT mode(channel) AS leader FROM imitation)),
            constant AS (SELECT mode(channel) AS leader FROM partition WHERE NOT explored),
            judged AS (
              SELECT *, CASE basis
                     WHEN '{VALUE}' THEN {value}[channel] = list_max(map_values({value}))
                     WHEN '{IMITATION}' THEN policy[channel] = list_max(map_values(policy))
                     -- The average user, who stands for users with a short journey, shows the best channel for all.
                     ELSE channel = leader AND (source <> '{INITIAL}' OR {value} IS NULL
                                                OR {value}[channel] = list_max(map_values({value}))) END AS best
              FROM partition CROSS JOIN constant),
            chances AS (SELECT max(propensity) AS high, max(cardinality(policy)) AS channels FROM judged WHERE best),
            judged_chances AS (
              SELECT *, abs(propensity - high) < 1e-9 AS is_high,
                     abs(propensity - (1 - high) / greatest(channels - 1, 1)) < 1e-9 AS is_low
              FROM judged CROSS JOIN chances)
            SELECT user_id, channel, source, basis, propensity,
                   list_sum(map_values(policy)) AS total,
                   list_min(map_values(policy)) AS lowest,
                   explored OR best AS is_best,
                   -- A drawn channel can be as good as the recommended one. All is well if nobody has a best channel.
                   coalesce(CASE WHEN NOT explored THEN is_high WHEN best THEN is_high OR is_low ELSE is_low END, true)
                     AS chance_is_right,
                   {probable} AS probable,
                   source <> '{FROM_MODEL}' OR NOT (alike AND sure) AS policies_differ,
                   source <> '{FROM_MODEL}' OR NOT alike OR sure AS recommendations_differ
            FROM judged_chances CROSS JOIN together""",
    )
