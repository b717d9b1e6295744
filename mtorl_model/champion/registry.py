"""Trained models under version: MLflow in the lake, a registered model a method and dataset, `champion` by alias.

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
from lakehouse.model_tables import CHAMPION, DEFAULT_METHOD, aliased_version, model_name, model_versions
from lakehouse.staging import staging_folder
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.lean_imports import hide_modules
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mtorl_model.methods.method import Method

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


@dataclass(frozen=True, slots=True)
class Registry:
    """The registered models of one method on one dataset, `<method>_<dataset>`, and which of them is the champion."""

    lake: Lake
    dataset: Dataset
    method: str = DEFAULT_METHOD

    @property
    def model(self) -> str:
        """The name of the registered model."""
        return model_name(self.dataset.name, self.method)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Whoever reads the registry in order to change it does both within: one process at a time, and no long work.

        Others wait, say so, and stop with Busy in the end (lakehouse/locks.py).
        """
        with locked(self.lake, ("models",), self.dataset, [UNDATED]):
            yield

    def register(
        self,
        folder: Path,
        params: Mapping[str, object],
        curves: Sequence[Mapping[str, float]],
        *,
        identity: str,
        day: str,
        parent: str = "",
    ) -> Version:
        """Register a model folder (model_folder.save_model) as a new version; the champion stays as it is.

        folder: on the lake's own file system; it is moved. The run holds params, the figures of each of `curves` under
        its number from 1, and the folder. identity: all that the weights depend on. A kill or a power cut leaves no
        version, or a whole one that `find_version` finds again.
        """
        client = _client(self.lake)
        from mlflow.entities import Metric, Param

        run = client.create_run(_experiment_id(client, self.lake, self.dataset))
        client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
        for number, values in enumerate(curves, start=1):
            now_ms = time.time_ns() // 1_000_000
            metrics = [Metric(name, value, now_ms, number) for name, value in values.items()]
            client.log_batch(run.info.run_id, metrics)
        files = self._files(run.info.run_id)
        for path in (*folder.rglob("*"), folder):
            make_durable(path)
        swap_into_place(folder, files)
        for path in files.parents[1:3]:  # made just now; MLflow's database outlasts a power cut, and so must they
            make_durable(path)
        client.set_terminated(run.info.run_id)
        name = self.model
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        tags = {"identity": _short(identity), "day": day, "parent": parent}
        return _version(client.create_model_version(name, files.as_uri(), run.info.run_id, tags=tags))

    def write_lineage(self, version: Version, spec_version: str, trained_on: Mapping[str, str]) -> None:
        """Beside the weights: lineage.json, what they come from, by the names and fingerprints that manifests use.

        trained_on: fingerprints of the partitions, by path in the lake. Written again after a kill, it is the same.
        """
        inputs = {**({"parent": version.parent} if version.parent else {}), **dict(sorted(trained_on.items()))}
        lineage = {"version": version.name, "day": version.day, "spec_version": spec_version, "inputs": inputs}
        write_whole(self._files(version.run_id) / LINEAGE, json.dumps(lineage, indent=1) + "\n")

    def find_version(self, identity: str) -> Version | None:
        """The version registered under that identity, the newest of several; None where there is none."""
        same = [v for v in self.versions() if v.identity == _short(identity)]
        return same[-1] if same else None

    def versions(self) -> list[Version]:
        """All registered versions, the oldest first."""
        return [_version(registered) for registered in model_versions(self.lake, self.model)]

    def named_version(self, name: str) -> Version:
        """The version of that name (mtorl_kuairand/3), or a UserError that lists those there are."""
        registered = self.versions()
        for version in registered:
            if version.name == name:
                return version
        listed = ", ".join(v.name for v in registered) or "none"
        raise UserError(f"no model '{name}' of {self.dataset.name} in {self.lake.root}: there are {listed}")

    def set_challenger(self, version: Version) -> None:
        """Name the version as the challenger of its day; a redo of the day names another."""
        _client(self.lake).set_registered_model_alias(self.model, f"{CHALLENGER}-{version.day}", str(version.number))

    def challenger_of(self, day: str) -> Version | None:
        """The challenger of a day, None where there is none."""
        return self._aliased(f"{CHALLENGER}-{day}")

    def make_champion(self, version: Version, *, back: bool = False) -> None:
        """Set the alias, from which moment on every scoring uses the version. A withdrawn version is none any more.

        It reigns after all that have been champion, also where it was before, so that a rollback finds the one that it
        takes the place of. back: its own reign goes on, as a rollback to it means. The champion of now keeps its reign.
        """
        client, name = _client(self.lake), self.model
        now = self.find_champion()
        if not (back or (now and now.number == version.number)):
            reign = 1 + max((v.reign for v in self.versions()), default=0)
            client.set_model_version_tag(name, str(version.number), "reign", str(reign))
        if version.withdrawn:
            client.delete_model_version_tag(name, str(version.number), "withdrawn")
        client.set_registered_model_alias(name, CHAMPION, str(version.number))

    def set_decision(self, version: Version, decision: str, *, against: str) -> None:
        """Write down what the gate decided beside a champion; one tag, so that a kill writes both or neither."""
        self.set_tag(version, "decision", f"{against} {decision}")

    def set_tag(self, version: Version, name: str, value: str) -> None:
        """Write down something about a version that is no property of its weights, such as `withdrawn`."""
        _client(self.lake).set_model_version_tag(self.model, str(version.number), name, value)

    def champion(self) -> Version:
        """The champion, or a UserError where there is none."""
        version = self.find_champion()
        if version is None:
            how = f"run mtorl_history_{self.dataset.name} (make run)"
            if self.method != DEFAULT_METHOD:
                how = f"train one (python -m mtorl_model.train --method {self.method})"
            raise UserError(f"no champion model for {self.dataset.name} in {self.lake.root} yet: {how}")
        return version

    def find_champion(self) -> Version | None:
        """The champion, None where there is none yet."""
        return self._aliased(CHAMPION)

    def champion_before(self, day: str) -> Version | None:
        """The champion as it was before that day, which has seen nothing of it; a UserError where there is no champion.

        That is today's where it was trained through an earlier day; else, of those that have been champion and were
        not withdrawn, the one trained through the latest day before, the newest of equals. None where all have seen
        the day.
        """
        now = self.champion()
        if now.day < day:
            return now
        been = [v for v in self.versions() if v.reign and not v.withdrawn and v.day < day]
        return max(been, key=lambda v: (v.day, v.reign), default=None)

    def load(self, version: Version) -> "Method":
        """The trained model of a version, on the CPU."""
        from mtorl_model.methods.model_folder import load_model  # torch: 2 CPU seconds, for those alone who load one

        return load_model(self._files(version.run_id))

    def spec_of(self, version: Version) -> FeatureSpec:
        """The feature spec that a version's windows are cut with. Raises UserError where its files are gone."""
        path = self._files(version.run_id) / MODEL_SPEC_FILE
        if not path.is_file():
            raise UserError(f"{path} is missing: {version.name} is no model any more; train again (make run)")
        return FeatureSpec.from_json(path.read_text())

    def load_champion(self) -> tuple[str, "Method"]:
        """The champion's version ("mtorl_kuairand/3") and model, or a UserError where there is none."""
        version = self.champion()
        return version.name, self.load(version)

    def _aliased(self, alias: str) -> Version | None:
        """The version that an alias stands for."""
        number = aliased_version(self.lake, self.model, alias)
        return next((v for v in self.versions() if v.number == number), None)

    def _files(self, run_id: str) -> Path:
        """Where MLflow, too, looks for a run's artifact `model`."""
        return self.lake.mlflow_artifacts / self.dataset.name / run_id / "artifacts" / "model"


def registry_of(lake: Lake, dataset: Dataset, version: str) -> Registry:
    """The registry of a version by its name: mtorl_kuairand/3 is of the method mtorl."""
    model = version.partition("/")[0]
    suffix = f"_{dataset.name}"
    return Registry(lake, dataset, model.removesuffix(suffix) if model.endswith(suffix) else DEFAULT_METHOD)


def load_named(lake: Lake, dataset: Dataset, version: str) -> "Method":
    """The trained model of a version by its name, of any method. Raises UserError where there is none."""
    registry = registry_of(lake, dataset, version)
    return registry.load(registry.named_version(version))


def _version(registered: Any) -> Version:
    tags: Mapping[str, str] = registered.tags
    against, _, decision = tags.get("decision", "").partition(" ")
    return Version(
        f"{registered.name}/{registered.version}", int(registered.version), registered.run_id, tags.get("day", ""),
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


def _client(lake: Lake) -> "MlflowClient":
    """MLflow takes seconds to import and calls home unless told not to: both are seen to here."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    with hide_modules("polars", "pyspark"):  # MLflow looks for them, and does without: a tenth of its start
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
