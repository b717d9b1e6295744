"""The table `lineage` of a dataset: the manifest of each published partition, with a file for the days of a month.

A manifest is written before the commit of the files that it describes, in addition to the manifest of the present
files. The partition's present fingerprint decides which of the two counts. So readers never see a partition without its
manifest, and a job that is killed between the two commits leaves the earlier edition with the earlier manifest.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import local_file, store_file
from lakehouse.storage.delta_table import DataFile, FilesByValue, Replaced, commit, present_files
from lakehouse.storage.scratch import work_folder
from schemas.days import UNDATED

LINEAGE = "lineage"
_MONTH = "month"  # the partition column
_SCHEMA = pa.schema(
    {
        "table": pa.string(),
        "ds": pa.string(),
        "fingerprint": pa.string(),
        "rows": pa.int64(),
        "inputs": pa.map_(pa.string(), pa.string()),
        "code_version": pa.string(),
        "spec_version": pa.string(),
        "counts": pa.map_(pa.string(), pa.int64()),
        "built_at": pa.string(),
    }
)

Edition = tuple[str, str, str]  # table, day and fingerprint

# By process and folder, with the files that they are in.
_editions: dict[tuple[int, str], tuple[FilesByValue, Mapping[Edition, Manifest]]] = {}


def editions(folder: Path) -> Mapping[Edition, Manifest]:
    """The manifests in a dataset's table `lineage`, by edition. Some describe editions that are gone."""
    key = (os.getpid(), str(folder))
    files, cached = _editions.get(key, ({}, {}))
    if (present := present_files(folder)) is not files:
        by_file = (
            _manifests(local_file(folder, file), folder.parent.name) for month in present.values() for file in month
        )
        cached = {edition: manifest for manifests in by_file for edition, manifest in manifests.items()}
        _editions[key] = (present, cached)
    return cached


def record(folder: Path, manifests: Iterable[Manifest], present: Mapping[tuple[str, str], str]) -> None:
    """Add manifests in one commit. Manifests of editions that are neither present nor added are removed.

    present: the fingerprints of the partitions' present files, by table and day.
    """
    by_month: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        by_month[_month(manifest.ds)].append(manifest)
    while True:
        try:
            return _record(folder, by_month, present)
        except Replaced:
            continue  # another run has added a manifest: add ours to its


def _record(folder: Path, by_month: Mapping[str, Iterable[Manifest]], present: Mapping[tuple[str, str], str]) -> None:
    present_by_month = present_files(folder)
    new_files: dict[str, tuple[DataFile, ...]] = {}
    for month, manifests in by_month.items():
        rows = {
            (row["table"], row["ds"], row["fingerprint"]): row
            for file in present_by_month.get(month, ())
            for row in pq.read_table(local_file(folder, file), partitioning=None).to_pylist()
        }
        updated = _with_manifests(rows, manifests, present)
        if updated != rows:
            new_files[month] = (_store(folder, month, updated),)
    commit(folder, _MONTH, new_files, _SCHEMA, {month: present_by_month.get(month, ()) for month in new_files})


def _with_manifests(
    rows: Mapping[Edition, dict[str, Any]], manifests: Iterable[Manifest], present: Mapping[tuple[str, str], str]
) -> dict[Edition, dict[str, Any]]:
    updated = dict(rows)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for manifest in manifests:
        partition = (manifest.table, manifest.ds)
        needed = {manifest.fingerprint, present.get(partition)}
        for edition in [e for e in updated if e[:2] == partition and e[2] not in needed]:
            del updated[edition]
        edition, row = (*partition, manifest.fingerprint), _row(manifest, now)
        if edition not in updated or {**updated[edition], "built_at": now} != row:
            updated[edition] = row
    return updated


def _row(manifest: Manifest, built_at: str) -> dict[str, Any]:
    return {
        "table": manifest.table, "ds": manifest.ds, "fingerprint": manifest.fingerprint, "rows": manifest.rows,
        "inputs": sorted(manifest.inputs.items()), "code_version": manifest.code_version,
        "spec_version": manifest.spec_version, "counts": sorted(manifest.counts.items()), "built_at": built_at,
    }  # fmt: skip


def _store(folder: Path, month: str, rows: Mapping[Edition, dict[str, Any]]) -> DataFile:
    with work_folder() as work:
        file = work / "part-0.parquet"
        pq.write_table(pa.Table.from_pylist([rows[edition] for edition in sorted(rows)], _SCHEMA), file)
        return store_file(folder, f"{_MONTH}={month}", file)


def _month(day: str) -> str:
    return day if day == UNDATED else day[:7]


@cache
def _manifests(file: Path, dataset: str) -> Mapping[Edition, Manifest]:
    """The manifests in a file, whose content never changes."""
    manifests = (
        Manifest(
            row["table"], dataset, row["ds"], row["rows"], row["fingerprint"], dict(row["inputs"]),
            row["code_version"], row["spec_version"], dict(row["counts"]),
        )
        for row in pq.read_table(file, partitioning=None).to_pylist()
    )  # fmt: skip
    return {(m.table, m.ds, m.fingerprint): m for m in manifests}
