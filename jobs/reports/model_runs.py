"""How a registered model was trained, from what is stored with the decisions about it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse.lake import Lake
from lakehouse.models.decisions import decided_versions
from lakehouse.models.versions import UNDECIDED
from lakehouse.rows import model_of_version
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


def find_run(lake: Lake, dataset: str, version: str) -> ModelRun | None:
    """The run behind a version such as mtorl_kuairand/3, that is or was champion; None if the lake does not know it."""
    versions = {v.name: v for v in decided_versions(lake, dataset, model_of_version(version))}
    if version not in versions:
        return None
    ancestry = [version]
    while (parent := versions[ancestry[-1]].parent) in versions:
        ancestry.append(parent)
    root, latest = versions[ancestry[-1]], versions[version]
    curves = json.loads(root.curves) if root.curves else {}
    return ModelRun(
        version,
        latest.run_id,
        latest.experiment_id,
        latest.day,
        ancestry[-1],
        len(ancestry) - 1,
        {figure: {int(epoch): value for epoch, value in curve.items()} for figure, curve in curves.items()},
        None if latest.basis == UNDECIDED else latest.basis,
    )
