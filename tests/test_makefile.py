"""The commands of make up to the entry points that they start, in a copy of the project with stubs for these."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import ROOT, Checkout, make_checkout

pytestmark = pytest.mark.slow(0.3)  # starts make

HISTORY = [
    "build_tables", "audit_table", "build_feature_spec", "audit_table", "audit_table", "train", "evaluate",
]  # fmt: skip
NIGHTLY = ["score", "audit_table", "plan_budget", "audit_table", "report"]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a checkout"  # a path with a space
    root.mkdir()
    return make_checkout(root)


@pytest.fixture(scope="module")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow with a new database, made as `make run` makes it. That takes seconds, so it is made once."""
    home = tmp_path_factory.mktemp("airflow")
    script = 'source bin/common.sh; airflow_environment "$1"; migrate_airflow_database "$1/setup.log"'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    checkout = make_checkout(tmp_path_factory.mktemp("project"))
    subprocess.run(["bash", "-c", script, "-", home], cwd=checkout.root, env=environment, check=True)
    return home


def add_airflow(checkout: Checkout, lake: Path, home: Path) -> None:
    """Copy an Airflow to the place where `make run` keeps the one of this lake."""
    folder = f"run-{hashlib.sha256(str(lake).encode()).hexdigest()[:12]}"
    (checkout.root / ".airflow" / folder).mkdir(parents=True)
    for file in ("airflow.db", ".database"):
        shutil.copy(home / file, checkout.root / ".airflow" / folder / file)


def one_error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only line that begins with `error:` of a command that has failed and shows no traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_make_prints_every_target_with_one_line(checkout):
    listed = checkout.make().stdout
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in targets[1].split():
        assert re.search(rf"^  {target} +\S", listed, re.MULTILINE), target


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.spark
def test_run_goes_through_all_dags_and_ends_with_the_summary(checkout, airflow_home):
    lake, raw = checkout.root / "my lake", checkout.root / "raw" / "generated-50"
    add_airflow(checkout, lake, airflow_home)
    done = checkout.make("run", "LAKE=my lake", "USERS=50")
    assert done.returncode == 0, done.stderr
    names = [call.split()[0] for call in checkout.calls()]
    assert names[:2] == ["generate_log", "log_days"]
    names = names[2:]
    assert names[: len(HISTORY)] == HISTORY
    assert names[len(HISTORY) :] == [*NIGHTLY, "measure_drift", "report", "measure_drift", "report", "summary"]
    assert done.stdout.endswith("policies: here\n")
    assert re.search(r"^  train +\d+ s$", done.stdout, re.MULTILINE)
    # Drift is measured twice; each time, a title names the days.
    lines = [line.split()[0] if line.startswith("  ") else line for line in done.stdout.splitlines()]
    assert lines[-7:-1] == [
        "mtorl_report_kuairand: drift and the report page of 2022-04-10", "measure_drift", "report",
        "trend over all days: drift and the report pages of 2022-04-08 to 2022-04-10", "measure_drift", "report",
    ]  # fmt: skip
    history = (
        f"build_tables --dataset kuairand --lake {lake} --raw {raw} --from 2022-04-08 --to 2022-04-10 --audit "
        "--journeys --this-code"
    )
    assert history in checkout.calls()
    score = f"score --dataset kuairand --lake {lake} --day 2022-04-10 --method mtorl"
    assert score in checkout.calls()
    # The model is trained with the feature spec just fitted, even if the lake has a newer one.
    (call,) = [call for call in checkout.calls() if call.startswith("train ")]
    assert "--from 2022-04-08 --to 2022-04-10 --spec-day 2022-04-10" in call


