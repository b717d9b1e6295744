"""Raw files in Spark: its workers read them as jobs.raw.reader does, whatever their names and sizes."""

import gzip
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from raw_logs import criteo_row, header
from raw_reading import rows_of

from jobs.raw import lines
from jobs.raw.files import RawFiles
from jobs.raw.lines import grouped, joined, read_in_workers
from jobs.raw.reader import read
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import Split
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from schemas.dataset import get_dataset

LAYOUT = get_dataset("criteo").log
HEADER = header(LAYOUT)
LINES = [criteo_row(uid=k, cost="0.1234567890123", cpo="1e-05", cat7=k * 10**9) for k in range(40)]
FILES = {
    "plain.tsv.gz": [HEADER, *LINES],
    "quoted %20 #1:\n.tsv": [HEADER, *(line.replace(f"\t{k}\t", f'\t"{k}"\t', 1) for k, line in enumerate(LINES))],
    "blank é.tsv": [HEADER, *(line.replace(f"\t{k}\t", f"\t{k} \t", 1) for k, line in enumerate(LINES))],
    "header_1.tsv": [HEADER, criteo_row(), HEADER, criteo_row()],
    "header_2.tsv": [HEADER, criteo_row(), HEADER, criteo_row(), "\x00", "x" * 100_000],
}


def test_spark_reads_what_the_reader_reads(spark, tmp_path, monkeypatch):
    paths = []
    for name, text in FILES.items():
        data = ("\n".join(text) + "\n").encode()
        blob = tmp_path / f"{len(paths)}.blob"
        blob.write_bytes(gzip.compress(data) if ".gz" in name else data)
        paths.append(tmp_path / name)
        paths[-1].symlink_to(blob)
    monkeypatch.setattr(lines, "plan_splits", lambda source: read.plan_splits(source, 1000))
    ddl = ", ".join(f"`{column.name}` {column.dtype}" for column in LAYOUT.columns)
    ddl += f", {REASON} string, {RAW} binary, {SOURCE} string"
    rows = read_in_workers(spark, RawFiles(LAYOUT, tuple(paths)), lambda table: table, ddl).collect()
    columns = [*(column.name for column in LAYOUT.columns), REASON, RAW]
    by_file = {path.name: Counter() for path in paths}
    for row in rows:
        by_file[row[SOURCE]][tuple(bytes(v) if isinstance(v, bytearray) else v for v in (row[c] for c in columns))] += 1
    assert by_file == {path.name: Counter(rows_of(path, LAYOUT)) for path in paths}
    assert sum(row[REASON] is None for row in rows) == 3 * 40 + 4
    values = [sorted(row[:-2] for row in by_file[path.name]) for path in paths[:3]]
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize(
    ("sizes", "groups"), [([], []), ([9], [[9]]), ([2, 3, 4, 1], [[2, 3], [4, 1]]), ([5, 9, 1], [[5], [9], [1]])]
)
def test_small_files_share_a_task(tmp_path, sizes, groups):
    path = tmp_path / "log.tsv"
    path.write_text(HEADER + "\n" + LINES[0])
    source = open_raw_file(Path(path), LAYOUT)
    splits = [Split(source, 0, None, size) for size in sizes]
    assert [[split.size for split in group] for group in grouped(splits, 5)] == groups


def test_small_tables_are_joined_in_order_and_empty_ones_left_out():
    tables = [pa.table({"row": pa.array(rows, pa.int64())}) for rows in ([], [1, 2], [3], [], [4], [5, 6, 7])]
    assert [table["row"].to_pylist() for table in joined(iter(tables), largest=16)] == [[1, 2], [3, 4], [5, 6, 7]]
    assert [*joined(iter(tables[:1]))] == []
