"""Writes blocks of users as one delimited file sorted by time, in bounded memory."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

# The folder with the truth, next to the logs. Readers of raw files ignore folders and Parquet files.
TRUTH_FOLDER = "_truth"
# A generated log repeats this share of its rows, and at least one row of each block of users.
_DUPLICATES = 1e-4
# The log is sorted in slices of time: the rows of one slice, and the largest number of slices.
_SLICE_ROWS = 500_000
_MAX_SLICES = 256


def with_duplicates(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The rows with a few of them repeated, each next to its original."""
    extra = max(1, round(_DUPLICATES * len(table)))
    return table.take(pa.array(np.sort(np.append(np.arange(len(table)), rng.integers(len(table), size=extra)))))


class SortedLog:
    """Rows of all users, spilled to one scratch file per slice of time and read back sorted.

    scratch: folder for the spill, created here. time: the column to sort by, with values in [first, first + span);
    equal times keep the order in which the rows were added. rows: the expected total.
    """

    def __init__(self, scratch: Path, time: str, first: int, span: int, rows: int):
        scratch.mkdir(parents=True)
        self._time = time
        slices = min(rows // _SLICE_ROWS + 1, _MAX_SLICES)
        self._starts = first + span * np.arange(slices) // slices
        self._paths = [scratch / f"{i}.arrow" for i in range(slices)]
        self._spills: list[pa.RecordBatchStreamWriter] = []

    def add(self, table: pa.Table) -> None:
        """Rows in any order; all tables have the same columns, and the first may be empty."""
        if not self._spills:
            self._spills = [pa.ipc.new_stream(str(path), table.schema) for path in self._paths]
        table = self._sorted(table)
        cuts = [*np.searchsorted(table[self._time].to_numpy(), self._starts), len(table)]
        for spill, start, end in zip(self._spills, cuts[:-1], cuts[1:], strict=True):
            spill.write_table(table.slice(start, end - start))

    def slices(self) -> Iterator[pa.Table]:
        """All rows in slices, oldest first; a slice without rows has the columns. Ends the adding of rows."""
        for spill in self._spills:
            spill.close()
        for path in self._paths:
            with pa.ipc.open_stream(str(path)) as spill:
                table = spill.read_all()
            path.unlink()
            yield self._sorted(table)

    def _sorted(self, table: pa.Table) -> pa.Table:
        return table.take(pa.array(np.argsort(table[self._time].to_numpy(), kind="stable")))


def write_log(log: SortedLog, target: Path, columns: Sequence[str], separator: str, truth_keys: Sequence[str]) -> int:
    """Write `columns` to the delimited file `target` (gzip by its name) and return the number of rows.

    All other columns are written to TRUTH_FOLDER/<name of target>.parquet, after `row` and truth_keys.
    """
    # All log columns are numbers; with quoting enabled, Arrow would quote the names in the header.
    plain = pa_csv.WriteOptions(include_header=False, delimiter=separator, quoting_style="none")
    rows = 0
    truth_file = None
    with _open_delimited(target) as file:
        file.write((separator.join(columns) + "\n").encode())
        for table in log.slices():
            pa_csv.write_csv(table.select(columns), file, plain)
            truth_columns = [name for name in table.column_names if name not in columns]
            if truth_columns:
                row = pa.array(np.arange(rows, rows + len(table)))
                truth = table.select([*truth_keys, *truth_columns]).add_column(0, "row", row)
                truth_file = truth_file or pq.ParquetWriter(_truth_path(target), truth.schema)
                truth_file.write_table(truth)
            rows += len(table)
    if truth_file is not None:
        truth_file.close()
    return rows


def _truth_path(target: Path) -> Path:
    folder = target.parent / TRUTH_FOLDER
    folder.mkdir(exist_ok=True)
    return folder / f"{target.name.split('.')[0]}.parquet"


@contextmanager
def _open_delimited(target: Path) -> Iterator[BinaryIO]:
    with target.open("wb") as file:
        if target.suffix != ".gz":
            yield file
            return
        # Without a name and a time in the header, the same rows give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=file, mtime=0) as packed:
            yield packed  # type: ignore[misc]
