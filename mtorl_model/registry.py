"""Trained models under version: MLflow in the lake, a registered model a dataset, its `champion` by alias.

A version's files lie in `LAKE/mlflow/artifacts/<dataset>/<run>/artifacts/model`, always found from the lake
at hand, so that a lake may be copied or mounted elsewhere. MLflow stores tensors and JSON as plain files here,
never a pickled model.
"""

import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mtorl_model.artifact import Artifact, load_artifact
from mtorl_model.training import History
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.paths import Lake
from schemas.publishing import staging_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"


def model_name(dataset: Dataset) -> str:
    return f"mtorl_{dataset.name}"


def register_champion(
    lake: Lake, dataset: Dataset, folder: Path, params: Mapping[str, object], histories: Sequence[History]
) -> str:
    """Register a model folder (artifact.save_artifact) as the dataset's champion; "mtorl_kuairand/3".

    The run holds params, the losses of every member's epochs and the folder. A kill leaves the champion as it was.
    """
    client = _client(lake)
    from mlflow.entities import Metric, Param

    run = client.create_run(_experiment_id(client, lake, dataset))
    client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
    for member, history in enumerate(histories, start=1):
        of_member = f"_{member}" if member > 1 else ""
        for number, epoch in enumerate(history.epochs, start=1):
            values = epoch.curves(dataset.gain_names)
            now_ms = time.time_ns() // 1_000_000
            metrics = [Metric(name + of_member, value, now_ms, number) for name, value in values.items()]
            client.log_batch(run.info.run_id, metrics)
    files = _files(lake, dataset, run.info.run_id)
    shutil.copytree(folder, files)
    client.set_terminated(run.info.run_id)
    name = model_name(dataset)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = str(client.create_model_version(name, files.as_uri(), run.info.run_id).version)
    client.set_registered_model_alias(name, CHAMPION, version)
    return f"{name}/{version}"


def load_champion(lake: Lake, dataset: Dataset) -> tuple[str, Artifact]:
    """The champion's version ("mtorl_kuairand/3") and model, or a UserError where there is none."""
    none_yet = f"no champion model for {dataset.name} in {lake.root} yet: run mtorl_history_{dataset.name} (make run)"
    if not _database(lake).exists():
        raise UserError(none_yet)
    client, name = _client(lake), model_name(dataset)
    found = client.search_registered_models(f"name = '{name}'")
    if not found or CHAMPION not in found[0].aliases:
        raise UserError(none_yet)
    version = client.get_model_version(name, found[0].aliases[CHAMPION])
    return f"{name}/{version.version}", load_artifact(_files(lake, dataset, version.run_id))


def _files(lake: Lake, dataset: Dataset, run_id: str) -> Path:
    """Where MLflow, too, looks for a run's artifact `model`."""
    return lake.mlflow_artifacts / dataset.name / run_id / "artifacts" / "model"


def _database(lake: Lake) -> Path:
    return Path(lake.mlflow_uri.removeprefix("sqlite:///"))


def _client(lake: Lake) -> "MlflowClient":
    """MLflow takes seconds to import and calls home unless told not to: both are seen to here."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    from mlflow import MlflowClient

    # A line for each of the dozens of migrations of a new database tells nobody anything.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    if not _database(lake).exists():
        _create_database(lake)
    return MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)


def _create_database(lake: Lake) -> None:
    """A new database, whole or not at all: MLflow makes it in dozens of steps, and cannot mend a half-made one."""
    from mlflow import MlflowClient

    with staging_folder(lake) as staging:
        staged = staging / _database(lake).name
        MlflowClient(tracking_uri=f"sqlite:///{staged.resolve()}").search_experiments(max_results=1)
        _database(lake).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another run was faster
            _database(lake).hardlink_to(staged)


def _experiment_id(client: "MlflowClient", lake: Lake, dataset: Dataset) -> str:
    found = client.get_experiment_by_name(dataset.name)
    if found:
        return str(found.experiment_id)
    location = (lake.mlflow_artifacts / dataset.name).as_uri()
    return str(client.create_experiment(dataset.name, artifact_location=location))
