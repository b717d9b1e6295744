"""The DAG `mtorl_history_<dataset>`: from a range of days of the raw log to the first champion."""

from airflow.sdk import DAG, BaseOperator, Param

from dags.dataset_dag import (
    DAY_FORMAT,
    FIRST_DAY,
    HISTORY_TASK_LIMIT,
    LAST_DAY,
    dataset_dag,
    method_param,
    raw_folder_param,
)
from dags.steps import DAYS, LAST_DAY_ONLY, METHOD_OPTION, audit_step, python_step, raw_folder, spark_step
from schemas.tables.registry import TABLES_OF_STEPS

# An option is left out if its parameter is empty.
_MAX_EPOCHS = "{{ '--max-epochs=%d' % params.max_epochs if params.max_epochs else '' }}"
_MEMBERS = "{{ '--members=%d' % params.members if params.members else '' }}"
_PROCESSES = "{{ '--processes=%d' % params.processes if params.processes else '' }}"
_LABELS_KNOWN_BY = "{{ '--labels-known-by=%s' % params.labels_known_by if params.labels_known_by else '' }}"
_SPEC_DAY = ("--spec-day", "{{ params.to }}")  # the spec that this run fits, not the newest one in the lake


def history_dag(dataset: str) -> DAG:
    """Started by hand: a range of days becomes tables, and a model trained from scratch becomes the first champion.

    Needs `from` and `to`. The raw log becomes exposures, journeys, steps and sequences. A table that fails its audit
    stops all later tasks. Training registers the champion of each method, which is then evaluated on users that it has
    never seen.
    """
    with dataset_dag(
        "history",
        dataset,
        str(history_dag.__doc__),
        schedule=None,
        params=_params(dataset),
        task_limit=HISTORY_TASK_LIMIT,
    ) as dag:
        # A run by hand builds everything with the present code; a daily run does not rebuild the past.
        build_tables = spark_step(
            "build_tables", dataset, *raw_folder(dataset), *DAYS, "--audit", "--journeys", "--this-code"
        )
        audit_journeys = audit_step("journeys", dataset, LAST_DAY_ONLY)
        build_feature_spec = python_step("jobs.build_feature_spec", dataset, *DAYS, "--this-code")
        audit_feature_spec = audit_step("feature_spec", dataset, LAST_DAY_ONLY)
        audit_sequences = audit_step("sequences", dataset, DAYS, tables=TABLES_OF_STEPS)
        train = _train(dataset)
        evaluate = python_step("mtorl_model.evaluate", dataset, *DAYS, *METHOD_OPTION, "--split", "test")

        # The audit of the sequences compares their channels with the spec.
        build_tables >> audit_journeys >> build_feature_spec >> audit_feature_spec >> audit_sequences
        audit_sequences >> train >> evaluate
    return dag


def _train(dataset: str) -> BaseOperator:
    options = (*METHOD_OPTION, "--preset", "{{ params.preset }}", _MAX_EPOCHS, _MEMBERS, _PROCESSES)
    # The pool has one slot: two trainings would share the memory of one GPU.
    return python_step(
        "mtorl_model.train", dataset, *DAYS, *_SPEC_DAY, _LABELS_KNOWN_BY, *options, pool="gpu", queue="gpu"
    )


def _params(dataset: str) -> dict[str, Param]:
    count = {"type": ["null", "integer"], "minimum": 1}
    return {
        "raw": raw_folder_param(dataset),
        "from": FIRST_DAY,
        "to": LAST_DAY,
        "method": method_param(dataset),
        "preset": Param("small", type="string", enum=["small", "paper"], description="size of the model"),
        "labels_known_by": Param(
            None,
            type=["null", "string"],
            **DAY_FORMAT,
            description="to replay history: use the labels as known at the end of this day; empty: all present labels",
        ),
        "max_epochs": Param(None, **count, description="empty: the number of the preset"),
        "members": Param(None, **count, description="number of models to average; empty: the number of the preset"),
        "processes": Param(None, **count, description="number of training processes, each with one GPU; empty: one"),
    }
