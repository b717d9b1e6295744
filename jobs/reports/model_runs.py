"""How a registered model was trained, read from the lake's MLflow database."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.paths import Lake


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A version and the full training that it goes back to.

    run_id: of the version itself. fine_tuned: how many daily steps lie between. curves: of the full training, the value
    of every figure by epoch, from 1; the figures of a second model and on end in _2, ...
    """

    version: str  # e.g. mtorl_kuairand/3
    run_id: str
    experiment_id: str
    trained_through: str
    full_training: str
    fine_tuned: int
    curves: Mapping[str, Mapping[int, float]]


def find_run(lake: Lake, version: str) -> ModelRun | None:
    """The run behind a version such as mtorl_kuairand/3; None where the lake's MLflow does not know it (any more)."""
    if not (lake.root / "mlflow" / "mlflow.db").is_file():
        return None
    # MLflow takes seconds to import and calls home unless told not to.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=lake.mlflow_uri, registry_uri=lake.mlflow_uri)
    name = version.rpartition("/")[0]
    there = {f"{v.name}/{v.version}": v for v in client.search_model_versions(f"name = '{name}'", max_results=10_000)}
    if version not in there:
        return None
    line = [version]
    while (parent := there[line[-1]].tags.get("parent")) in there:
        line.append(parent)
    first, last = client.get_run(there[line[-1]].run_id), there[version]
    curves = {
        figure: {m.step: m.value for m in client.get_metric_history(first.info.run_id, figure)}
        for figure in sorted(first.data.metrics)
    }
    return ModelRun(
        version, last.run_id, first.info.experiment_id, last.tags.get("day", ""), line[-1], len(line) - 1, curves
    )
