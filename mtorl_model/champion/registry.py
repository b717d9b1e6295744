"""Registered models: MLflow in the lake, with one registered model per method and dataset and the alias `champion`.

A version's files are in `LAKE/mlflow/artifacts/<dataset>/<run>/artifacts/model`. This path is always relative to the
lake, so that a lake can be copied or mounted elsewhere. The files are plain tensors and JSON, never a pickled model.
Registered versions are read from MLflow's tables (lakehouse/models/versions.py); only code that changes the registry
imports MLflow, which is slow.
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
from lakehouse.models.versions import CHAMPION, DEFAULT_METHOD, aliased_version, model_name, model_versions
from lakehouse.staging import staging_folder
from mtorl_model.training.checksums import require_unchanged
from schemas.basis import IMITATION, BasisDecision
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.lean_imports import hide_modules
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mtorl_model.methods.method import Method

LINEAGE = "lineage.json"
UNDECIDED = BasisDecision(IMITATION, "no basis was decided for this version")
CHALLENGER = "challenger"  # followed by the day: challenger-2022-04-24


@dataclass(frozen=True, slots=True)
class Version:
    """A registered model.

    day: the last day whose labels it was trained on. parent: the version it was fine-tuned from, "" after a full
    training. reign: its number among all champions so far (1 is the first), 0 if it never was champion. decision: the
    decision of the promotion gate, "" before it. compared_with: the champion that the gate compared it with. basis: of
    its recommendations (evaluation/basis.py).
    withdrawn: whether it was the champion when a rollback returned to an earlier version (rollback.py).
    """

    name: str  # e.g. mtorl_kuairand/3
    number: int
    run_id: str
    day: str
    identity: str
    parent: str = ""
    reign: int = 0
    decision: str = ""
    compared_with: str = ""
    withdrawn: bool = False
    basis: BasisDecision = UNDECIDED


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
        """A lock for reading the registry and then changing it accordingly; do not do long work within it.

        Other processes wait, print that they wait, and after some time stop with Busy (lakehouse/locks.py).
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
        """Register a model folder (model_folder.save_model) as a new version; the champion does not change.

        folder: must be on the file system of the lake; it is moved. The MLflow run has params, the folder, and each
        entry of curves as the metrics of step 1, 2, ... identity: a text that names everything the weights depend on.
        After a kill or a power cut either no version exists, or the complete version, which `find_version` returns.
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
        for path in files.parents[1:3]:  # just created; they must survive a power cut, as MLflow's database does
            make_durable(path)
        client.set_terminated(run.info.run_id)
        name = self.model
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        tags = {"identity": _short(identity), "day": day, "parent": parent}
        return _version(client.create_model_version(name, files.as_uri(), run.info.run_id, tags=tags))

    def write_lineage(self, version: Version, spec_version: str, trained_on: Mapping[str, str]) -> None:
        """Write lineage.json next to the weights: the training's inputs, with names and fingerprints as in manifests.

        trained_on: fingerprints of the partitions, by path in the lake. Writing it again gives the same file.
        """
        inputs = {**({"parent": version.parent} if version.parent else {}), **dict(sorted(trained_on.items()))}
        lineage = {"version": version.name, "day": version.day, "spec_version": spec_version, "inputs": inputs}
        write_whole(self._files(version.run_id) / LINEAGE, json.dumps(lineage, indent=1) + "\n")

    def find_version(self, identity: str) -> Version | None:
        """The newest version that is registered under that identity, or None."""
        matching = [v for v in self.versions() if v.identity == _short(identity)]
        return matching[-1] if matching else None

    def versions(self) -> list[Version]:
        """All registered versions, the oldest first."""
        return [_version(registered) for registered in model_versions(self.lake, self.model)]

    def named_version(self, name: str) -> Version:
        """The version of that name (mtorl_kuairand/3). Raises UserError with all names if it does not exist."""
        registered = self.versions()
        for version in registered:
            if version.name == name:
                return version
        listed = ", ".join(v.name for v in registered) or "none"
        raise UserError(f"unknown model '{name}' of {self.dataset.name} in {self.lake.root}: choose one of {listed}")

    def set_challenger(self, version: Version) -> None:
        """Make it the challenger of its day, by an alias. A later run of the day may change the alias."""
        _client(self.lake).set_registered_model_alias(self.model, f"{CHALLENGER}-{version.day}", str(version.number))

    def challenger_of(self, day: str) -> Version | None:
        """The challenger of a day, or None."""
        return self._aliased(f"{CHALLENGER}-{day}")

    def make_champion(self, version: Version, *, back: bool = False) -> None:
        """Set the alias `champion`; from now on every scoring uses the version. It is no longer withdrawn.

        It gets a new reign, the latest, even if it was champion before, so that a rollback returns to its predecessor.
        It keeps its reign in a rollback (back=True), and if it is the champion already.
        """
        client, name = _client(self.lake), self.model
        champion = self.find_champion()
        if not (back or (champion and champion.number == version.number)):
            reign = 1 + max((v.reign for v in self.versions()), default=0)
            client.set_model_version_tag(name, str(version.number), "reign", str(reign))
        if version.withdrawn:
            client.delete_model_version_tag(name, str(version.number), "withdrawn")
        client.set_registered_model_alias(name, CHAMPION, str(version.number))

    def set_decision(self, version: Version, decision: str, *, compared_with: str) -> None:
        """Record the gate's decision and the champion in the comparison; in one tag, so that both change together."""
        self.set_tag(version, "decision", f"{compared_with} {decision}")

    def set_basis(self, version: Version, decision: BasisDecision) -> None:
        """Record the basis of a version's recommendations."""
        self.set_tag(version, "basis", decision.to_json())

    def basis_of(self, name: str) -> BasisDecision:
        """The basis that was decided for the version of that name; UNDECIDED without a decision."""
        return next((version.basis for version in self.versions() if version.name == name), UNDECIDED)

    def set_tag(self, version: Version, name: str, value: str) -> None:
        """Record a fact about a version that does not depend on its weights, such as `withdrawn`."""
        _client(self.lake).set_model_version_tag(self.model, str(version.number), name, value)

    def champion(self) -> Version:
        """The champion. Raises UserError without a champion."""
        version = self.find_champion()
        if version is None:
            advice = f"run mtorl_history_{self.dataset.name} (make run)"
            if self.method != DEFAULT_METHOD:
                advice = f"train one (python -m mtorl_model.train --method {self.method})"
            raise UserError(f"no champion model for {self.dataset.name} in {self.lake.root} yet: {advice}")
        return version

    def find_champion(self) -> Version | None:
        """The champion, or None."""
        return self._aliased(CHAMPION)

    def champion_before(self, day: str) -> Version | None:
        """The champion as of before that day, which was not trained on it. Raises UserError without a champion.

        This is the present champion if its last day of training is earlier. Otherwise it is the former champion, not
        withdrawn, whose last day of training is the latest before that day; of several, the newest. None if no former
        champion has an earlier last day.
        """
        champion = self.champion()
        if champion.day < day:
            return champion
        candidates = [v for v in self.versions() if v.reign and not v.withdrawn and v.day < day]
        return max(candidates, key=lambda v: (v.day, v.reign), default=None)

    def last_full_training(self, day: str) -> Version | None:
        """The newest champion that was fully trained, on days up to that day, and is not withdrawn; None without one.

        A version that became champion again counts by its latest reign.
        """
        candidates = [v for v in self.versions() if v.reign and not v.parent and not v.withdrawn and v.day <= day]
        return max(candidates, key=lambda v: v.reign, default=None)

    def load(self, version: Version) -> "Method":
        """The trained model of a version, on the CPU."""
        from mtorl_model.methods.model_folder import load_model  # imports torch, which takes 2 CPU seconds

        return load_model(self._files(version.run_id))

    def spec_of(self, version: Version) -> FeatureSpec:
        """The feature spec of a version's windows. Raises UserError if the file is missing or damaged."""
        folder = self._files(version.run_id)
        require_unchanged(folder, [MODEL_SPEC_FILE], f"{version.name} cannot be used; train again (make run)")
        return FeatureSpec.from_json((folder / MODEL_SPEC_FILE).read_text())

    def load_champion(self) -> tuple[str, "Method"]:
        """The champion's version ("mtorl_kuairand/3") and model. Raises UserError without a champion."""
        version = self.champion()
        return version.name, self.load(version)

    def _aliased(self, alias: str) -> Version | None:
        """The version that has an alias, or None."""
        number = aliased_version(self.lake, self.model, alias)
        return next((v for v in self.versions() if v.number == number), None)

    def _files(self, run_id: str) -> Path:
        """The folder of a run's artifact `model`, as in MLflow's own layout."""
        return self.lake.mlflow_artifacts / self.dataset.name / run_id / "artifacts" / "model"


