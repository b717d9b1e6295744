"""The table `lineage` of a dataset: the manifest of each published partition, with a file for the days of a month.

A manifest is written before the commit of the files that it describes, in addition to the manifest of the present
files. The partition's present fingerprint decides which of the two counts. So readers never see a partition without its
manifest, and a job that is killed between the two commits leaves the earlier edition with the earlier manifest.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.manifest import Manifest
from lakehouse.retention import RETENTION
from lakehouse.storage.data_files import read_file, store_table
from lakehouse.storage.delta_table import DataFile, Replaced, commit, present_files
from schemas.days import UNDATED

LINEAGE = "lineage"
# Manifests of replaced editions are kept as long as their files, so that a restored version has its manifest.
_KEPT = timedelta(days=RETENTION.replaced_files)
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
Manifests = Mapping[Edition, Manifest]


@dataclass(frozen=True, slots=True)
class _Content:
    """The manifests of each file of a table `lineage`, and those of all its files."""

    by_file: Mapping[DataFile, Manifests]
    editions: Manifests


_latest_content: dict[str, _Content] = {}  # by folder


def editions(folder: Path) -> Manifests:
    """The manifests in a dataset's table `lineage`, by edition. Some describe editions that are gone."""
    latest = _latest_content.get(str(folder)) or _Content({}, {})
    files = {file for files in present_files(folder).values() for file in files}
    if files != latest.by_file.keys():
        # The content of a file never changes, so only new files are read.
        by_file = {file: latest.by_file.get(file) or _manifests(folder, file) for file in files}
        manifests = {edition: manifest for read in by_file.values() for edition, manifest in read.items()}
        latest = _latest_content[str(folder)] = _Content(by_file, manifests)
    return latest.editions


def record(folder: Path, manifests: Iterable[Manifest], present: Mapping[tuple[str, str], str]) -> None:
    """Add manifests in one commit. Older ones of editions that are neither present nor added are removed.

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
            for row in read_file(folder, file).to_pylist()
        }
        updated = _with_manifests(rows, manifests, present)
        if updated != rows:
            new_files[month] = (_store(folder, month, updated),)
    commit(folder, _MONTH, new_files, _SCHEMA, {month: present_by_month.get(month, ()) for month in new_files})


def _with_manifests(
    rows: Mapping[Edition, dict[str, Any]], manifests: Iterable[Manifest], present: Mapping[tuple[str, str], str]
) -> dict[Edition, dict[str, Any]]:
    updated = dict(rows)
    now = datetime.now(UTC)
    stamp, oldest_stamp = ((now - age).isoformat(timespec="seconds") for age in (timedelta(0), _KEPT))
    for manifest in manifests:
        partition = (manifest.table, manifest.ds)
        needed = {manifest.fingerprint, present.get(partition)}
        # A recent edition that is not present may be that of another run, which is about to commit its files.
        for edition in [e for e in updated if e[:2] == partition and e[2] not in needed]:
            if updated[edition]["built_at"] < oldest_stamp:
                del updated[edition]
        edition, row = (*partition, manifest.fingerprint), _row(manifest, stamp)
        is_recorded = edition in updated and {**updated[edition], "built_at": stamp} == row
        is_present = present.get(partition) == manifest.fingerprint
        if not is_recorded or not (is_present or updated[edition]["built_at"] >= oldest_stamp):
            updated[edition] = row
    return updated


def _row(manifest: Manifest, built_at: str) -> dict[str, Any]:
    return {
        "table": manifest.table, "ds": manifest.ds, "fingerprint": manifest.fingerprint, "rows": manifest.rows,
        "inputs": sorted(manifest.inputs.items()), "code_version": manifest.code_version,
        "spec_version": manifest.spec_version, "counts": sorted(manifest.counts.items()), "built_at": built_at,
    }  # fmt: skip


def _store(folder: Path, month: str, rows: Mapping[Edition, dict[str, Any]]) -> DataFile:
    table = pa.Table.from_pylist([rows[edition] for edition in sorted(rows)], _SCHEMA)
    return store_table(folder, f"{_MONTH}={month}", table)


def _month(day: str) -> str:
    return day if day == UNDATED else day[:7]


def _manifests(folder: Path, file: DataFile) -> Manifests:
    table = read_file(folder, file)
    columns = (table.column(name).to_pylist() for name in _SCHEMA.names if name != "built_at")
    return {
        (table, ds, fingerprint): Manifest(
            table, folder.parent.name, ds, rows, fingerprint, dict(inputs), code, spec, dict(counts)
        )
        for table, ds, fingerprint, rows, inputs, code, spec, counts in zip(*columns, strict=True)
    }
