"""The table `decisions` of a dataset: what has been decided about the versions of its models, and who is champion.

A row is a version that is or was champion, or that the promotion gate has refused. MLflow cannot set an alias on
condition that it has not changed since it was read, so two deciders could overwrite each other's decision. Therefore a
decision is a commit to this Delta table: of two commits from the same rows, the second is refused. MLflow's aliases and
tags follow (mtorl_model/champion/registry.py). A step that needs the champion reads it here, without importing MLflow.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.data_files import read_file, store_table
from lakehouse.storage.delta_table import DataFile, Replaced, commit, present_files
from schemas.basis import BasisDecision
from schemas.dataset import Dataset
from schemas.errors import Busy

DECISIONS = "decisions"
_MODEL = "model"  # the partition column: a file for each registered model
_TYPES: dict[Any, pa.DataType] = {int: pa.int64(), bool: pa.bool_()}
_SCHEMA = pa.schema([(field.name, _TYPES.get(field.type, pa.string())) for field in fields(Version)])


def read_decisions(lake: Lake, dataset: Dataset | str) -> dict[str, tuple[Version, ...]]:
    """The versions about which something has been decided, by registered model, oldest first."""
    folder = lake.table(DECISIONS, dataset)
    return {model: _versions(folder, files) for model, files in present_files(folder).items()}


def decided_versions(lake: Lake, dataset: Dataset | str, model: str) -> tuple[Version, ...]:
    """The versions of one registered model about which something has been decided, oldest first."""
    folder = lake.table(DECISIONS, dataset)
    return _versions(folder, present_files(folder).get(model, ()))


def champion_among(versions: Iterable[Version]) -> Version | None:
    return next((version for version in versions if version.is_champion), None)


def lineage_file(lake: Lake, dataset: Dataset | str, version: str) -> Path:
    """The file with the inputs of a version's training (mtorl_model/champion/registry.py)."""
    return lake.table("model_lineage", dataset) / f"{version.replace('/', '-')}.json"


def commit_decision(
    lake: Lake, dataset: Dataset | str, changed: Sequence[Version], *, seen: Sequence[Version]
) -> tuple[Version, ...]:
    """Replace or add the rows of these versions of one model, in one commit; returns all rows of the model.

    seen: the rows from which the decision was made. Raises Busy if another decision about the model has been committed
    since, and commits nothing. A new champion among the changed versions replaces the present one.
    """
    (model,) = {version.model for version in changed}
    folder = lake.table(DECISIONS, dataset)
    present = present_files(folder).get(model, ())
    try:
        if _versions(folder, present) != tuple(seen):
            raise Replaced([model])
        rows = _merged(seen, changed)
        if rows != tuple(seen):
            content = pa.Table.from_pylist([_row(version) for version in rows], _SCHEMA)
            stored = store_table(folder, f"{_MODEL}={model}", content)
            commit(folder, _MODEL, {model: (stored,)}, _SCHEMA, {model: present})
    except Replaced as error:
        raise Busy(f"another decision about {model} has come first: run again") from error
    return rows


def _merged(seen: Sequence[Version], changed: Sequence[Version]) -> tuple[Version, ...]:
    by_number = {version.number: version for version in seen}
    if champion_among(changed):
        by_number = {number: replace(version, is_champion=False) for number, version in by_number.items()}
    by_number |= {version.number: version for version in changed}
    return tuple(by_number[number] for number in sorted(by_number))


def _versions(folder: Path, files: Iterable[DataFile]) -> tuple[Version, ...]:
    rows = (row for file in files for row in read_file(folder, file).to_pylist())
    return tuple(sorted(map(_version, rows), key=lambda version: version.number))


def _row(version: Version) -> dict[str, Any]:
    return {**asdict(version), "basis": version.basis.to_json()}


def _version(row: Mapping[str, Any]) -> Version:
    return Version(**{**row, "basis": BasisDecision(**json.loads(row["basis"]))})
