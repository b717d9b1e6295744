"""The DAG `mtorl_nightly_<dataset>`: scores and the budget plan of one day."""

from airflow.sdk import DAG, Asset, Param, PartitionedAssetTimetable

from dags.dataset_dag import OPTIONAL_DAY, budget_plan_asset, champion_asset, dataset_dag, method_param
from dags.steps import (
    DAY,
    METHOD_OPTION,
    ONE_DAY,
    ONLY_NEW,
    ONLY_PUBLISHED,
    audit_step,
    python_step,
    report_after_audits,
)
from schemas.basis import BASES, BY_GATE
from schemas.tables.registry import SCORE_TABLES, TABLES_FROM_SCORING


def nightly_dag(dataset: str) -> DAG:
    """After the champion of a day: all users are scored, the budget is planned, and all tables are audited.

    Each method publishes its tables: policies, ranks and the channel level, or the chances of tasks. The plan then
    spends `budget` on the best pairs of user and channel; without channel policies there is no plan. The budget is in
    the unit of the log's costs, or a number of exposures if the log has no costs. A run without a budget, for example
    one that the promotion gate starts, keeps the budget with which the day was planned before. If the day was not
    planned before, it uses MTORL_BUDGET_<DATASET>; without this variable, no user is selected. The parameters basis,
    exploration and embeddings have standing values, too, which `mtorl_model.score` reads: MTORL_BASIS_<DATASET>,
    MTORL_EXPLORATION_<DATASET> and MTORL_EMBEDDINGS_<DATASET>. The assets of the tables, and the plain files for
    consumers (LAKE/<dataset>/published), appear only after a passed audit. Before the first champion, the run fails
    with one line that names the DAG to start.
    """
    # The promotion gate follows the audited journeys of the day, so its asset implies them.
    schedule = PartitionedAssetTimetable(assets=champion_asset(dataset))
    score_assets = tuple(Asset(f"{table}_{dataset}") for table in SCORE_TABLES)
    with dataset_dag(
        "nightly",
        dataset,
        str(nightly_dag.__doc__),
        schedule=schedule,
        params={
            "date": OPTIONAL_DAY,
            "method": method_param(dataset),
            "budget": _budget_param(dataset),
            "basis": _BASIS,
            "exploration": _EXPLORATION,
            "embeddings": _EMBEDDINGS,
        },
        deadline_hours=2,
    ) as dag:
        score = python_step("mtorl_model.score", dataset, "--day", DAY, *METHOD_OPTION, *_SETTINGS)
        # Which of these tables a night publishes depends on its methods.
        audit_scores = audit_step(
            "scores",
            dataset,
            (*ONE_DAY, *ONLY_NEW, *ONLY_PUBLISHED),
            tables=TABLES_FROM_SCORING,
            publishes=score_assets,
        )
        plan_budget = python_step(
            "mtorl_model.plan_budget", dataset, "--day", DAY, *METHOD_OPTION, _budget_argument(dataset)
        )
        audit_budget_plan = audit_step(
            "budget_plan", dataset, (*ONE_DAY, *ONLY_PUBLISHED), publishes=(budget_plan_asset(dataset),)
        )

        score >> audit_scores >> plan_budget >> audit_budget_plan
        report_after_audits(dag, dataset)
    return dag


def _standing_budget(dataset: str) -> str:
    """The environment variable with the budget of days for which no budget was given."""
    return f"MTORL_BUDGET_{dataset.upper()}"


def _if_given(option: str) -> str:
    """The option with the run's parameter; empty without it, so that the entry point uses the standing value."""
    return f"{{{{ '' if params.{option} is none else '--{option}=%s' % params.{option} }}}}"


_SETTINGS = tuple(map(_if_given, ("basis", "exploration", "embeddings")))
_BASIS = Param(
    None, type=["null", "string"], enum=[None, BY_GATE, *BASES],
    description="what recommended channels are based on; gate: as decided on validation users",
)  # fmt: skip
_EXPLORATION = Param(
    None, type=["null", "number"], minimum=0, maximum=1,
    description="share of the users whose channel is drawn at random, to learn what other channels are worth",
)  # fmt: skip
_EMBEDDINGS = Param(
    None, type=["null", "string"], enum=[None, "on", "off"], description="whether to publish user_embeddings"
)


def _budget_param(dataset: str) -> Param:
    description = f"the day's budget; empty: the earlier plan's budget, or {_standing_budget(dataset)}"
    return Param(None, type=["null", "number"], minimum=0, description=description)


def _budget_argument(dataset: str) -> str:
    parameter = "'--budget=%r' % params.budget if params.budget is not none"
    return f"{{{{ {parameter} else default_budget('{_standing_budget(dataset)}') }}}}"
