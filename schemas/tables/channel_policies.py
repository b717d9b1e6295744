"""One user a row: which channel to use next, and with what probability."""

from schemas.contract import Column, Expectation, Severity, Table
from schemas.dataset import Dataset
from schemas.tables import CHANNEL_POLICIES

FROM_MODEL, INITIAL = "model", "initial"
FEWEST_USERS = 10  # of the model, whose policies are compared with each other
NEARLY_ALL = 0.99  # share of them who are recommended one and the same channel
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
            Column("day", "string", "the day at whose end the model was asked, YYYY-MM-DD"),
        ),
        key=("user_id",),
        expectations=(
            Expectation("expect_column_values_to_be_unique", {"column": "user_id"}, "one user, one policy"),
            Expectation("expect_column_values_to_be_between",
                        {"column": "total", "min_value": 1 - 1e-6, "max_value": 1 + 1e-6},
                        "probabilities sum to 1"),
            Expectation("expect_column_values_to_be_between", {"column": "lowest", "min_value": 0},
                        "a probability is never negative"),
            Expectation("expect_column_values_to_be_in_set", {"column": "is_best", "value_set": [True]},
                        "the recommended channel is the most probable one"),
            Expectation("expect_column_values_to_be_in_set",
                        {"column": "source", "value_set": [FROM_MODEL, INITIAL]}, "the reader must know which"),
            Expectation("expect_column_values_to_be_in_set", {"column": "policies_differ", "value_set": [True]},
                        "one channel for nearly everyone, and surely, is a collapsed policy: it ignores the user"),
            Expectation("expect_column_values_to_be_in_set", {"column": "recommendations_differ", "value_set": [True]},
                        "one recommended channel for nearly everyone is a policy about to collapse", Severity.WARNING),
        ),
        # Of a few users all may well be alike. Those of a cold start are alike by definition, and tell nothing about
        # the model; a handful that differ from all the others do not make it look at the user.
        audit_sql=f"""
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
    )  # fmt: skip
