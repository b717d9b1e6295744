"""Trained models under version: MLflow in the lake, a registered model a dataset, its `champion` by alias.

A version's files lie in `LAKE/mlflow/artifacts/<dataset>/<run>/artifacts/model`, always found from the lake
at hand, so that a lake may be copied or mounted elsewhere. MLflow stores tensors and JSON as plain files here,
never a pickled model. What is registered is read from MLflow's tables (lakehouse/model_tables.py), so that only those
who register or name a model wait for MLflow to be imported.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.files import make_durable, swap_into_place, write_whole
from lakehouse.lake import Lake
from lakehouse.locks import locked
from lakehouse.model_tables import CHAMPION, aliased_version, model_name, model_versions, run_params
from lakehouse.staging import staging_folder
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.lean_imports import without
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mtorl_model.methods.mtorl.artifact import Artifact

LINEAGE = "lineage.json"
CHALLENGER = "challenger"  # with the day behind it: challenger-2022-04-24


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model.

    day: the last day whose labels it was trained on. parent: the version it was fine-tuned from, "" after a full
    training. reign: its place among all that have been champion (1 the first), 0 where it never was. decision: what
    the promotion gate said of it, "" before, beside the champion `against`. withdrawn: a person has rolled back past
    it (rollback.py).
    """

    name: str  # e.g. mtorl_kuairand/3
    number: int
    run_id: str
    day: str
    identity: str
    parent: str = ""
    reign: int = 0
    decision: str = ""
    against: str = ""
    withdrawn: bool = False


@contextmanager
def registry_lock(lake: Lake, dataset: Dataset) -> Iterator[None]:
    """Whoever reads the registry in order to change it does both within: one process at a time, and no long work.

    Others wait, say so, and stop with Busy in the end (lakehouse/locks.py).
    """
    with locked(lake, ("models",), dataset, [UNDATED]):
        yield


def register(
    lake: Lake,
    dataset: Dataset,
    folder: Path,
    params: Mapping[str, object],
    curves: Sequence[Mapping[str, float]],
    *,
    identity: str,
    day: str,
    parent: str = "",
) -> Version:
    """Register a model folder (artifact.save_artifact) as a new version; the champion stays as it is.

    folder: on the lake's own file system; it is moved. The run holds params, the figures of each of `curves` under its
    number from 1, and the folder. identity: all that the weights depend on. A kill or a power cut leaves no version, or
    a whole one that `find_version` finds again.
    """
    client = _client(lake)
    from mlflow.entities import Metric, Param

    run = client.create_run(_experiment_id(client, lake, dataset))
    client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
    for number, values in enumerate(curves, start=1):
        now_ms = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now_ms, number) for name, value in values.items()]
        client.log_batch(run.info.run_id, metrics)
    files = _files(lake, dataset, run.info.run_id)
    for path in (*folder.rglob("*"), folder):
        make_durable(path)
    swap_into_place(folder, files)
    for path in files.parents[1:3]:  # made just now; MLflow's database outlasts a power cut, and so must they
        make_durable(path)
    client.set_terminated(run.info.run_id)
    name = model_name(dataset.name)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    tags = {"identity": _short(identity), "day": day, "parent": parent}
    return _version(client.create_model_version(name, files.as_uri(), run.info.run_id, tags=tags))


def write_lineage(
    lake: Lake, dataset: Dataset, version: Version, spec_version: str, trained_on: Mapping[str, str]
) -> None:
    """Beside the weights: lineage.json, what they come from, by the names and fingerprints that manifests use.

    trained_on: fingerprints of the partitions, by path in the lake. Written again after a kill, it is the same.
    """
    inputs = {**({"parent": version.parent} if version.parent else {}), **dict(sorted(trained_on.items()))}
    told = {"version": version.name, "day": version.day, "spec_version": spec_version, "inputs": inputs}
    write_whole(_files(lake, dataset, version.run_id) / LINEAGE, json.dumps(told, indent=1) + "\n")


def find_version(lake: Lake, dataset: Dataset, identity: str) -> Version | None:
    """The version registered under that identity, the newest of several; None where there is none."""
    found = [v for v in versions(lake, dataset) if v.identity == _short(identity)]
    return found[-1] if found else None


def versions(lake: Lake, dataset: Dataset) -> list[Version]:
    """All registered versions, the oldest first."""
    return [_version(found) for found in model_versions(lake, model_name(dataset.name))]


def named_version(lake: Lake, dataset: Dataset, name: str) -> Version:
    """The version of that name (mtorl_kuairand/3), or a UserError that lists those there are."""
    there = versions(lake, dataset)
    for version in there:
        if version.name == name:
            return version
    listed = ", ".join(v.name for v in there) or "none"
    raise UserError(f"no model '{name}' of {dataset.name} in {lake.root}: there are {listed}")


def set_challenger(lake: Lake, dataset: Dataset, version: Version) -> None:
    """Name the version as the challenger of its day; a redo of the day names another."""
    _client(lake).set_registered_model_alias(
        model_name(dataset.name), f"{CHALLENGER}-{version.day}", str(version.number)
    )


def challenger_of(lake: Lake, dataset: Dataset, day: str) -> Version | None:
    """The challenger of a day, None where there is none."""
    return _named(lake, dataset, f"{CHALLENGER}-{day}")


