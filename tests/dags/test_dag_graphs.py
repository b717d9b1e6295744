"""The task graphs: the order of the tasks, the tasks that publish assets, the arguments of the entry points."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import jinja2
import pytest
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from bin.embedded_airflow import backfill
from dags.dataset_dag import method_param
from dags.operators import ROOT, PythonStep, SparkStep
from dags.steps import DAY
from lakehouse.retention import LONGEST_JOB_DAYS, RETENTION
from schemas.dataset import dataset_names, get_dataset

HISTORY = {
    "build_tables": {"audit_journeys"},
    "audit_journeys": {"build_feature_spec"},
    "build_feature_spec": {"audit_feature_spec"},
    "audit_feature_spec": {"audit_sequences"},
    "audit_sequences": {"train"},
    "train": {"evaluate"},
    "evaluate": set(),
}
DAILY = {
    "build_tables": {"audit_day", "report"},
    "export_champion": {"audit_day"},
    "audit_day": {"learn", "report"},
    "learn": {"audit_champion"},
    "audit_champion": {"report"},
    "report": set(),
}
NIGHTLY = {
    "score": {"audit_scores"},
    "audit_scores": {"plan_budget", "report"},
    "plan_budget": {"audit_budget_plan"},
    "audit_budget_plan": {"report"},
    "report": set(),
}
REPORT = {"measure_drift": {"report"}, "report": set()}
MAINTENANCE = {"maintain": set(), "expire_models": set()}


@pytest.mark.parametrize("dataset", dataset_names())
@pytest.mark.parametrize(
    ("kind", "graph"),
    [
        ("history", HISTORY),
        ("daily", DAILY),
        ("nightly", NIGHTLY),
        ("report", REPORT),
        ("maintenance", MAINTENANCE),
    ],
)
def test_tasks_wait_for_the_audits_before_them(bag, dataset, kind, graph):
    dag = bag.dags[f"mtorl_{kind}_{dataset}"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == graph


def test_assets_are_published_by_audits(bag):
    outlets = {
        (dag.dag_id, task.task_id): [asset.name for asset in task.outlets]
        for dag in bag.dags.values()
        for task in dag.tasks
        if task.outlets
    }
    assert all(task.startswith("audit_") for _, task in outlets)
    assert outlets["mtorl_daily_criteo", "audit_champion"] == ["champion_criteo"]
    assert backfill.STARTS_NIGHTLY_RUN == "audit_champion"  # after its success, a backfill waits for a nightly run
    assert outlets["mtorl_daily_criteo", "audit_day"] == ["journeys_criteo"]
    scores = ["channel_policies_criteo", "user_reward_ranks_criteo", "channel_allocation_criteo"]
    assert outlets["mtorl_nightly_criteo", "audit_scores"] == scores
    assert outlets["mtorl_nightly_criteo", "audit_budget_plan"] == ["budget_plan_criteo"]
    assert not any("history" in dag for dag, _ in outlets)  # it has many days and starts no nightly run


def test_a_stopped_day_has_a_page_and_a_complete_day_is_reported_after_its_night(bag):
    """A teardown also runs after failed tasks, and it does not turn their run into a success."""
    for kind in ("daily", "nightly"):
        report = bag.dags[f"mtorl_{kind}_criteo"].get_task("report")
        assert report.is_teardown
        assert not report.on_failure_fail_dagrun
        assert "--if-there" in report.arguments  # another task has sent the alert for a day without rows
        assert not report.on_skipped_callback
    full = bag.dags["mtorl_report_criteo"]
    assert full.timetable.asset_condition.name == "budget_plan_criteo"
    assert full.get_task("report").is_teardown  # the page is written even if drift exceeds its limits
    assert full.get_task("report").on_failure_fail_dagrun
    assert not full.get_task("measure_drift").is_teardown
    assert not full.get_task("measure_drift").on_skipped_callback  # an empty day has a page, but no drift
    assert {tuple(task.arguments[-2:]) for task in full.tasks} == {("--day", DAY)}


def test_every_task_has_retries(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.retries == 2, task
            assert task.retry_exponential_backoff


def test_windows_are_trained_on_and_audited_with_the_feature_spec_of_their_model(bag):
    history, daily = bag.dags["mtorl_history_criteo"], bag.dags["mtorl_daily_criteo"]
    arguments = history.get_task("train").arguments
    assert arguments[arguments.index("--spec-day") + 1] == "{{ params.to }}"
    export, audit = (daily.get_task(name).arguments for name in ("export_champion", "audit_day"))
    assert audit[audit.index("--spec") + 1] == f"{export[export.index('--out') + 1]}/feature_spec.json"


def test_a_replayed_history_trains_with_the_labels_of_that_time(bag):
    task = bag.dags["mtorl_history_criteo"].get_task("train")
    (argument,) = (a for a in task.arguments if "labels-known-by" in a)
    rendered = {
        day: task.render_template(argument, {"params": {"labels_known_by": day}}) for day in (None, "2017-01-08")
    }
    assert rendered == {None: "", "2017-01-08": "--labels-known-by=2017-01-08"}  # an empty argument is left out


def test_only_training_takes_the_gpu(bag):
    pools = {task.task_id: (task.pool, task.queue) for dag in bag.dags.values() for task in dag.tasks}
    assert pools.pop("train") == pools.pop("learn") == ("gpu", "gpu")
    assert set(pools.values()) == {("default_pool", "default")}


@pytest.mark.parametrize("dataset", dataset_names())
def test_days_are_partitions_of_the_datasets_own_calendar(bag, dataset):
    daily, nightly = bag.dags[f"mtorl_daily_{dataset}"], bag.dags[f"mtorl_nightly_{dataset}"]
    assert str(daily.timetable.timezone) == get_dataset(dataset).timezone
    assert (daily.timetable.run_offset, daily.timetable.key_format) == (-1, "%Y-%m-%d")
    assert nightly.timetable.asset_condition.name == f"champion_{dataset}"
    assert not daily.catchup
    assert daily.max_active_runs == 1


def test_every_task_names_an_entry_point_of_this_project(bag):
    for dag in bag.dags.values():
        for task in dag.tasks:
            assert isinstance(task, (PythonStep, SparkStep))
            module = ROOT / f"{getattr(task, 'module', '').replace('.', '/')}.py"
            path = Path(task.application) if isinstance(task, SparkStep) else module
            assert path.parent in (ROOT / "jobs", ROOT / "mtorl_model")
            is_module = path.is_file() or (path.with_suffix("") / "__main__.py").is_file()
            assert is_module, f"{task.task_id} starts {path}, which does not exist"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("from", "22.04.2022"),
        ("to", "2022-04-22; rm -rf /"),
        ("from", None),
        ("raw", "--help"),
        ("raw", "a\nb"),
        ("lake", ""),
        ("preset", "huge"),
        ("max_epochs", 0),
    ],
)
def test_an_invalid_parameter_is_refused(bag, name, value):
    schema = bag.dags["mtorl_history_kuairand"].params.get_param(name).schema
    with pytest.raises(ParamValidationError):
        Param(value, **schema).resolve()


@pytest.mark.parametrize("value", [-1, "5; rm -rf /", float("-inf")])
def test_an_invalid_budget_is_refused(bag, value):
    schema = bag.dags["mtorl_nightly_kuairand"].params.get_param("budget").schema
    with pytest.raises(ParamValidationError):
        Param(value, **schema).resolve()


@pytest.mark.parametrize(
    ("budget", "argument"), [(None, ""), (12.5, "--budget=12.5"), (1e-7, "--budget=1e-07"), (0, "--budget=0")]
)
def test_the_budget_is_an_argument_of_the_plan(bag, budget, argument):
    assert budget_argument(bag, budget) == argument


def test_an_automatic_run_has_the_standing_budget(bag, monkeypatch):
    """Runs that an asset starts have no parameters: without the standing budget they would select no user."""
    monkeypatch.setenv("MTORL_BUDGET_CRITEO", "250.5")
    assert budget_argument(bag, None) == "--default-budget=250.5"
    assert budget_argument(bag, 12.5) == "--budget=12.5"
    assert budget_argument(bag, 0) == "--budget=0"
    monkeypatch.setenv("MTORL_BUDGET_CRITEO", "")
    assert budget_argument(bag, None) == ""


def budget_argument(bag, budget) -> str:
    dag = bag.dags["mtorl_nightly_criteo"]
    template = jinja2.Template(dag.get_task("plan_budget").arguments[-1])
    return template.render(params={"budget": budget}, **dag.user_defined_macros)


def test_settings_of_the_scoring_are_arguments_only_if_they_are_given(bag, monkeypatch):
    """Standing values are read in one place, the entry point."""
    for name in ("BASIS", "EXPLORATION", "EMBEDDINGS"):
        monkeypatch.setenv(f"MTORL_{name}_CRITEO", "not read by the DAG")
    dag = bag.dags["mtorl_nightly_criteo"]
    assert {dag.params.get_param(name).resolve() for name in ("basis", "exploration", "embeddings")} == {None}
    task = dag.get_task("score")
    given = {"basis": "value", "exploration": 0.05, "embeddings": "on"}
    for params, expected in (
        (dict.fromkeys(given), ["", "", ""]),
        (given, ["--basis=value", "--exploration=0.05", "--embeddings=on"]),
    ):
        assert [task.render_template(argument, {"params": params}) for argument in task.arguments[-3:]] == expected


@pytest.mark.parametrize(
    ("name", "value"), [("basis", "guess"), ("exploration", 1.5), ("exploration", "a"), ("embeddings", "perhaps")]
)
def test_an_invalid_setting_of_the_scoring_is_refused(bag, name, value):
    schema = bag.dags["mtorl_nightly_kuairand"].params.get_param(name).schema
    with pytest.raises(ParamValidationError):
        Param(value, **schema).resolve()


@pytest.mark.parametrize(
    ("dag", "task"),
    [
        ("history", "train"),
        ("history", "evaluate"),
        ("daily", "learn"),
        ("nightly", "score"),
        ("nightly", "plan_budget"),
    ],
)
def test_a_run_names_its_method(bag, dag, task):
    dag = bag.dags[f"mtorl_{dag}_kuairand"]
    parameter = dag.params.get_param("method")
    assert parameter.resolve() == "mtorl"
    for wrong in ("--preset=paper", "mtorl rmtl", ""):
        with pytest.raises(ParamValidationError):
            parameter.resolve(wrong)
    step = dag.get_task(task)
    option = step.arguments[step.arguments.index("--method") + 1]
    assert step.render_template(option, {"params": {"method": "mtorl,rmtl"}}) == "mtorl,rmtl"


def test_runs_that_nobody_starts_have_the_standing_methods_of_the_dataset(monkeypatch):
    monkeypatch.setenv("MTORL_METHODS_CRITEO", "mtorl,rmtl")
    assert method_param("criteo").resolve() == "mtorl,rmtl"
    assert method_param("kuairand").resolve() == "mtorl"


def test_windows_are_cut_as_the_default_methods_champion_reads_them(bag):
    task = bag.dags["mtorl_daily_criteo"].get_task("export_champion")
    option = task.arguments[task.arguments.index("--method") + 1]
    assert task.render_template(option, {"params": {"method": "rmtl"}}) == "mtorl,rmtl"


def test_nothing_is_removed_that_a_running_task_may_read(bag):
    assert max(task.execution_timeout for dag in bag.dags.values() for task in dag.tasks) <= timedelta(
        days=LONGEST_JOB_DAYS
    )
    assert min(asdict(RETENTION).values()) > LONGEST_JOB_DAYS


def test_a_dry_run_of_the_maintenance_is_a_parameter(bag):
    for task in bag.dags["mtorl_maintenance_criteo"].tasks:
        for dry_run, argument in ((False, ""), (True, "--dry-run")):
            assert task.render_template(task.arguments[-1], {"params": {"dry_run": dry_run}}) == argument
