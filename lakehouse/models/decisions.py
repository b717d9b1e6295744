"""The table `decisions` of a dataset: what has been decided about the versions of its models, and who is champion.

A row is a version that is or was champion, or that the promotion gate has refused. MLflow cannot set an alias on
condition that it has not changed since it was read, so two deciders could overwrite each other's decision. Therefore a
decision is a commit to this Delta table: of two commits from the same rows, the second is refused. MLflow's aliases and
tags follow (mtorl_model/champion/registry.py). A step that needs the champion reads it here, without importing MLflow.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from schemas.basis import BasisDecision
from schemas.dataset import Dataset
from schemas.errors import Busy

DECISIONS = "decisions"
_MODEL = "model"  # the partition column: a file for each registered model
_TYPES: dict[Any, pa.DataType] = {int: pa.int64(), bool: pa.bool_()}
_SCHEMA = pa.schema([(field.name, _TYPES.get(field.type, pa.string())) for field in fields(Version)])


def read_decisions(lake: Lake, dataset: Dataset | str) -> dict[str, tuple[Version, ...]]:
    """The versions about which something has been decided, by registered model, oldest first."""
    table = _open(lake.table(DECISIONS, dataset))
    return {model: _versions(table, model) for model in _files(table)} if table else {}


def decided_versions(lake: Lake, dataset: Dataset | str, model: str) -> tuple[Version, ...]:
    """The versions of one registered model about which something has been decided, oldest first."""
    table = _open(lake.table(DECISIONS, dataset))
    return _versions(table, model) if table else ()


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
    rows = _merged(seen, changed)
    while True:
        # Another commit, perhaps about another model, may come in between: then look again.
        with suppress(CommitFailedError):
            table = _open(folder) or _create(folder)
            if _versions(table, model) != tuple(seen):
                raise Busy(f"another decision about {model} has come first: run again")
            if rows != tuple(seen):
                _write(table, model, rows)
            return rows


def _merged(seen: Sequence[Version], changed: Sequence[Version]) -> tuple[Version, ...]:
    by_number = {version.number: version for version in seen}
    if champion_among(changed):
        by_number = {number: replace(version, is_champion=False) for number, version in by_number.items()}
    by_number |= {version.number: version for version in changed}
    return tuple(by_number[number] for number in sorted(by_number))


def _open(folder: Path) -> DeltaTable | None:
    try:
        return DeltaTable(str(folder))
    except TableNotFoundError:
        return None


def _files(table: DeltaTable) -> dict[str, list[str]]:
    """The paths of the present files below the table's folder, by model."""
    actions = pa.table(table.get_add_actions(flatten=True))
    paths: dict[str, list[str]] = {}
    for model, path in zip(*(actions[name].to_pylist() for name in (f"partition.{_MODEL}", "path")), strict=True):
        paths.setdefault(model, []).append(path)
    return paths


def _versions(table: DeltaTable, model: str) -> tuple[Version, ...]:
    root = Path(table.table_uri.removeprefix("file://"))
    parts = [pq.ParquetFile(root / path).read() for path in _files(table).get(model, [])]
    versions = [_version(row) for part in parts for row in part.to_pylist()]
    return tuple(sorted(versions, key=lambda version: version.number))


def _create(folder: Path) -> DeltaTable:
    """The empty table. Two runs may create it at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    return DeltaTable.create(
        str(folder), Schema.from_arrow(_SCHEMA.append(pa.field(_MODEL, pa.string()))), mode="ignore",
        partition_by=[_MODEL],
    )  # fmt: skip


def _write(table: DeltaTable, model: str, rows: Sequence[Version]) -> None:
    content = pa.Table.from_pylist([_row(version) for version in rows], _SCHEMA)
    content = content.append_column(_MODEL, pa.array([model] * len(rows)))
    # Each commit has the same application transaction, so two commits from one version of the table conflict.
    properties = CommitProperties(app_transactions=[Transaction(DECISIONS, table.version() + 1)])
    write_deltalake(table, content, mode="overwrite", predicate=f"{_MODEL} = '{model}'", commit_properties=properties)


def _row(version: Version) -> dict[str, Any]:
    return {**asdict(version), "basis": version.basis.to_json()}


def _version(row: Mapping[str, Any]) -> Version:
    return Version(**{**row, "basis": BasisDecision(**json.loads(row["basis"]))})