@pytest.mark.slow
@pytest.mark.airflow
@pytest.mark.spark
@pytest.mark.parametrize(
    ("failing", "started"),
    [("build_tables", ["build_tables"]), ("audit_table", ["build_tables", "audit_table"])],
)
def test_run_shows_the_failing_tasks_own_line_and_stops_there(checkout, airflow_home, failing, started):
    """A Spark job that fails, and an audit that fails: no table is built from rows that have failed it."""
    add_airflow(checkout, checkout.root / "lake" / "generated", airflow_home)
    done = checkout.make("run", **{f"FAIL_{failing}": "12 users appear twice in exposures"})
    assert one_error_line(done) == "error: 12 users appear twice in exposures"
    assert "run.log" in done.stderr
    assert [call.split()[0] for call in checkout.calls()[2:]] == started


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RAW=nowhere"], "nowhere"),
        (["DATASET=nothing"], "unknown dataset 'nothing'"),
        (["DATASET=criteo"], "needs RAW="),
        (["PRESET=huge"], "PRESET"),
        (["USERS=-1"], "USERS"),
        (["FROM=yesterday"], "not a day"),
        (["FROM=2022-04-10", "TO=2022-04-09"], "empty"),
        (["TO=2022-04-11"], "outside the log"),
        (["LAKE=Makefile"], "cannot write to the lake"),
    ],
)
def test_run_refuses_a_bad_input_with_one_line_before_any_work(checkout, arguments, message):
    assert message in one_error_line(checkout.make("run", *arguments))
    assert {call.split()[0] for call in checkout.calls()} <= {"generate_log", "log_days"}
    assert not (checkout.root / "lake").exists()
    assert not (checkout.root / ".airflow").exists()


def test_two_runs_on_one_lake_do_not_interleave(checkout):
    with locked_by_a_run(checkout, checkout.root / "my lake"):
        assert "another make run" in one_error_line(checkout.make("run", "LAKE=my lake"))


def test_a_lake_in_an_object_store_is_passed_on_as_it_is(checkout):
    locations = ["LAKE=gs://team/lake/", "RAW=gs://team/raw"]
    assert "MLFLOW_TRACKING_URI" in one_error_line(checkout.make("run", *locations))
    done = checkout.make("status", *locations)
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["status --dataset kuairand --lake gs://team/lake --raw gs://team/raw"]


@contextmanager
def locked_by_a_run(checkout: Checkout, lake: Path) -> Iterator[None]:
    """As while `make run` works on this lake."""
    home = checkout.root / ".airflow" / f"run-{hashlib.sha256(str(lake).encode()).hexdigest()[:12]}"
    home.mkdir(parents=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize(("arguments", "lake"), [([], "lake/generated"), (["RAW=log"], "lake")])
def test_made_up_users_and_real_ones_have_different_lakes(checkout, arguments, lake):
    (checkout.root / "log").mkdir(parents=True)
    with locked_by_a_run(checkout, checkout.root / lake):
        line = one_error_line(checkout.make("run", *arguments))
    assert f"working on the lake {checkout.root / lake}:" in line


@pytest.mark.slow
def test_a_log_is_generated_again_where_that_failed_and_only_there(checkout):
    done = checkout.make("run", FAIL_generate_log="the disk is full")
    assert one_error_line(done) == "error: the disk is full"
    log = checkout.root / "raw" / "generated"
    for _ in range(2):
        assert "outside the log" in one_error_line(checkout.make("run", "TO=2022-04-11"))
    generated = f"generate_log --layout kuairand --out {log} --users 1000"
    days = f"log_days --dataset kuairand --raw {log}"
    assert checkout.calls() == [generated, generated, days, days]


def test_a_variable_is_taken_literally(checkout):
    line = one_error_line(checkout.make("run", "RAW=$(shell touch pwned) `touch pwned` $HOME; touch pwned"))
    assert "$(shell touch pwned) `touch pwned` $HOME; touch pwned" in line
    assert not (checkout.root / "pwned").exists()


@pytest.mark.slow
@pytest.mark.spark
def test_evaluate_builds_the_windows_of_new_users_outside_the_lake(checkout):
    for folder in ("raw logs", "lake"):
        (checkout.root / folder).mkdir()
    done = checkout.make("evaluate", "RAW=raw logs", "OUT=my metrics.json")
    assert done.returncode == 0, done.stderr
    assert (checkout.root / "my metrics.json").read_text() == "{}"
    assert not list((checkout.root / "lake").iterdir())
    calls = checkout.calls()
    assert [call.split()[0] for call in calls] == ["log_days", "build_tables", "evaluate"]
    scratch = Path(re.search(r"--lake (\S+)/lake ", calls[1])[1])
    assert f"--lake {scratch}/lake --from 2022-04-08 --to 2022-04-10" in calls[1]
    assert not scratch.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["METHOD=a b"], "METHOD is one method or several"),
        (["RAW=nowhere"], "nowhere"),
        (["RAW=bin", "LAKE=nowhere"], "no lake"),
    ],
)
def test_evaluate_refuses_a_bad_input_with_one_line(checkout, arguments, message):
    (checkout.root / "lake").mkdir()
    assert message in one_error_line(checkout.make("evaluate", *arguments))


