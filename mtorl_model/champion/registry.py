"""Registered models: one registered model per method and dataset in MLflow, and which version is the champion.

A version's files are plain tensors and JSON, never a pickled model. They are logged to MLflow as the artifact `model`
of a run, and copied to this machine's scratch folder when they are first used (model_files.py). The decisions about
a version, and about the champion, are in the table `decisions` of the lake (lakehouse/models/decisions.py). MLflow's
aliases and tags follow each decision, for people and for `models:/<name>@champion`; changing them by hand decides
nothing. Only code that registers, decides, or looks for undecided versions imports MLflow, which is slow.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.files import write_whole
from lakehouse.lake import Lake
from lakehouse.models.decisions import champion_among, commit_decision, decided_versions, lineage_file
from lakehouse.models.versions import DEFAULT_METHOD, UNDECIDED, Version, model_name
from mtorl_model.champion.mlflow_store import MODEL, experiment_of, has_own_store, ignore_existing, mlflow_client
from mtorl_model.champion.model_files import keep_model, model_folder
from schemas.basis import BasisDecision
from schemas.dataset import Dataset
from schemas.errors import Busy, UserError
from schemas.tables.feature_spec import MODEL_SPEC_FILE, FeatureSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mtorl_model.methods.method import Method

CHAMPION = "champion"  # the alias of the champion's version
CHALLENGER = "challenger"  # followed by the day: challenger-2022-04-24
_PAGE = 1_000  # versions in one response of MLflow
_ALIAS_ATTEMPTS = 5
_NO_ALIAS = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # of a model, or of its alias


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

        The folder is moved. The MLflow run has params, the folder, and each entry of curves as the metrics of step 1,
        2, ... identity: a text that names everything the weights depend on. After a kill either no version exists, or
        the complete version, which `find_version` returns.
        """
        from mlflow.entities import Metric, Param

        with mlflow_client(self.lake) as client:
            self._claim_model(client)
            run = client.create_run(experiment_of(client, self.lake, self.dataset.name), tags={MODEL: self.model})
            client.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in params.items()])
            for number, values in enumerate(curves, start=1):
                now_ms = time.time_ns() // 1_000_000
                metrics = [Metric(name, value, now_ms, number) for name, value in values.items()]
                client.log_batch(run.info.run_id, metrics)
            client.log_artifacts(run.info.run_id, str(folder), MODEL)
            client.set_terminated(run.info.run_id)
            tags = {"identity": _short(identity), "day": day, "parent": parent}
            source = f"runs:/{run.info.run_id}/{MODEL}"
            registered = client.create_model_version(
                self.model, source, run.info.run_id, tags=tags, await_creation_for=0
            )
        keep_model(folder, run.info.run_id)
        return _version(registered, {})

    def write_lineage(self, version: Version, spec_version: str, trained_on: Mapping[str, str]) -> None:
        """Write the training's inputs into the lake, with names and fingerprints as in manifests.

        trained_on: fingerprints of the partitions, by key. Writing it again gives the same file.
        """
        inputs = {**({"parent": version.parent} if version.parent else {}), **dict(sorted(trained_on.items()))}
        lineage = {"version": version.name, "day": version.day, "spec_version": spec_version, "inputs": inputs}
        write_whole(lineage_file(self.lake, self.dataset, version.name), json.dumps(lineage, indent=1) + "\n")

    def find_version(self, identity: str) -> Version | None:
        """The newest version that is registered under that identity, or None."""
        return max(self.versions(_short(identity)), key=lambda version: version.number, default=None)

    def versions(self, digest: str = "") -> list[Version]:
        """All registered versions, or those with this digest of their identity, the oldest first. Asks MLflow."""
        condition = f"name = '{self.model}'" + (f" and tags.identity = '{digest}'" if digest else "")
        with mlflow_client(self.lake) as client:
            registered = _registered_versions(client, condition)
        decided = {version.number: version for version in self.decided()}
        return sorted((_version(version, decided) for version in registered), key=lambda version: version.number)

    def named_version(self, name: str) -> Version:
        """The version of that name (mtorl_kuairand/3). Raises UserError with all names if it does not exist."""
        for version in self.decided():  # without MLflow
            if version.name == name:
                return version
        registered = self.versions()
        for version in registered:
            if version.name == name:
                return version
        listed = ", ".join(v.name for v in registered) or "none"
        raise UserError(f"unknown model '{name}' of {self.dataset.name} in {self.lake.root}: choose one of {listed}")

    def set_challenger(self, version: Version) -> None:
        """Make it the challenger of its day, by an alias. A later run of the day may change the alias."""
        with mlflow_client(self.lake) as client:
            client.set_registered_model_alias(self.model, f"{CHALLENGER}-{version.day}", str(version.number))

    def challenger_of(self, day: str) -> Version | None:
        """The challenger of a day, or None. Asks MLflow."""
        with mlflow_client(self.lake) as client:
            registered = _aliased(client, self.model, f"{CHALLENGER}-{day}")
        return _version(registered, {v.number: v for v in self.decided()}) if registered else None

    def decided(self) -> tuple[Version, ...]:
        """The versions about which something has been decided, the oldest first: all champions so far among them."""
        return decided_versions(self.lake, self.dataset, self.model)

    def decide(self, changed: Sequence[Version], *, seen: Sequence[Version]) -> None:
        """Commit a decision about these versions, and show it in MLflow.

        seen: what `decided` returned before the decision was made. Raises Busy if another decision has come first.
        """
        described = [self._described(version) for version in changed]
        commit_decision(self.lake, self.dataset, described, seen=seen)
        self.show_decisions(described)

    def make_champion(self, version: Version, basis: BasisDecision | None = None) -> None:
        """Make it champion, whichever version is champion now; every later scoring uses it. basis: None keeps it."""
        while True:
            seen = self.decided()
            crowned = crown(next((known for known in seen if known.number == version.number), version), seen)
            try:
                return self.decide([replace(crowned, basis=basis) if basis else crowned], seen=seen)
            except Busy:
                if self.decided() == seen:  # MLflow does not answer
                    raise

    def show_decisions(self, changed: Sequence[Version] = ()) -> None:
        """Set MLflow's alias `champion`, and the tags of these versions and of the champion, as they are decided."""
        with mlflow_client(self.lake) as client:
            for version in changed:
                _set_tags(client, version, client.get_model_version(self.model, str(version.number)))
            for _ in range(_ALIAS_ATTEMPTS):  # another decision may come at any time
                champion = self.find_champion()
                if champion is None:
                    break
                aliased = _aliased(client, self.model, CHAMPION)
                if aliased and int(aliased.version) == champion.number:
                    _set_tags(client, champion, aliased)
                    break
                client.set_registered_model_alias(self.model, CHAMPION, str(champion.number))

    def basis_of(self, name: str) -> BasisDecision:
        """The basis that was decided for the version of that name; UNDECIDED without a decision."""
        return next((version.basis for version in self.decided() if version.name == name), UNDECIDED)

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
        return champion_among(self.decided())

    def champion_before(self, day: str) -> Version | None:
        """The champion as of before that day, which was not trained on it. Raises UserError without a champion.

        This is the present champion if its last day of training is earlier. Otherwise it is the former champion, not
        withdrawn, whose last day of training is the latest before that day; of several, the newest. None if no former
        champion has an earlier last day.
        """
        champion = self.champion()
        if champion.day < day:
            return champion
        candidates = [v for v in _usable_champions(self.decided()) if v.day < day]
        return max(candidates, key=lambda v: (v.day, v.reign), default=None)

    def last_full_training(self, day: str) -> Version | None:
        """The newest champion that was fully trained, on days up to that day, and is not withdrawn; None without one.

        A version that became champion again counts by its latest reign.
        """
        candidates = [v for v in _usable_champions(self.decided()) if not v.parent and v.day <= day]
        return max(candidates, key=lambda v: v.reign, default=None)

    def load(self, version: Version) -> "Method":
        """The trained model of a version, on the CPU."""
        from mtorl_model.methods.model_folder import load_model  # imports torch, which takes 2 CPU seconds

        return load_model(model_folder(self.lake, version))

    def spec_of(self, version: Version) -> FeatureSpec:
        """The feature spec of a version's windows. Raises UserError if the file is missing or damaged."""
        return FeatureSpec.from_json((model_folder(self.lake, version) / MODEL_SPEC_FILE).read_text())

    def load_champion(self) -> tuple[str, "Method"]:
        """The champion's version ("mtorl_kuairand/3") and model. Raises UserError without a champion."""
        version = self.champion()
        return version.name, self.load(version)

    def _claim_model(self, client: "MlflowClient") -> None:
        """Create the registered model. Raises UserError if a server has it already, with models of another lake."""
        from mlflow.exceptions import MlflowException

        tags = {} if has_own_store(self.lake) else {"lake": str(self.lake.root)}
        try:
            client.create_registered_model(self.model, tags=tags)
        except MlflowException as error:
            ignore_existing(error)
        claimed = client.get_registered_model(self.model).tags
        if tags and claimed.get("lake") != tags["lake"]:
            raise UserError(
                f"{self.model} in MLflow belongs to the lake {claimed.get('lake')}: give {self.lake.root} "
                f"another MLflow, or, if the lake has moved, set the tag lake of the registered model to its new place"
            )

    def _described(self, version: Version) -> Version:
        """The version with the facts of its run that are shown on the day's page, so that the page needs no MLflow."""
        if version.experiment_id:
            return version
        with mlflow_client(self.lake) as client:
            run = client.get_run(version.run_id)
            names = [] if version.parent else sorted(run.data.metrics)
            histories = {name: client.get_metric_history(version.run_id, name) for name in names}
        curves = {name: {str(m.step): m.value for m in history} for name, history in histories.items()}
        return replace(version, experiment_id=str(run.info.experiment_id), curves=json.dumps(curves) if curves else "")


