"""Plain Parquet for consumers: a file for each day of each table of results, without a table format around it.

LAKE/<dataset>/published/<table>/ds=<day>/part-0.parquet has the rows of the latest edition that passed its audit. The
file is replaced in one step, so a reader sees the earlier edition or the new one. An edition that fails its audit
does not change the file.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.quality.audit_results import FAIL, stored_audit
from lakehouse.lake import Partition
from lakehouse.manifest import files_fingerprint
from lakehouse.rows import ROWS_PER_GROUP
from lakehouse.storage.data_files import local_file, open_parquet
from lakehouse.storage.delta_table import DataFile
from lakehouse.storage.files import is_local, move_whole
from lakehouse.storage.scratch import work_folder

STAGING = ".staged-"  # how the names of folders of files that are not complete yet begin; they stay after a kill
_FINGERPRINT = b"fingerprint"  # of the edition, in the metadata of the file


def update_consumer_file(partition: Partition) -> bool:
    """Replace the partition's file for consumers if its present edition has passed its audit. Returns whether it did.

    Two audits may do this at the same time: the file ends with the latest edition that passed.
    """
    is_replaced = False
    while (files := _passed_files(partition)) and _edition(partition) != _fingerprint(files):
        with _staged_file(partition) as staged:
            _write(partition, files, staged)
            move_whole(staged, partition.consumer_file)
        is_replaced = True  # another edition may have passed since its files were listed: look again
    return is_replaced


def _passed_files(partition: Partition) -> tuple[DataFile, ...]:
    """The files of the present edition if it has passed its audit, else none."""
    files, audit = partition.data_files(), stored_audit(partition)
    has_passed = audit is not None and audit.verdict != FAIL and audit.fingerprint == _fingerprint(files)
    return files if has_passed else ()


def _fingerprint(files: Sequence[DataFile]) -> str:
    return files_fingerprint(file.name for file in files)


def _edition(partition: Partition) -> str:
    """The fingerprint of the edition that the file for consumers has; empty if it is missing or damaged."""
    try:
        with partition.consumer_file.open("rb") as file:
            metadata = pq.read_schema(file).metadata or {}
    except FileNotFoundError:
        return ""
    except pa.ArrowInvalid:
        print(f"{partition.consumer_file} is damaged: it is written again")
        return ""
    return metadata.get(_FINGERPRINT, b"").decode()


@contextmanager
def _staged_file(partition: Partition) -> Iterator[Path]:
    """A local path to write the file to, on the disk of the lake if it has one. It is outside the folders of the days,
    because some readers also read hidden files.
    """
    if not is_local(partition.consumer_file):
        with work_folder() as folder:
            yield folder / "rows"
        return
    parent = partition.lake.consumer_files(partition.dataset)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=STAGING) as folder:
        yield Path(folder) / "rows"


def _write(partition: Partition, files: Sequence[DataFile], staged: Path) -> None:
    """Write the rows of these files in their order, a row group at a time."""
    folder = partition.lake.table(partition.table, partition.dataset)
    paths = [local_file(folder, file) for file in files]
    schema = pq.read_schema(paths[0]).with_metadata({_FINGERPRINT: _fingerprint(files)})
    with pq.ParquetWriter(staged, schema, write_page_checksum=True) as writer:
        for path in paths:
            with open_parquet(path) as file:
                for batch in file.iter_batches(ROWS_PER_GROUP):
                    writer.write_table(pa.Table.from_batches([batch]).cast(schema))