def test_evaluate_without_a_log_takes_the_held_out_users_of_the_lake(checkout):
    lake = checkout.root / "lake"
    lake.mkdir()
    done = checkout.make("evaluate", "METHOD=rmtl", "OUT=m.json")
    assert done.returncode == 0, done.stderr
    out = checkout.root / "m.json"
    assert checkout.calls() == [f"evaluate --dataset kuairand --lake {lake} --method rmtl --split test --out {out}"]


@pytest.mark.slow
def test_up_serves_the_logs_of_several_datasets(checkout):
    """The service itself is replaced: it prints which logs it was given."""
    (checkout.root / "bin" / "embedded_airflow" / "service.py").write_text(
        "import os, sys\n"
        "named = ('MTORL_RAW_', 'MTORL_METHODS_')\n"
        "print(*sorted(f'{k}={v}' for k, v in os.environ.items() if k.startswith(named)))\n"
        "sys.exit(1)\n"
    )
    for folder in ("a", "b"):
        (checkout.root / folder).mkdir()
    printed = checkout.make("up", "RAW=a", "RAW_CRITEO=b").stdout
    assert f"MTORL_RAW_CRITEO={checkout.root}/b MTORL_RAW_KUAIRAND={checkout.root}/a" in printed
    assert f"MTORL_RAW_CRITEO={checkout.root}/b\n" in checkout.make("up", "RAW_CRITEO=b").stdout
    assert "MTORL_METHODS_KUAIRAND=mtorl,rmtl\n" in checkout.make("up", "METHOD=mtorl,rmtl").stdout
    assert "there is no folder missing" in one_error_line(checkout.make("up", "RAW=a", "RAW_CRITEO=missing"))
    assert "unknown dataset 'nope'" in one_error_line(checkout.make("up", "RAW_NOPE=a"))


def test_rollback_passes_the_version_on_if_one_is_named(checkout):
    assert "there is no lake" in one_error_line(checkout.make("rollback"))
    (checkout.root / "my lake").mkdir()
    for arguments, version in (
        ([], ""),
        (["VERSION=mtorl_criteo/3"], " --version=mtorl_criteo/3"),
        (["METHOD=rmtl"], " --method=rmtl"),
    ):
        done = checkout.make("rollback", "DATASET=criteo", "LAKE=my lake", *arguments)
        assert done.returncode == 0, done.stderr
        assert checkout.calls()[-1] == f"rollback --dataset criteo --lake {checkout.root / 'my lake'}{version}"


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["study", "STUDY=mu", "FOLDS=5"], "run {on} --study mu --folds 5 --seeds 1"),
        (["study", "STUDY=embeddings", "EPOCHS=3"], "embeddings {on} --folds 2 --max-epochs 3"),
        (
            ["study", "STUDY=mu", "EPOCHS=3", "WORKERS=3"],
            "run {on} --study mu --workers 3 --folds 2 --seeds 1 --max-epochs 3",
        ),
        (["study", "STUDY=rmtl", "EPOCHS=3"], "study {on} --seeds 1 --max-epochs 3"),
        (
            ["study", "STUDY=rmtl", "PROTOCOL=published-time-split", "PRESET=paper", "SEEDS=2"],
            "study {on} --seeds 2 --protocol published-time-split --preset paper",
        ),
        (["search", "TRIALS=7", "HIDDEN=256"], "search {on} --trials 7 --hidden-at-most 256"),
        (["benchmark-published"], "published {on} --method mtorl"),
        (
            ["benchmark-published", "WINDOWS=9", "OUT=a b", "PRESET=paper", "SEED=4"],
            "published {on} --out {root}/a b --windows 9 --preset paper --seed 4 --method mtorl",
        ),
        (["results"], "results --lake {lake} --out {root}/docs/results.md"),
    ],
)
def test_studies_go_to_their_entry_points(checkout, arguments, call):
    lake = checkout.root / "lake"
    lake.mkdir()
    done = checkout.make(*arguments, "DATASET=criteo")
    assert done.returncode == 0, done.stderr
    values = {"on": f"--dataset criteo --lake {lake}", "lake": lake, "root": checkout.root}
    assert checkout.calls() == [call.format(**values)]


