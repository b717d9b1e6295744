"""The rows of a raw log, which Spark's workers read once in a run and send to the partitions of its shuffle.

Without outcomes, a partition has the rows that one task writes (Partitions). With outcomes, rows that may be joined
meet first: jobs.raw.publish.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import RDD, Broadcast, SparkContext

from jobs.raw.exposures import is_usable, quarantine_schema, quarantined_rows, usable_rows
from jobs.raw.files import RawFiles
from jobs.raw.fingerprints import Fingerprints, combined, fingerprints
from jobs.raw.index import event_views
from jobs.raw.joins.lookups import read_lookups
from jobs.raw.joins.outcomes import join_key
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE
from jobs.raw.row_work import DS, OUTCOME, row_schema
from jobs.raw.rows import ReadTask, read_tasks, require_usable, rows_of_task
from jobs.spark.blocks import Block, blocks_by_partition, rows_by_kind
from jobs.spark.bucket_numbers import bucket_numbers
from jobs.spark.progress import describe_job
from lakehouse.arrow_types import rows_where
from schemas.dataset import PARQUET, Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.printable import counted

# Kinds of blocks. ROWS are rows of row_schema, still to be joined. A COUNT is a Counter of rows by (kind, day).
ROWS, USABLE, QUARANTINED, COUNT, _FINGERPRINTS = "rows", "usable", "quarantined", "count", "fingerprints"
_BYTES_OF_PARTITION = 64 << 20  # raw bytes of the rows that one task sorts, about
_PACKED = 5  # how many times larger compressed files and Parquet are as rows, about


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of a shuffle: each bucket of users, several times if the log is large.

    day_groups: how many tasks share a bucket. Each of them writes other days.
    """

    buckets: int
    day_groups: int

    @classmethod
    def for_tasks(cls, tasks: Iterable[ReadTask], buckets: int) -> "Partitions":
        size = sum(
            task.size * (_PACKED if split.source.compression or task.layout.format == PARQUET else 1)
            for task in tasks
            for split in task.splits[:1]
        )
        return cls(buckets, 1 + size // (buckets * _BYTES_OF_PARTITION))

    @property
    def number(self) -> int:
        return self.buckets * self.day_groups

    def numbers(self, usable: pa.Table) -> np.ndarray:
        """The partition of each usable row."""
        day = usable.column(DS).combine_chunks().dictionary_encode()
        days_since_1970 = day.dictionary.cast(pa.date32()).cast(pa.int32()).to_numpy()
        group_N = (days_since_1970 % self.day_groups)[day.indices.to_numpy()]
        return bucket_numbers(usable.column("user_id"), self.buckets) + self.buckets * group_N


@dataclass(frozen=True, slots=True)
class NeededDays:
    """The days whose rows are needed. UNDATED: the rows outside the span, and those without a day.

    Without days, no rows are needed: only their fingerprints.
    """

    days: frozenset[str]
    span: tuple[str, str]

    def filter(self, rows: pa.Table) -> pa.Table:
        """The needed rows."""
        day = rows.column(DS)
        is_needed = pc.is_in(day, value_set=pa.array([*self.days], pa.string()))
        if UNDATED in self.days:
            is_needed = pc.or_(is_needed, is_undated(day, self.span))
        return rows_where(rows, is_needed)


NO_ROWS = NeededDays(frozenset(), ("", ""))


def is_undated(day: pa.ChunkedArray, span: tuple[str, str]) -> pa.ChunkedArray:
    """Which days are null, or outside the span."""
    first, last = span
    return pc.fill_null(pc.or_(pc.less(day, first), pc.greater(day, last)), True)


def table_blocks(rows: pa.Table, dataset: Dataset, partitions: Partitions) -> Iterator[tuple[int, Block]]:
    """The rows of both tables, to the partitions whose tasks write them, and the numbers of usable rows by day.

    rows: with the columns of row_schema. Those without a file are published already and do not count.
    """
    usable, quarantined = usable_rows(rows, dataset), quarantined_rows(rows)
    yield from blocks_by_partition(USABLE, usable, partitions.numbers(usable))
    yield from blocks_by_partition(
        QUARANTINED, quarantined, bucket_numbers(quarantined.column("raw"), partitions.buckets)
    )
    in_file = rows.column(DS).filter(pc.and_(is_usable(rows), pc.is_valid(rows.column(SOURCE))))
    counts = {(USABLE, entry["values"]): entry["counts"] for entry in in_file.value_counts().to_pylist()}
    yield 0, Block(COUNT, Counter(counts))


def rows_to_join(rows: pa.Table, dataset: Dataset, match: int, partitions: Partitions) -> Iterator[tuple[int, Block]]:
    """The rows, each to the partition of its key in this match of the contract: see joins.outcomes.join_key."""
    return blocks_by_partition(ROWS, rows, partition_of_key(rows, dataset, match, partitions))


def partition_of_key(rows: pa.Table, dataset: Dataset, match: int, partitions: Partitions) -> np.ndarray:
    return join_key(rows, dataset, match).to_numpy() % partitions.number


def _without_needless_bytes(rows: pa.Table) -> pa.Table:
    """The rows without the bytes of usable exposures: half of a row's size. Any other row may be quarantined."""
    is_exposure = pc.and_(pc.is_null(rows.column(REASON)), pc.is_null(rows.column(OUTCOME)))
    raw = pc.if_else(is_exposure, pa.scalar(None, pa.binary()), rows.column(RAW))
    return rows.set_column(rows.schema.get_field_index(RAW), RAW, raw)


@dataclass(frozen=True)
class ReadLog:
    """Reads the tasks of these numbers, in a worker of Spark."""

    dataset: Dataset
    tasks: Sequence[ReadTask]
    lookups: Mapping[str, "Broadcast[bytes]"]
    partitions: Partitions
    needed: NeededDays | None

    def __call__(self, number: int) -> Iterator[tuple[int, Block]]:
        """Blocks for the partitions, and the fingerprints of all rows for one partition more."""
        parts: list[Fingerprints] = []
        lookups = {view: pa.ipc.open_stream(stream.value).read_all() for view, stream in self.lookups.items()}
        for rows in rows_of_task(self.tasks[number], self.dataset, lookups):
            needed_rows = self.needed.filter(rows) if self.needed else rows
            if self.needed is None or not self.needed.days:
                parts.append(fingerprints(rows))
            if self.dataset.outcomes:
                needed_rows = _without_needless_bytes(needed_rows)
                yield from rows_to_join(needed_rows, self.dataset, 0, self.partitions)
            else:
                yield from table_blocks(needed_rows, self.dataset, self.partitions)
        yield self.partitions.number, Block(_FINGERPRINTS, combined(parts))


@dataclass(frozen=True)
class LogBlocks:
    """Rows of the log in the partitions of a shuffle; the last partition has the fingerprints."""

    spark: SparkContext
    dataset: Dataset
    partitions: Partitions
    pairs: "RDD[tuple[int, Block]]"

    def fingerprints(self) -> Fingerprints:
        """The fingerprints of all rows.

        Spark reads the log for them, and keeps its shuffle files for all later uses of the blocks.
        """

        def contents(pairs: Iterable[tuple[int, Block]]) -> list[Any]:
            return [block.content for _, block in pairs]

        return combined(self.spark.runJob(self.pairs, contents, [self.partitions.number]))

    def reasons(self) -> Counter[str]:
        """How many rows are quarantined for each reason."""
        schemas = {QUARANTINED: quarantine_schema(), ROWS: row_schema(self.dataset)}

        def count(pairs: Iterable[tuple[int, Block]]) -> list[Counter[str]]:
            tables = rows_by_kind((block for _, block in pairs), schemas)
            columns = (tables[QUARANTINED].column("reason"), tables[ROWS].column(REASON).drop_null())
            return [Counter({e["values"]: e["counts"] for e in c.value_counts().to_pylist()}) for c in columns]

        return sum(self.spark.runJob(self.pairs, count, range(self.partitions.number)), Counter())


class RawLog:
    """files: by view name, as from find_raw_files. Files that were read together are not read again in a run.

    buckets: of users, each a file of a day.
    """

    def __init__(self, spark: SparkContext, dataset: Dataset, files: Mapping[str, RawFiles], buckets: int) -> None:
        require_usable(dataset)
        self.spark, self.dataset, self.files, self.buckets = spark, dataset, files, buckets
        self._latest: tuple[set[str], LogBlocks] | None = None

    def blocks(self, names: set[str], needed: NeededDays | None = None) -> LogBlocks:
        """Rows of the log files of these names. needed: only these rows are needed.

        Rows of other files, and rows that are not needed, may be included. If only some rows are needed, there are no
        fingerprints.
        """
        if self._latest and names <= self._latest[0]:
            return self._latest[1]
        blocks = self._read(names, needed)
        if needed is None:
            self._latest = names, blocks
        return blocks

    def _read(self, names: set[str], needed: NeededDays | None) -> LogBlocks:
        files = self._files_of(names)
        tasks = read_tasks(self.dataset, files)
        partitions = Partitions.for_tasks(tasks, self.buckets)
        lookups = self._to_workers(read_lookups(self.dataset, files)) if self.dataset.log.view in files else {}
        describe_job(self.spark, "reading the log")
        numbers = self.spark.parallelize(range(len(tasks)), max(len(tasks), 1))
        pairs = numbers.flatMap(ReadLog(self.dataset, tasks, lookups, partitions, needed))
        return LogBlocks(self.spark, self.dataset, partitions, pairs.partitionBy(partitions.number + 1, int))

    def _files_of(self, names: set[str]) -> dict[str, RawFiles]:
        """The files of these names, and all lookups."""
        files = {view: group for view, group in self.files.items() if view not in event_views(self.dataset)}
        for view in event_views(self.dataset):
            group = self.files[view]
            if paths := tuple(path for name, path in group.by_name.items() if name in names):
                files[view] = replace(group, paths=paths)
        return files

    def _to_workers(self, tables: Mapping[str, pa.Table]) -> dict[str, "Broadcast[bytes]"]:
        """Each table as a stream of Arrow, which Spark sends to each machine once."""
        streams = {}
        for view, table in tables.items():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            streams[view] = self.spark.broadcast(sink.getvalue().to_pybytes())
        return streams


def usable_rows_by_day(fingerprints: Fingerprints, reasons: Callable[[], Counter[str]]) -> dict[str, int]:
    """The number of exposures of each day, duplicates included. A quarantined row may have any time: it does not count.

    Raises UserError with the most frequent reason if no row is usable. reasons: see LogBlocks.
    """
    usable: Counter[str] = Counter()
    outcomes = 0
    for group, (rows, _, _) in fingerprints.items():
        if group.is_outcome:
            outcomes += rows
        elif not group.is_quarantined:
            usable[str(group.day)] += rows
    if not usable:
        problem = f"it has {counted(outcomes, 'outcome')} and no exposure" if outcomes else "it is empty"
        if counts := reasons():
            reason = min(counts, key=lambda name: (-counts[name], name))
            rows = counted(counts.total(), "row")
            problem = f"{rows} in quarantine and no other, most often because: {reason}"
        raise UserError(f"the log has no usable row: {problem}; is it the right file?")
    return dict(usable)