def crown(version: Version, decided: Sequence[Version]) -> Version:
    """The version as the next champion, no longer withdrawn. decided: all decisions so far.

    It gets a new reign, the latest, even if it was champion before, so that a rollback returns to its predecessor. It
    keeps its reign if it is the champion already.
    """
    champion = champion_among(decided)
    is_champion = champion is not None and champion.number == version.number
    reign = version.reign if is_champion else 1 + max((v.reign for v in decided), default=0)
    return replace(version, is_champion=True, reign=reign, withdrawn=False)


def previous_champion(decided: Sequence[Version]) -> Version | None:
    """The champion to which a rollback returns; None without an earlier champion."""
    champion = champion_among(decided)
    earlier = [v for v in _usable_champions(decided) if champion and v.reign < champion.reign]
    return max(earlier, key=lambda version: version.reign, default=None)


def _usable_champions(decided: Sequence[Version]) -> list[Version]:
    return [version for version in decided if version.reign and not (version.withdrawn or version.expired)]


def registry_of(lake: Lake, dataset: Dataset, version: str) -> Registry:
    """The registry of a version by its name: mtorl_kuairand/3 belongs to the method mtorl."""
    model = version.partition("/")[0]
    suffix = f"_{dataset.name}"
    return Registry(lake, dataset, model.removesuffix(suffix) if model.endswith(suffix) else DEFAULT_METHOD)