@pytest.mark.parametrize(
    ("arguments", "message"), [(["study"], "STUDY="), (["study", "LAKE=nowhere"], "no lake"), (["results"], "no lake")]
)
def test_studies_refuse_a_bad_input_with_one_line(checkout, arguments, message):
    if "study" in arguments:
        (checkout.root / "lake").mkdir()
    assert message in one_error_line(checkout.make(*arguments))


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "127.0.0.1"),
        ({"SPARK_MASTER": "local[*]"}, "127.0.0.1"),
        ({"SPARK_MASTER": "spark://spark.local:7077"}, ""),
        ({"AIRFLOW_CONN_SPARK": '{"conn_type": "spark", "host": "spark://host", "port": 7077}'}, ""),
        ({"SPARK_MASTER": "spark://host:7077", "SPARK_LOCAL_IP": "10.0.0.1"}, "10.0.0.1"),
    ],
)
def test_the_spark_driver_listens_on_this_machine_only_unless_there_is_a_cluster(checkout, environment, address):
    assert step_variable(checkout, "SPARK_LOCAL_IP", environment) == address


def step_variable(checkout: Checkout, name: str, environment: dict[str, str]) -> str:
    """A variable that bin/common.sh sets for the entry points, empty if it does not."""
    script = f'source bin/common.sh; step_environment; printf "%s" "${{{name}:-}}"'
    removed = ("SPARK_HOME", "SPARK_MASTER", "SPARK_LOCAL_IP", "AIRFLOW_CONN_SPARK")
    inherited = {k: v for k, v in os.environ.items() if k not in removed}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout.root,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_spark_is_that_of_the_virtual_environment(checkout):
    home = Path(step_variable(checkout, "SPARK_HOME", {}))
    assert home.is_relative_to(checkout.root / ".venv")
    assert os.access(home / "bin" / "spark-submit", os.X_OK)


@pytest.mark.slow
def test_backfill_without_airflow_says_how_to_start_it(checkout):
    done = checkout.make("backfill", "FROM=2022-04-08", "TO=2022-04-09")
    assert "make up" in one_error_line(done)
    assert "make up" in one_error_line(checkout.make("backfill"))
    assert "FROM=" in one_error_line(checkout.make("backfill", "FROM=2022-04-08"))
    assert "RUNS" in one_error_line(checkout.make("backfill", "FROM=2022-04-08", "TO=2022-04-08", "RUNS=no"))


def test_status_is_that_of_the_named_lake_and_days(checkout):
    done = checkout.make("status", "LAKE=my lake", "DATASET=criteo", "TO=2022-04-09", "RAW=my log")
    assert done.stdout == "all fresh: nothing to do\n"
    (call,) = checkout.calls()
    assert (
        call == f"status --dataset criteo --lake {checkout.root}/my lake --raw {checkout.root}/my log --to 2022-04-09"
    )


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        (["verify"], ["verify {on}"]),
        (["verify", "REPAIR=1"], ["verify {on} --repair"]),
        (["maintain"], ["maintain {on} --airflow-logs", "expire_models {on}"]),
        (["maintain", "DRY_RUN=1"], ["maintain {on} --dry-run --airflow-logs", "expire_models {on} --dry-run"]),
    ],
)
def test_the_lake_is_checked_and_tidied_up(checkout, arguments, calls):
    done = checkout.make(*arguments, "DATASET=criteo", "LAKE=my lake")
    assert done.returncode == 0, done.stderr
    on = f"--dataset criteo --lake {checkout.root}/my lake"
    assert checkout.calls() == [call.format(on=on) for call in calls]


@pytest.mark.parametrize(("file", "output"), [("", "True"), ("events.jsonl", "requirements-openlineage.txt")])
def test_lineage_events_are_off_unless_a_file_is_named(checkout, file, output):
    script = 'source bin/common.sh; openlineage_environment; printf "%s" "$AIRFLOW__OPENLINEAGE__DISABLED"'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout.root,
        env=os.environ | {"OPENLINEAGE": file},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout == "False":
        pytest.skip("the package is installed here")
    assert output in done.stdout + done.stderr


def test_continuous_integration_runs_the_tests_and_keeps_their_status(checkout):
    (checkout.root / ".ci").mkdir()
    script = checkout.root / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    (checkout.root / "Makefile").write_text("test:\n\t@echo tested; exit 3\nrun:\n\t.ci/run\n")
    script.chmod(0o755)
    done = checkout.make("run")
    assert "tested" in done.stdout
    assert "Error 2" in done.stderr  # make's own status for a failed recipe
