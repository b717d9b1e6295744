"""Reads registered models and runs from the database tables of MLflow.

MLflow writes the tables (mtorl_model/champion/registry.py). Reading them through MLflow would cost nearly every step of
a day 3 CPU seconds, mostly for importing MLflow; the queries here take a few milliseconds.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from lakehouse.lake import Lake
from schemas.dataset import dataset_names

CHAMPION = "champion"  # the alias of the champion's version
DEFAULT_METHOD = "mtorl"  # the method of the daily and nightly runs
_WAIT_S = 60  # for a lock on the database, while MLflow writes
_DELETED = "Deleted_Internal"  # the stage of a deleted version, whose row MLflow keeps


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model. The fields have the same names as in MLflow."""

    name: str  # of the model
    version: int
    run_id: str
    tags: Mapping[str, str]


def model_name(dataset: str, method: str = DEFAULT_METHOD) -> str:
    """The name of the registered model of a method on a dataset."""
    return f"{method}_{dataset}"


def model_versions(lake: Lake, model: str) -> list[ModelVersion]:
    """The registered versions of a model, oldest first. The list is empty if the model has no versions yet."""
    rows = _query(
        lake,
        "SELECT version, run_id FROM model_versions WHERE name = ? AND current_stage <> ? ORDER BY version",
        model,
        _DELETED,
    )
    # The tags are read after the versions, so that no version read above lacks its tags: MLflow writes both together.
    tags: dict[int, dict[str, str]] = {}
    for number, key, value in _query(lake, "SELECT version, key, value FROM model_version_tags WHERE name = ?", model):
        tags.setdefault(number, {})[key] = value
    return [ModelVersion(model, number, run_id, tags.get(number, {})) for number, run_id in rows]


def registered_models(lake: Lake, dataset: str) -> list[str]:
    """The names of the registered models of a dataset, of all methods."""
    names = [name for (name,) in _query(lake, "SELECT DISTINCT name FROM model_versions ORDER BY name")]
    # mtorl_a_log belongs to the dataset a_log, not to log.
    longer_names = tuple(f"_{name}" for name in dataset_names() if name.endswith(f"_{dataset}"))
    return [name for name in names if name.endswith(f"_{dataset}") and not name.endswith(longer_names)]


def aliased_version(lake: Lake, model: str, alias: str) -> int | None:
    """The version of the model that has this alias, or None."""
    rows = _query(lake, "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?", model, alias)
    return rows[0][0] if rows else None


def run_curves(lake: Lake, run_id: str) -> dict[str, dict[int, float]]:
    """The values of each metric of a run, by step."""
    curves: dict[str, dict[int, float]] = {}
    rows = _query(
        lake, "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp", run_id
    )
    for key, step, value, is_nan in rows:
        curves.setdefault(key, {})[step] = float("nan") if is_nan else value
    return curves


def run_experiment(lake: Lake, run_id: str) -> str:
    """The id of the experiment of a run. Raises LookupError if there is no such run."""
    rows = _query(lake, "SELECT experiment_id FROM runs WHERE run_uuid = ?", run_id)
    if not rows:
        raise LookupError(f"no run {run_id} in {lake.mlflow_database}")
    return str(rows[0][0])


def _query(lake: Lake, query: str, *values: str) -> list[tuple[Any, ...]]:
    """The rows of a query. The list is empty if the database does not exist yet."""
    if not lake.mlflow_database.exists():
        return []
    # Not read-only: after a killed writer, the next connection has to roll back the unfinished transaction.
    uri = f"{lake.mlflow_database.as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, timeout=_WAIT_S, uri=True)) as connection:
        return connection.execute(query, values).fetchall()
