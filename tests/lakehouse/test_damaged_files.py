"""A data file that is missing, cut or altered: every reader ends with one line that names it."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from text_lake import publish_text

from lakehouse import lineage
from lakehouse.duckdb_view import open_view
from lakehouse.lake import Lake, Partition
from lakehouse.reading import read_tables
from lakehouse.storage.data_files import COPIES, DamagedFile, file_fault, read_file, store_table
from lakehouse.storage.scratch import scratch_folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def alter(file: Path) -> None:
    """Change the first page's header, so that the page cannot be decoded."""
    content = bytearray(file.read_bytes())
    content[4:12] = b"\xff" * 8
    file.write_bytes(content)


def duckdb_rows(partition: Partition) -> None:
    with open_view(partition) as connection:
        connection.execute('FROM "partition"').fetchall()


READERS: dict[str, Callable[[Partition], object]] = {
    "files": lambda partition: partition.files(),
    "read": lambda partition: partition.read(),
    "read_tables": lambda partition: list(read_tables([partition], ["text"])),
    "duckdb": duckdb_rows,
}
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (Path.unlink, "is missing"),
    "cut": (cut, "bytes instead of"),
    "altered": (alter, "other content"),
}


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    lake = Lake(tmp_path)
    publish_text(lake, "a", "b")
    return lake["exposures", "shop", "2022-05-01"]


@pytest.mark.parametrize("fault", ["missing", "cut"])
@pytest.mark.parametrize("reader", READERS)
def test_a_missing_or_cut_file_is_one_line(partition, reader, fault):
    damage, words = FAULTS[fault]
    file = partition.files()[1]
    damage(file)
    with pytest.raises(DamagedFile, match=f"{words}.*: make verify") as error:
        READERS[reader](partition)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("reader", ["read", "read_tables", "duckdb"])
def test_a_file_that_cannot_be_decoded_is_one_line(partition, reader):
    file = partition.files()[0]
    alter(file)
    with pytest.raises(DamagedFile, match=r"cannot be read \(.*: make verify"):
        READERS[reader](partition)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_named(partition, fault):
    damage, words = FAULTS[fault]
    folder = partition.lake.table("exposures", "shop")
    first, second = partition.data_files()
    assert file_fault(folder, first) == ""
    damage(folder / second.path)
    assert (file_fault(folder, first), words in file_fault(folder, second)) == ("", True)


def test_a_manifest_whose_file_is_missing_is_one_line(partition, monkeypatch):
    (file,) = (partition.lake.root / "shop" / "lineage").glob("month=*/*.parquet")
    file.unlink()
    monkeypatch.setattr(lineage, "_latest_content", {})  # as in a new process
    with pytest.raises(DamagedFile, match="is missing: make verify"):
        _ = partition.manifest


@pytest.mark.bucket
@pytest.mark.parametrize("fault", ["missing", "other content"])
def test_a_damaged_object_is_one_line(bucket, fault):
    lake = Lake.at(bucket)
    publish_text(lake, "a")
    partition = lake["exposures", "shop", "2022-05-01"]
    (file,) = partition.data_files()
    stored = lake.table("exposures", "shop") / file.path
    stored.unlink() if fault == "missing" else stored.write_bytes(b"x" * file.size)
    with pytest.raises(DamagedFile, match=f"{fault}.*: make verify"):
        partition.read()


def test_a_faulty_query_on_a_damaged_file_names_the_query(partition):
    alter(partition.files()[0])
    with pytest.raises(duckdb.BinderException, match="nope"), open_view(partition) as connection:
        connection.execute('SELECT nope FROM "partition"')


def test_a_file_of_an_earlier_version_says_what_to_do(partition):
    file = partition.data_files()[0]
    stem, _, digest = Path(file.path).stem.rpartition("-")
    former = file._replace(path=f"{Path(file.path).parent}/{stem}-{digest[:32]}.parquet")
    folder = partition.lake.table("exposures", "shop")
    (folder / file.path).rename(folder / former.path)
    assert file_fault(folder, former).startswith("was stored by an earlier version of this project: fill a new lake")


def test_a_damaged_copy_of_an_object_is_removed(partition, monkeypatch):
    """So the next run fetches it again."""
    file = partition.files()[0]
    copy = scratch_folder(COPIES) / "table" / file.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(file.read_bytes())
    alter(copy)
    monkeypatch.setattr(Partition, "files", lambda _: [copy])
    with pytest.raises(DamagedFile, match="this copy of an object has been removed, so run again"):
        duckdb_rows(partition)
    assert not copy.exists()


def test_a_changed_value_is_one_line(tmp_path):
    """A byte of a page that still can be decoded: only the page's checksum shows that the value is another one."""
    stored = store_table(tmp_path, "ds=2022-05-01", pa.table({"cost": pa.array([1.5, 2.5], pa.float64())}))
    file = tmp_path / stored.path
    content = file.read_bytes()
    values = np.array([1.5, 2.5]).tobytes()
    assert content.count(values) == 1
    file.write_bytes(content.replace(values, np.array([1.5, 3.5]).tobytes()))
    with pytest.raises(DamagedFile, match=r"cannot be read \(.*checksum.*: make verify"):
        read_file(tmp_path, stored)
