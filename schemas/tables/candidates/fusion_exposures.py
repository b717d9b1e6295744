"""One row per explored action: a ranking of a request of the day, drawn around the behaviour policy, with its reward.

The daily run draws the actions and ranks the exposures that the day's users were shown, because these logs do not say
by which weights a service ranked (mtorl_model/methods/unified_rl/chain/replay.py). A reward is counted from that of the
behaviour policy's ranking of the same list, and raised by a constant so that it is at least 0. The day's step of
progressive training learns from exactly the rows of training users; the rows of other users serve to estimate what a
policy earns. While the day's own outcomes may still follow, as conversions do, the step learns from requests of earlier
days whose outcomes are final.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique_together
from schemas.tables import FUSION_EXPOSURES
from schemas.tables.candidates.fusion_weights import (
    LARGEST_BIAS,
    LARGEST_POWER,
    bias_column,
    is_in_box,
    power_column,
    weight_columns,
)

REWARDS = ("reward_consumption", "reward_others")


def fusion_exposures(dataset: Dataset) -> Table:
    names = tuple(objective.name for objective in dataset.objectives)
    return Table(
        name=FUSION_EXPOSURES,
        doc=__doc__,
        columns=(
            Column("request_id", "bigint", "exposure_id of the request's first exposure"),
            Column("draw", "int", "number of the action of this request, from 0"),
            *weight_columns(names),
            Column("propensity", "double", "density of the drawn action, whose dimensions are from -1 to 1"),
            Column("reward_consumption", "double", "reward of the list by the first objective; see replay.py"),
            Column("reward_others", "double", "reward of the list by the other objectives"),
            Column("behaviour", "string", "the version around whose policy the action was drawn"),
            Column("day", "string", "the day whose step learns from it, YYYY-MM-DD"),
        ),
        key=("request_id", "draw"),
        expectations=(
            unique_together(("request_id", "draw"), rationale="one action, one reward"),
            *(
                between(column(name), low=0, high=high, rationale="the scale of an action")
                for column, high in ((power_column, LARGEST_POWER), (bias_column, LARGEST_BIAS))
                for name in names
            ),
            holds("is_likely", rationale="an action without a propensity cannot be weighted"),
            holds("is_in_box", rationale="an action outside the box cannot have been drawn"),
            *(between(name, low=0, rationale="a negative reward would gain from the penalty") for name in REWARDS),
        ),
        audit_duckdb_sql=(
            f"SELECT *, propensity > 0 AND isfinite(propensity) AS is_likely, {is_in_box(names)} AS is_in_box "
            "FROM partition"
        ),
    )
