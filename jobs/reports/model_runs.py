"""How a registered model was trained, read from the lake's MLflow database."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.lake import Lake
from lakehouse.model_tables import model_versions, run_curves, run_experiment


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
    there = {f"{v.name}/{v.version}": v for v in model_versions(lake, version.rpartition("/")[0])}
    if version not in there:
        return None
    line = [version]
    while (parent := there[line[-1]].tags.get("parent")) in there:
        line.append(parent)
    first, last = there[line[-1]], there[version]
    return ModelRun(
        version,
        last.run_id,
        run_experiment(lake, first.run_id),
        last.tags.get("day", ""),
        line[-1],
        len(line) - 1,
        run_curves(lake, first.run_id),
    )