def make_champion(lake: Lake, dataset: Dataset, version: Version, *, back: bool = False) -> None:
    """Set the alias, from which moment on every scoring uses the version. A withdrawn version is none any more.

    It reigns after all that have been champion, also where it was before, so that a rollback finds the one that it
    takes the place of. back: its own reign goes on, as a rollback to it means. The champion of now keeps its reign.
    """
    client, name = _client(lake), model_name(dataset.name)
    now = find_champion(lake, dataset)
    if not (back or (now and now.number == version.number)):
        reign = 1 + max((v.reign for v in versions(lake, dataset)), default=0)
        client.set_model_version_tag(name, str(version.number), "reign", str(reign))
    if version.withdrawn:
        client.delete_model_version_tag(name, str(version.number), "withdrawn")
    client.set_registered_model_alias(name, CHAMPION, str(version.number))


def set_decision(lake: Lake, dataset: Dataset, version: Version, decision: str, *, against: str) -> None:
    """Write down what the gate said of a version beside a champion; one tag, so that a kill writes both or neither."""
    set_tag(lake, dataset, version, "decision", f"{against} {decision}")


def set_tag(lake: Lake, dataset: Dataset, version: Version, name: str, value: str) -> None:
    """Write down something about a version that is no property of its weights, such as `withdrawn`."""
    _client(lake).set_model_version_tag(model_name(dataset.name), str(version.number), name, value)


def champion(lake: Lake, dataset: Dataset) -> Version:
    """The champion, or a UserError where there is none."""
    none_yet = f"no champion model for {dataset.name} in {lake.root} yet: run mtorl_history_{dataset.name} (make run)"
    found = find_champion(lake, dataset)
    if found is None:
        raise UserError(none_yet)
    return found


def find_champion(lake: Lake, dataset: Dataset) -> Version | None:
    """The champion, None where there is none yet."""
    return _named(lake, dataset, CHAMPION)


def champion_before(lake: Lake, dataset: Dataset, day: str) -> Version | None:
    """The champion as it was before that day, which has seen nothing of it; a UserError where there is no champion.

    That is today's where it was trained through an earlier day; else, of those that have been champion and were not
    withdrawn, the one trained through the latest day before, the newest of equals. None where all have seen the day.
    """
    now = champion(lake, dataset)
    if now.day < day:
        return now
    been = [v for v in versions(lake, dataset) if v.reign and not v.withdrawn and v.day < day]
    return max(been, key=lambda v: (v.day, v.reign), default=None)


def load_version(lake: Lake, dataset: Dataset, version: Version) -> "Artifact":
    from mtorl_model.methods.mtorl.artifact import (
        load_artifact,  # torch, 2 CPU seconds, for those who load a model alone
    )

    return load_artifact(_files(lake, dataset, version.run_id))


def version_spec(lake: Lake, dataset: Dataset, version: Version) -> FeatureSpec:
    """The feature spec that a version's windows are cut with. Raises UserError where its files are gone."""
    path = _files(lake, dataset, version.run_id) / MODEL_SPEC_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: {version.name} is no model any more; train again (make run)")
    return FeatureSpec.from_json(path.read_text())


def load_champion(lake: Lake, dataset: Dataset) -> tuple[str, "Artifact"]:
    """The champion's version ("mtorl_kuairand/3") and model, or a UserError where there is none."""
    version = champion(lake, dataset)
    return version.name, load_version(lake, dataset, version)


def version_params(lake: Lake, version: Version) -> dict[str, str]:
    """What the version's run was started with."""
    return run_params(lake, version.run_id)


def _named(lake: Lake, dataset: Dataset, alias: str) -> Version | None:
    """The version that an alias stands for."""
    number = aliased_version(lake, model_name(dataset.name), alias)
    return next((v for v in versions(lake, dataset) if v.number == number), None)


def _version(found: Any) -> Version:
    tags: Mapping[str, str] = found.tags
    against, _, decision = tags.get("decision", "").partition(" ")
    return Version(
        f"{found.name}/{found.version}", int(found.version), found.run_id, tags.get("day", ""),
        tags.get("identity", ""), tags.get("parent", ""), int(tags.get("reign", 0)), decision, against,
        "withdrawn" in tags,
    )  # fmt: skip


def _short(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def log_files(lake: Lake, dataset: Dataset, name: str, params: Mapping[str, object], files: Sequence[Path]) -> None:
    """A run of that name in the dataset's experiment, with copies of the files as its artifacts."""
    client = _client(lake)
    from mlflow.entities import Param

    run = client.create_run(_experiment_id(client, lake, dataset), run_name=name)
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    for file in files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id)


def _files(lake: Lake, dataset: Dataset, run_id: str) -> Path:
    """Where MLflow, too, looks for a run's artifact `model`."""
    return lake.mlflow_artifacts / dataset.name / run_id / "artifacts" / "model"


def _client(lake: Lake) -> "MlflowClient":
    """MLflow takes seconds to import and calls home unless told not to: both are seen to here."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    with without("polars", "pyspark"):  # MLflow looks for them, and does without: a tenth of its start
        from mlflow import MlflowClient

    # A line for each of the dozens of migrations of a new database tells nobody anything.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    create_store(lake)
    return MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)


def create_store(lake: Lake) -> None:
    """MLflow's database, where there is none yet: whole or not at all, since MLflow makes it in dozens of steps.

    It cannot mend one that is half made.
    """
    if lake.mlflow_database.exists():
        return
    from mlflow import MlflowClient

    with staging_folder(lake) as staging:
        staged = staging / lake.mlflow_database.name
        MlflowClient(tracking_uri=f"sqlite:///{staged.resolve()}").search_experiments(max_results=1)
        lake.mlflow_database.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another run was faster
            lake.mlflow_database.hardlink_to(staged)


def _experiment_id(client: "MlflowClient", lake: Lake, dataset: Dataset) -> str:
    found = client.get_experiment_by_name(dataset.name)
    if found:
        return str(found.experiment_id)
    location = (lake.mlflow_artifacts / dataset.name).as_uri()
    return str(client.create_experiment(dataset.name, artifact_location=location))
