"""Compares lakes by the content of their tables, and reads what they have published."""

from collections.abc import Iterator

from lakehouse.lake import Lake, Partition
from lakehouse.storage.data_files import has_its_content
from lakehouse.storage.delta_table import present_files
from schemas.tables.registry import TABLES


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
    found = {}
    for partition in partitions(lake, *tables):
        manifest, files = partition.manifest, partition.files()
        assert manifest is not None, partition.key
        assert all(has_its_content(file) for file in files), partition.key
        found[partition.key] = (
            manifest.fingerprint, *(file.name for file in files),
        )  # fmt: skip
    return found


def orphans(lake: Lake) -> list[str]:
    """The data files below the tables that no commit names."""
    named = {folder / file.path for folder in (log.parent for log in lake.root.glob("*/*/_delta_log"))
             for files in present_files(folder).values() for file in files}  # fmt: skip
    return sorted(str(file.relative_to(lake.root)) for file in lake.root.rglob("*.parquet") if file not in named
                  and not {"_delta_log", "published"} & {*file.parts})  # fmt: skip
