"""One row per user: the best channel for the user at the plan's price of money, and whether the day's budget buys it.

The expected costs of the selected pairs of user and channel add up to at most the budget. reward_bound is a proof of
quality: no selection within the budget has a larger expected reward. Without a budget for the day, the plan selects no
user.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique
from schemas.tables import BUDGET_PLAN
from schemas.tables.channel_policies import FROM_MODEL, INITIAL


def budget_plan(dataset: Dataset) -> Table:
    return Table(
        name=BUDGET_PLAN,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("channel", "string", "the channel to use"),
            Column("expected_reward", "double", "expected reward of this pair, 0 to 1 (see user_reward_ranks)"),
            Column("expected_cost_nano", "bigint", "expected cost of this pair, 1e-9 of the log's unit"),
            Column("selected", "boolean", "whether the budget buys the pair"),
            Column("source", "string", "model, or initial for a user whose journey is too short"),
            Column("budget_nano", "bigint", "the day's budget, 1e-9 of the log's unit; the same in every row"),
            Column(
                "reward_bound",
                "double",
                "upper bound of the expected reward within the budget; the same in every row",
            ),
            Column("model_version", "string", "registered model and version"),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one offer"),
            between("expected_reward", low=0, high=1, rationale="a scaled reward"),
            between("expected_cost_nano", low=0, rationale="a negative cost would pay for other users"),
            holds("within_budget", rationale="more than the budget is never planned"),
            holds("within_bound", rationale="a plan that brings more than its bound has no certificate"),
            one_of("source", (FROM_MODEL, INITIAL), rationale="the reader must know which"),
        ),
        audit_duckdb_sql="""
            SELECT *,
                   coalesce(sum(expected_cost_nano) FILTER (WHERE selected) OVER (), 0) <= min(budget_nano) OVER ()
                     AS within_budget,
                   coalesce(sum(expected_reward) FILTER (WHERE selected) OVER (), 0)
                     <= (1 + 1e-6) * min(reward_bound) OVER () + 1e-9 AS within_bound
            FROM partition""",
    )