def registry_of(lake: Lake, dataset: Dataset, version: str) -> Registry:
    """The registry of a version by its name: mtorl_kuairand/3 belongs to the method mtorl."""
    model = version.partition("/")[0]
    suffix = f"_{dataset.name}"
    return Registry(lake, dataset, model.removesuffix(suffix) if model.endswith(suffix) else DEFAULT_METHOD)


def load_named(lake: Lake, dataset: Dataset, version: str) -> "Method":
    """The trained model of a version of any method, by its name. Raises UserError if the version does not exist."""
    registry = registry_of(lake, dataset, version)
    return registry.load(registry.named_version(version))


def _version(registered: Any) -> Version:
    tags: Mapping[str, str] = registered.tags
    compared_with, _, decision = tags.get("decision", "").partition(" ")
    return Version(
        f"{registered.name}/{registered.version}", int(registered.version), registered.run_id, tags.get("day", ""),
        tags.get("identity", ""), tags.get("parent", ""), int(tags.get("reign", 0)), decision, compared_with,
        "withdrawn" in tags, BasisDecision.from_json(tags["basis"]) if "basis" in tags else UNDECIDED,
    )  # fmt: skip


def _short(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()


def log_files(lake: Lake, dataset: Dataset, name: str, params: Mapping[str, object], files: Sequence[Path]) -> None:
    """Log a run of that name in the dataset's experiment, with copies of the files as its artifacts."""
    client = _client(lake)
    from mlflow.entities import Param

    run = client.create_run(_experiment_id(client, lake, dataset), run_name=name)
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
    for file in files:
        client.log_artifact(run.info.run_id, str(file))
    client.set_terminated(run.info.run_id)


def _client(lake: Lake) -> "MlflowClient":
    """A client of the lake's MLflow store. MLflow is imported here because that takes seconds; its telemetry is off."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    with hide_modules("polars", "pyspark"):  # optional for MLflow; hiding them saves a tenth of its start
        from mlflow import MlflowClient

    # Do not print the dozens of migrations of a new database.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    create_store(lake)
    return MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)


def create_store(lake: Lake) -> None:
    """Create MLflow's database if it does not exist, atomically.

    MLflow creates it in dozens of steps and cannot repair a database whose creation was interrupted.
    """
    if lake.mlflow_database.exists():
        return
    from mlflow import MlflowClient

    with staging_folder(lake) as staging:
        staged = staging / lake.mlflow_database.name
        MlflowClient(tracking_uri=f"sqlite:///{staged.resolve()}").search_experiments(max_results=1)
        lake.mlflow_database.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another run has created it
            lake.mlflow_database.hardlink_to(staged)


def _experiment_id(client: "MlflowClient", lake: Lake, dataset: Dataset) -> str:
    experiment = client.get_experiment_by_name(dataset.name)
    if experiment:
        return str(experiment.experiment_id)
    location = (lake.mlflow_artifacts / dataset.name).as_uri()
    return str(client.create_experiment(dataset.name, artifact_location=location))
