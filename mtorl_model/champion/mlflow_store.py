"""The MLflow store of a lake: its address, and a client for it.

MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI name it, as in every program that uses MLflow. Without them, a lake on this
machine has an own store in LAKE/mlflow: an SQLite database, and the artifacts as files. Only MLflow's public API
is used. MLflow is imported here inside functions, because that takes seconds; its telemetry is off.
"""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.lake import Lake
from lakehouse.storage.files import is_local, make_durable
from schemas.errors import Busy, UserError
from schemas.lean_imports import hide_modules

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
MODEL = "model"  # the folder of a run's artifacts that has the model
_ATTEMPTS = "4"  # of a request; MLflow's own default waits for four minutes before it reports a wrong address
_NO_SUCH = {"RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"}
_EXISTS = "RESOURCE_ALREADY_EXISTS"


def tracking_uri(lake: Lake) -> str:
    """Where runs and artifacts are. Raises UserError for a lake in an object store if no variable names the place."""
    return os.environ.get(TRACKING) or f"sqlite:///{own_database(lake)}"


def registry_uri(lake: Lake) -> str:
    """Where registered models are: in the same store, unless the other variable names another one."""
    return os.environ.get(REGISTRY) or tracking_uri(lake)


def has_own_store(lake: Lake) -> bool:
    """Whether the lake's runs are in its own folder."""
    return not os.environ.get(TRACKING) and "://" not in str(lake.root)


@contextmanager
def mlflow_client(lake: Lake) -> Iterator["MlflowClient"]:
    """A client of the store. Within the block, an error of MLflow becomes one line that names the store.

    Raises Busy if the store does not answer or refuses a request.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _ATTEMPTS)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    places = tracking_uri(lake), registry_uri(lake)
    with hide_modules("polars", "pyspark"):  # optional for MLflow; hiding them saves a tenth of its start
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

    # Do not print the dozens of migrations of a new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    if has_own_store(lake):
        create_store(lake)
    try:
        yield MlflowClient(*places)
    except MlflowException as error:
        lines = str(error).strip().splitlines() or [error.error_code]
        named = " and ".join(dict.fromkeys(map(without_password, places)))
        raise Busy(f"MLflow at {named}: {without_password(lines[0])}") from error


def without_password(text: str) -> str:
    """The text, without the name and the password in front of the host of a URI."""
    return re.sub(r"://[^/\s]*@", "://", text)


def create_store(lake: Lake) -> None:
    """Create the database of the lake's own store if it does not exist, in one step.

    MLflow creates it in dozens of steps and cannot repair a database whose creation was interrupted.
    """
    database = own_database(lake)
    if database.exists():
        return
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        complete = Path(folder) / database.name
        MlflowClient(tracking_uri=f"sqlite:///{complete}").search_experiments(max_results=1)
        _copy_once(complete, database)


def _copy_once(file: Path, target: Path) -> None:
    """Copy a file to a path where no file is, in one step. A file that another process has put there stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = target.with_name(f".{uuid.uuid4().hex}")
    try:
        shutil.copyfile(file, copy)
        make_durable(copy)
        with suppress(FileExistsError):
            target.hardlink_to(copy)
    finally:
        copy.unlink(missing_ok=True)


def experiment_of(client: "MlflowClient", lake: Lake, name: str) -> str:
    """The id of the experiment of that name, which is created if it does not exist.

    A server knows where artifacts go. With a database, they are below the lake; without a location, MLflow would write
    them into the working directory. After the lake was copied or moved, its experiments still name the former place, so
    new runs get another experiment.
    """
    location = None if _is_server(lake) else _artifacts_uri(lake, name)
    for title in (name, f"{name} in {lake.root}"):
        experiment = client.get_experiment_by_name(title) or _create_experiment(client, title, location)
        if location is None or experiment.artifact_location == location:
            break
    return str(experiment.experiment_id)


def remove_files(lake: Lake, run_ids: Sequence[str]) -> None:
    """Remove what the lake's own store has of deleted runs. Raises Busy if MLflow's command for it fails."""
    store = tracking_uri(lake)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store, "--tracking-uri", store]
    done = subprocess.run([*command, "--run-ids", ",".join(run_ids)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Busy(f"mlflow gc of {store}: {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")


def download_model(lake: Lake, run_id: str, folder: Path) -> Path:
    """Download the model of a run into a folder; returns the model's folder. Raises UserError if it is not there."""
    from mlflow.exceptions import MlflowException

    with mlflow_client(lake) as client:
        import mlflow.artifacts

        try:
            source = _artifact_uri(client, lake, run_id)
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=f"{source}/{MODEL}", dst_path=str(folder), tracking_uri=tracking_uri(lake)
            )
        except MlflowException as error:
            if error.error_code not in _NO_SUCH:
                raise
            raise UserError(f"{without_password(tracking_uri(lake))} has no run {run_id}") from error
    return Path(path)


def _artifact_uri(client: "MlflowClient", lake: Lake, run_id: str) -> str:
    """The place of a run's artifacts, also after the lake was copied or moved."""
    run = client.get_run(run_id).info
    if _is_server(lake):
        return str(run.artifact_uri)
    former = client.get_experiment(run.experiment_id).artifact_location
    return _artifacts_uri(lake, former.rpartition("/")[2]) + str(run.artifact_uri).removeprefix(former)


def ignore_existing(error: Exception) -> None:
    """Raise an error of MLflow again, unless it reports that another run has created the same just before."""
    if getattr(error, "error_code", "") != _EXISTS:
        raise error


def _create_experiment(client: "MlflowClient", title: str, location: str | None):  # type: ignore[no-untyped-def]
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(title, artifact_location=location)
    except MlflowException as error:
        ignore_existing(error)
    return client.get_experiment_by_name(title)


def own_database(lake: Lake) -> Path:
    if not is_local(lake.root):
        raise UserError(
            f"{lake.root} is in an object store, which cannot hold MLflow's database: set {TRACKING} to the address of "
            "an MLflow server, or of a database such as postgresql://..."
        )
    return Path(lake.root).resolve() / "mlflow" / "mlflow.db"


def _is_server(lake: Lake) -> bool:
    return not tracking_uri(lake).startswith(("sqlite:", "postgresql", "mysql", "mssql"))


def _artifacts_uri(lake: Lake, experiment: str) -> str:
    if not is_local(lake.root):
        return f"{lake.root}/mlflow/artifacts/{experiment}"
    return own_artifacts(lake, experiment).as_uri()


def own_artifacts(lake: Lake, experiment: str) -> Path:
    return Path(lake.root).resolve() / "mlflow" / "artifacts" / experiment
