"""Copies lakes, compares them by the content of their tables, and reads what they have published."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import DS, Lake, Partition
from lakehouse.storage.data_files import has_its_content, part_of
from lakehouse.storage.delta_table import commit, present_files
from lakehouse.storage.scratch import work_folder
from schemas.tables.registry import TABLES


def linked_copy(lake: Lake, root: Path) -> Lake:
    """A copy that shares the files of the lake. Publishing a partition again in it leaves the original unchanged."""
    shutil.copytree(lake.root, root, copy_function=os.link)
    return Lake(root)


def partitions(lake: Lake, *tables: str) -> Iterator[Partition]:
    """All published partitions of a lake of this machine, by path; of these tables only, if any are named."""
    for folder in sorted(log.parent for log in lake.root.glob("*/*/_delta_log")):
        if folder.name in (tables or TABLES):
            for day in sorted(present_files(folder)):
                yield lake[folder.name, folder.parent.name, day]


def contents(lake: Lake, *tables: str) -> dict[str, tuple[str, ...]]:
    """Fingerprint and names of the files of every partition, by path; of these tables only, if any are named.

    Checks that each file has the content of its name. The names are in the order in which the files are read, because
    windows are drawn by their position in the files and a fingerprint ignores the order of files.
    """
    fingerprint_and_names = {}
    for partition in partitions(lake, *tables):
        manifest, files = partition.manifest, partition.files()
        assert manifest is not None, partition.key
        assert all(has_its_content(file) for file in files), partition.key
        fingerprint_and_names[partition.key] = (
            manifest.fingerprint, *(file.name for file in files),
        )  # fmt: skip
    return fingerprint_and_names


def orphans(lake: Lake) -> list[str]:
    """The data files below the tables that no commit names."""
    named = {folder / file.path for folder in (log.parent for log in lake.root.glob("*/*/_delta_log"))
             for files in present_files(folder).values() for file in files}  # fmt: skip
    return sorted(str(file.relative_to(lake.root)) for file in lake.root.rglob("*.parquet") if file not in named
                  and not {"_delta_log", "published"} & {*file.parts})  # fmt: skip


def unpublish(partition: Partition) -> None:
    """Remove a partition from its table, as if it had never been built."""
    commit(partition.lake.table(partition.table, partition.dataset), DS, {partition.day: ()}, pa.schema([]))


def republish(partition: Partition, *, reverse: bool = False, spec_version: str | None = None) -> None:
    """Publish the same rows in other files, in the same or in reverse order; by default with the same spec version."""
    published = partition.require()
    with work_folder() as work:
        for file in partition.files():
            rows = pq.read_table(file, partitioning=None)
            rows = rows.take(list(range(len(rows)))[::-1]) if reverse else rows
            compression = "gzip" if _compression(file) != "GZIP" else "zstd"  # other pages, so another edition
            pq.write_table(rows, work / f"{part_of(file)}.parquet", compression=compression)
        partition.publish(
            work, inputs=published.inputs, code="test", spec_version=spec_version or published.spec_version
        )


def _compression(file: Path) -> str:
    return str(pq.read_metadata(file).row_group(0).column(0).compression)
