"""All tables of the lake, in the order in which a day builds them, with the inputs of their partitions.

Freshness, `make status`, the reports, the audits and the DAGs take their lists of tables from here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_ALLOCATION,
    CHANNEL_POLICIES,
    EXPOSURES,
    FEATURE_SPEC,
    FUSION_EXPOSURES,
    FUSION_WEIGHTS,
    ITEM_HISTORY,
    JOURNEYS,
    PREQUENTIAL,
    PROMOTIONS,
    QUARANTINE,
    SEQUENCES,
    STEPS,
    TASK_PREDICTIONS,
    USER_EMBEDDINGS,
    USER_REWARD_RANKS,
    budget_plan,
    channel_allocation,
    channel_policies,
    exposures,
    feature_spec,
    item_history,
    journeys,
    prequential,
    promotions,
    quarantine,
    sequences,
    steps,
    user_embeddings,
    user_reward_ranks,
)
from schemas.tables.candidates import fusion_exposures, fusion_weights, task_predictions

Contract = Callable[[Dataset], Table]


@dataclass(frozen=True, slots=True)
class RegisteredTable:
    """One table and its place in the pipeline.

    summary: the table in a few words, for reports.
    contract: the columns and rules for a dataset.
    history: the tables of which a partition reads all days up to its own.
    same_day: the tables of which a partition reads its own day.
    audited_with: the tables whose failed audit of the same day also stops the readers of this table.
    daily: whether every day has a partition.
    optional: whether it is published only if it is switched on.
    rebuilt: whether a backfill builds it again when its inputs change. A table of measurements or decisions is not.
    scores: whether scoring with some method publishes it every night (Method.publishes).
    """

    name: str
    summary: str
    contract: Contract
    history: tuple[str, ...] = ()
    same_day: tuple[str, ...] = ()
    audited_with: tuple[str, ...] = ()
    daily: bool = True
    optional: bool = False
    rebuilt: bool = True
    scores: bool = False


def _for_all_datasets(table: Table) -> Contract:
    return lambda dataset: table


# One scoring with one model publishes these together.
SCORE_TABLES = (CHANNEL_POLICIES, USER_REWARD_RANKS, CHANNEL_ALLOCATION)

_TABLES = (
    RegisteredTable(EXPOSURES, "the day's ad exposures", exposures.exposures, audited_with=(QUARANTINE,)),
    RegisteredTable(QUARANTINE, "raw rows that cannot be exposures", _for_all_datasets(quarantine.QUARANTINE_TABLE)),
    RegisteredTable(JOURNEYS, "the journeys that changed on the day", journeys.journeys, history=(EXPOSURES,)),
    RegisteredTable(STEPS, "what was known before each exposure", steps.steps, history=(EXPOSURES,)),
    RegisteredTable(
        ITEM_HISTORY,
        "exposures and gains of each item so far",
        item_history.item_history,
        history=(EXPOSURES,),
    ),
    RegisteredTable(
        SEQUENCES,
        "the windows that the model learns from",
        sequences.sequences,
        history=(EXPOSURES,),
        audited_with=(STEPS,),
    ),
    RegisteredTable(
        FEATURE_SPEC,
        "which inputs the model sees",
        _for_all_datasets(feature_spec.FEATURE_SPEC_TABLE),
        history=(EXPOSURES, STEPS),
        daily=False,
    ),
    RegisteredTable(
        PREQUENTIAL,
        "the model's predictions of the day, before training on it",
        prequential.prequential,
        rebuilt=False,
    ),
    RegisteredTable(
        FUSION_EXPOSURES,
        "the rankings of the day that were explored around the champion",
        fusion_exposures.fusion_exposures,
        daily=False,
        optional=True,
        rebuilt=False,
    ),
    RegisteredTable(
        PROMOTIONS,
        "whether the day's model became champion",
        _for_all_datasets(promotions.PROMOTIONS_TABLE),
        rebuilt=False,
    ),
    RegisteredTable(
        CHANNEL_POLICIES,
        "which channel to use next, for each user",
        channel_policies.channel_policies,
        same_day=(JOURNEYS,),
        scores=True,
    ),
    RegisteredTable(
        USER_REWARD_RANKS,
        "the order in which to spend on users",
        user_reward_ranks.user_reward_ranks,
        same_day=(JOURNEYS,),
        scores=True,
    ),
    RegisteredTable(
        CHANNEL_ALLOCATION,
        "the weight of each channel",
        channel_allocation.channel_allocation,
        same_day=(JOURNEYS,),
        scores=True,
    ),
    RegisteredTable(
        TASK_PREDICTIONS,
        "the chance of each task at a user's next exposure, of methods on candidates",
        task_predictions.task_predictions,
        same_day=(JOURNEYS, EXPOSURES, ITEM_HISTORY),
        daily=False,
        scores=True,
    ),
    RegisteredTable(
        FUSION_WEIGHTS,
        "the weights that fuse predictions into a ranking, for each user",
        fusion_weights.fusion_weights,
        same_day=(JOURNEYS, EXPOSURES, ITEM_HISTORY),
        daily=False,
        scores=True,
    ),
    RegisteredTable(
        USER_EMBEDDINGS,
        "a vector for each user, for other models",
        user_embeddings.user_embeddings,
        same_day=(JOURNEYS,),
        daily=False,
        optional=True,
        scores=True,
    ),
    RegisteredTable(
        BUDGET_PLAN,
        "the users that the day's budget selects",
        budget_plan.budget_plan,
        same_day=(*SCORE_TABLES, JOURNEYS),
    ),
)

TABLES = {table.name: table for table in _TABLES}
TABLES_FROM_RAW = tuple(t.name for t in _TABLES if t.rebuilt and not t.history and not t.same_day)
TABLES_FROM_HISTORY = tuple(t.name for t in _TABLES if t.daily and t.history)
TABLES_OF_STEPS = (STEPS, ITEM_HISTORY, SEQUENCES)  # built from a range of days at once
TABLES_FROM_SCORING = tuple(t.name for t in _TABLES if t.scores)
# The results, which consumers also find as plain Parquet files (jobs/quality/consumer_files.py).
TABLES_FOR_CONSUMERS = (*TABLES_FROM_SCORING, BUDGET_PLAN)
# The measurements and decisions about the champion, made once for each day.
CHAMPION_TABLES = tuple(t.name for t in _TABLES if not t.rebuilt)


def registered(name: str) -> RegisteredTable:
    """The table of that name, or a UserError that lists the names."""
    if name not in TABLES:
        raise UserError(f"unknown table '{name}': choose one of {', '.join(TABLES)}")
    return TABLES[name]
