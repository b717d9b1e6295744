"""How a registered model was trained, read from the lake's MLflow database."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.lake import Lake
from lakehouse.models.versions import model_versions, run_curves, run_experiment
from schemas.basis import BasisDecision


@dataclass(frozen=True, slots=True)
class ModelRun:
    """A version of a model and the full training that it descends from.

    run_id: of the version itself. full_training: the version that was trained from scratch. fine_tuned: the number of
    daily steps since then. curves: the figures of the full training by epoch, from 1; those of the second model of an
    ensemble and later ones end in _2, _3, ... basis: of its recommendations; None if none was decided.
    """

    version: str  # e.g. mtorl_kuairand/3
    run_id: str
    experiment_id: str
    trained_through: str
    full_training: str
    fine_tuned: int
    curves: Mapping[str, Mapping[int, float]]
    basis: BasisDecision | None


def find_run(lake: Lake, version: str) -> ModelRun | None:
    """The run behind a version such as mtorl_kuairand/3; None if the lake's MLflow does not have it."""
    versions = {f"{v.name}/{v.version}": v for v in model_versions(lake, version.rpartition("/")[0])}
    if version not in versions:
        return None
    ancestry = [version]
    while (parent := versions[ancestry[-1]].tags.get("parent")) in versions:
        ancestry.append(parent)
    root, latest = versions[ancestry[-1]], versions[version]
    return ModelRun(
        version,
        latest.run_id,
        run_experiment(lake, root.run_id),
        latest.tags.get("day", ""),
        ancestry[-1],
        len(ancestry) - 1,
        run_curves(lake, root.run_id),
        BasisDecision.from_json(latest.tags["basis"]) if "basis" in latest.tags else None,
    )