def load_named(lake: Lake, dataset: Dataset, version: str) -> "Method":
    """The trained model of a version of any method, by its name. Raises UserError if the version does not exist."""
    registry = registry_of(lake, dataset, version)
    return registry.load(registry.named_version(version))


def log_files(lake: Lake, dataset: Dataset, name: str, params: Mapping[str, object], files: Sequence[Path]) -> None:
    """Log a run of that name in the dataset's experiment, with copies of the files as its artifacts."""
    with mlflow_client(lake) as client:
        from mlflow.entities import Param

        run = client.create_run(experiment_of(client, lake, dataset.name), run_name=name)
        client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])
        for file in files:
            client.log_artifact(run.info.run_id, str(file))
        client.set_terminated(run.info.run_id)


def _registered_versions(client: "MlflowClient", condition: str) -> list[Any]:
    versions: list[Any] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(condition, max_results=_PAGE, page_token=token or None)
        versions += page
        token = page.token or None
    return versions


def _aliased(client: "MlflowClient", model: str, alias: str) -> Any | None:
    """The registered version with this alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code not in _NO_ALIAS:
            raise
        return None


def _set_tags(client: "MlflowClient", version: Version, registered: Any) -> None:
    """Set the tags of a registered version as the version is decided."""
    for name, value in _decided_tags(version).items():
        if value and registered.tags.get(name) != value:
            client.set_model_version_tag(version.model, str(version.number), name, value)
        elif not value and name in registered.tags:
            client.delete_model_version_tag(version.model, str(version.number), name)


def aliases_of(client: "MlflowClient", model: str) -> Mapping[str, int]:
    """The version of each alias of a registered model; without such a model the mapping is empty."""
    models = client.search_registered_models(f"name = '{model}'")
    return {alias: int(number) for alias, number in models[0].aliases.items()} if models else {}


def _version(registered: Any, decided: Mapping[int, Version]) -> Version:
    number, tags = int(registered.version), registered.tags
    return decided.get(number) or Version(
        f"{registered.name}/{number}", number, registered.run_id, tags.get("day", ""), tags.get("identity", ""),
        tags.get("parent", ""),
    )  # fmt: skip


def _decided_tags(version: Version) -> dict[str, str]:
    """The tags of a version that show the decisions about it; "" for no tag."""
    return {
        "reign": str(version.reign) if version.reign else "",
        "withdrawn": "yes" if version.withdrawn else "",
        "decision": f"{version.decision} (compared with {version.compared_with})" if version.decision else "",
        "basis": "" if version.basis == UNDECIDED else version.basis.to_json(),
    }


def _short(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
