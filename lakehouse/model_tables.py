"""What the lake's MLflow knows of models and runs, read from the tables of its database.

MLflow writes them (mtorl_model/champion/registry.py). Reading them through MLflow would cost nearly every step of a day
3 CPU seconds, almost all of it to import MLflow; the queries here take some milliseconds.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from lakehouse.lake import Lake

CHAMPION = "champion"  # the alias
DEFAULT_METHOD = "mtorl"  # the method of the daily and nightly runs
_WAIT_S = 60  # while MLflow writes
_DELETED = "Deleted_Internal"  # the stage of a version that was deleted: MLflow keeps its row


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model; its fields are named as those of MLflow's own."""

    name: str  # of the model
    version: int
    run_id: str
    tags: Mapping[str, str]


def model_name(dataset: str, method: str = DEFAULT_METHOD) -> str:
    """What the registered model of a method on a dataset is called."""
    return f"{method}_{dataset}"


def model_versions(lake: Lake, model: str) -> list[ModelVersion]:
    """The registered versions of a model, the oldest first; none where nothing was registered yet."""
    found = _ask(
        lake,
        "SELECT version, run_id FROM model_versions WHERE name = ? AND current_stage <> ? ORDER BY version",
        model,
        _DELETED,
    )
    tags: dict[int, dict[str, str]] = {}  # asked for last: a version is registered together with its tags
    for number, key, value in _ask(lake, "SELECT version, key, value FROM model_version_tags WHERE name = ?", model):
        tags.setdefault(number, {})[key] = value
    return [ModelVersion(model, number, run_id, tags.get(number, {})) for number, run_id in found]


def aliased_version(lake: Lake, model: str, alias: str) -> int | None:
    """The number of the version that an alias of the model stands for, None where there is none."""
    found = _ask(lake, "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", model, alias)
    return found[0][0] if found else None


def run_params(lake: Lake, run_id: str) -> dict[str, str]:
    """What a run was started with."""
    return dict(_ask(lake, "SELECT key, value FROM params WHERE run_uuid = ?", run_id))


def run_curves(lake: Lake, run_id: str) -> dict[str, dict[int, float]]:
    """The values of each figure of a run, by step."""
    curves: dict[str, dict[int, float]] = {}
    rows = _ask(
        lake, "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp", run_id
    )
    for key, step, value, is_nan in rows:
        curves.setdefault(key, {})[step] = float("nan") if is_nan else value
    return curves


def run_experiment(lake: Lake, run_id: str) -> str:
    """The id of the experiment that a run belongs to. LookupError where there is no such run."""
    found = _ask(lake, "SELECT experiment_id FROM runs WHERE run_uuid = ?", run_id)
    if not found:
        raise LookupError(f"no run {run_id} in {lake.mlflow_database}")
    return str(found[0][0])


def _ask(lake: Lake, query: str, *values: str) -> list[tuple[Any, ...]]:
    """The rows of an answer; none where there is no database yet."""
    if not lake.mlflow_database.exists():
        return []
    # Not read-only: the first to open the database after a killed writer takes back what was half written.
    there = f"{lake.mlflow_database.as_uri()}?mode=rw"
    with closing(sqlite3.connect(there, timeout=_WAIT_S, uri=True)) as connection:
        return connection.execute(query, values).fetchall()
