"""Expired versions of a registered model: no command needs them any more, and they are deleted from MLflow.

A version is needed while it is the champion, the target of a rollback, the last full training (the gate compares with
it), the full training that the champion descends from, or if it belongs to the latest KEPT_DAYS: because its own last
day of training does, or because it was still champion then, and so scored one of these days. A version to which a
person has given an alias stays, too. The decisions about a deleted version stay in the lake.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from lakehouse.models.versions import Version
from lakehouse.retention import RETENTION
from mtorl_model.champion.mlflow_store import MODEL, experiment_of, has_own_store, mlflow_client, remove_files
from mtorl_model.champion.registry import CHALLENGER, CHAMPION, Registry, aliases_of, previous_champion
from schemas.days import day_plus

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEPT_DAYS = RETENTION.models


@dataclass(frozen=True, slots=True)
class Expired:
    """versions: those that no command needs. runs: their runs, and old runs that never became a version."""

    versions: tuple[Version, ...]
    runs: tuple[str, ...]


def delete_expired(registry: Registry, *, today: str, dry_run: bool) -> list[str]:
    """Delete what has expired; returns a line about it, which names the versions.

    today: the calendar day, by which runs without a version are old. dry_run: only report. Raises Busy if a decision
    about the model comes in between; another run continues the work of a killed one.
    """
    seen = registry.decided()
    expired = find_expired(registry, today)
    if not expired.runs and not expired.versions:
        return [f"{registry.model}: nothing has expired in MLflow"]
    names = ", ".join(version.name for version in expired.versions) or "no version"
    line = f"{registry.model}: {names} and {len(expired.runs)} runs"
    if dry_run:
        return [f"{line} would be deleted from MLflow"]
    # The decision first: from then on no command reads the files.
    known = {version.number for version in seen}
    marked = [replace(version, expired=True) for version in expired.versions if version.number in known]
    if marked:
        registry.decide(marked, seen=seen)
    with mlflow_client(registry.lake) as client:
        aliases = aliases_of(client, registry.model)
        for version in expired.versions:
            for alias in [name for name, number in aliases.items() if number == version.number]:
                client.delete_registered_model_alias(registry.model, alias)
            client.delete_model_version(registry.model, str(version.number))
        for run_id in expired.runs:
            client.delete_run(run_id)
    if not has_own_store(registry.lake):
        return [f"{line} were deleted from MLflow; `mlflow gc` on its server removes their files"]
    remove_files(registry.lake, expired.runs)
    return [f"{line} were deleted from MLflow"]


def find_expired(registry: Registry, today: str) -> Expired:
    """The versions and runs that have expired. Asks MLflow."""
    with mlflow_client(registry.lake) as client:
        aliases = aliases_of(client, registry.model)
        experiment = experiment_of(client, registry.lake, registry.dataset.name)
        runs = _all_runs(client, experiment, f"tags.{MODEL} = '{registry.model}'")
    versions = registry.versions()
    by_hand = {n for alias, n in aliases.items() if alias != CHAMPION and not alias.startswith(f"{CHALLENGER}-")}
    needed = {version.number for version in needed_versions(registry, versions)} | by_hand
    expired = tuple(version for version in versions if version.number not in needed)
    has_version = {version.run_id for version in versions}
    orphans = {run for run, day in runs.items() if run not in has_version and day < day_plus(today, -KEPT_DAYS)}
    # A copied lake does not delete the runs of the original.
    return Expired(expired, tuple(sorted(orphans | ({version.run_id for version in expired} & runs.keys()))))


def needed_versions(registry: Registry, versions: Sequence[Version]) -> list[Version]:
    """The versions of a model that some command needs. Without a champion these are all of them."""
    decided = registry.decided()
    champion = registry.find_champion()
    if champion is None:
        return list(versions)
    first = day_plus(max(version.day for version in versions), -KEPT_DAYS + 1)
    by_name = {version.name: version for version in decided}
    root = champion
    while root.parent in by_name:
        root = by_name[root.parent]
    named = (champion, root, previous_champion(decided), registry.last_full_training(champion.day))
    needed = {version.name for version in named if version}
    reigns = sorted((version for version in decided if version.reign), key=lambda version: version.reign)
    # A champion scored the days up to the one on which the next champion was made.
    needed |= {v.name for v, successor in pairwise(reigns) if successor.day >= first}
    return [version for version in versions if version.name in needed or version.day >= first]


def _all_runs(client: "MlflowClient", experiment: str, condition: str) -> dict[str, str]:
    """The runs of an experiment that meet a condition, each with the day of its start."""
    started: dict[str, str] = {}
    token: str | None = None
    while True:
        page = client.search_runs([experiment], condition, page_token=token)
        for run in page:
            started[run.info.run_id] = datetime.fromtimestamp(run.info.start_time / 1000, UTC).date().isoformat()
        token = page.token or None
        if token is None:
            return started
