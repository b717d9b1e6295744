"""The tables `exposures` and `quarantine` of one bucket, from the rows that Spark has sent to its task."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.exposures import exposures_schema, quarantine_schema, with_headers, without_duplicates
from jobs.raw.joins.outcomes import JOINED, join_outcomes
from jobs.raw.log import (
    COUNT,
    QUARANTINED,
    ROWS,
    USABLE,
    Partitions,
    is_undated,
    partition_of_key,
    rows_to_join,
    table_blocks,
)
from jobs.raw.row_work import DS, row_schema
from jobs.spark.blocks import Block, rows_by_kind
from jobs.spark.buckets import BucketWriter, StoredFile, files_of_bucket
from jobs.spark.partitions import DAYS_PER_WRITE
from lakehouse.arrow_types import in_schema, rows_where
from lakehouse.storage.data_files import read_file
from lakehouse.storage.delta_table import FilesByValue
from lakehouse.storage.store_path import located
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.tables import EXPOSURES, QUARANTINE
from schemas.tables.exposures import exposures, matches
from schemas.tables.quarantine import QUARANTINE_TABLE

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class JoinedRows:
    """Joins the outcomes of one match of the contract with their exposures, and sends the rows on.

    published: the files of published exposures that are joined as well, by day, of the table in `folder`.
    """

    dataset: Dataset
    match: int
    partitions: Partitions
    folder: str
    published: FilesByValue

    def __call__(self, partition: int, pairs: Iterable[tuple[int, Block]]) -> Iterator[tuple[int, Block]]:
        if partition == self.partitions.number:  # that of the fingerprints
            return
        schema = row_schema(self.dataset)
        if self.match:
            schema = schema.append(pa.field(JOINED, pa.string()))
        rows = rows_by_kind((block for _, block in pairs), {ROWS: schema})[ROWS]
        rows = join_outcomes(
            pa.concat_tables([rows, *self._published_rows(partition, schema)]), self.dataset, self.match
        )
        if self.match + 1 < len(matches(self.dataset)):
            yield from rows_to_join(rows, self.dataset, self.match + 1, self.partitions)
            return
        yield from table_blocks(rows, self.dataset, self.partitions)
        fates = rows.filter(pc.is_valid(rows.column(JOINED))).select([JOINED, DS]).to_pylist()
        yield 0, Block(COUNT, Counter((row[JOINED], row[DS]) for row in fates))

    def _published_rows(self, partition: int, schema: pa.Schema) -> Iterator[pa.Table]:
        for day, files in self.published.items():
            for file in files:
                rows = read_file(located(self.folder), file).append_column(DS, pa.repeat(day, file.rows))
                rows = in_schema(rows, schema)
                yield rows.filter(
                    pa.array(partition_of_key(rows, self.dataset, self.match, self.partitions) == partition)
                )


@dataclass(frozen=True)
class BucketTables:
    """Stores a bucket's files of these days. The partitions of a bucket have different days of it.

    span: of the log; quarantined rows outside it are UNDATED. published: files of both tables by day, of days that had
    rows in removed files. Duplicates of these exposures are recognised as if the files still existed. removed: the
    names of those files; of the published quarantine, their rows are kept. headers: of the raw files, by name.
    """

    dataset: Dataset
    folders: Mapping[str, str]
    days: Sequence[str]
    span: tuple[str, str]
    published: Mapping[str, FilesByValue]
    removed: Sequence[str]
    headers: Mapping[str, bytes]
    partitions: Partitions

    def __call__(
        self, partition: int, pairs: Iterable[tuple[int, Block]]
    ) -> Iterator["StoredFile | Counter[tuple[str, str]]"]:
        """The stored files, and the numbers of rows by kind and day."""
        if partition == self.partitions.number:  # that of the fingerprints
            return
        blocks = [block for _, block in pairs]
        yield from (content for kind, content in blocks if kind == COUNT)
        tables = rows_by_kind(blocks, {USABLE: exposures_schema(self.dataset), QUARANTINED: quarantine_schema()})
        del blocks
        yield from self._stored(exposures(self.dataset), self._exposures(tables.pop(USABLE), partition), partition)
        if partition < self.partitions.buckets:
            yield from self._stored(QUARANTINE_TABLE, self._quarantine(tables[QUARANTINED], partition), partition)

    def _exposures(self, usable: pa.Table, partition: int) -> pa.Table:
        dated = pa.array([day for day in self.days if day != UNDATED], pa.string())
        published = pa.concat_tables([usable.schema.empty_table(), *self._published_rows(EXPOSURES, partition)])
        # A bucket's days may be shared by several tasks.
        published = published.filter(pa.array(self.partitions.numbers(published) == partition))
        rows = pa.concat_tables([rows_where(usable, pc.is_in(usable.column(DS), value_set=dated)), published])
        return without_duplicates(rows, self.dataset)

    def _quarantine(self, rows: pa.Table, partition: int) -> pa.Table:
        day = pc.if_else(is_undated(rows.column(DS), self.span), UNDATED, rows.column(DS))
        rows = rows.set_column(rows.schema.get_field_index(DS), DS, day)
        rows = rows.filter(pc.is_in(day, value_set=pa.array(self.days, pa.string())))
        removed = pa.array(self.removed, pa.string())
        published = (
            table.filter(pc.is_in(table.column("source_file"), value_set=removed))
            for table in self._published_rows(QUARANTINE, partition)
        )
        return with_headers(pa.concat_tables([rows, *published]), self.headers)

    def _published_rows(self, table: str, partition: int) -> Iterator[pa.Table]:
        """The published rows of the bucket."""
        schema = exposures_schema(self.dataset) if table == EXPOSURES else quarantine_schema()
        for day, file in files_of_bucket(self.published[table], partition % self.partitions.buckets).items():
            rows = read_file(located(self.folders[table]), file)
            yield in_schema(rows.append_column(DS, pa.repeat(day, len(rows))), schema)

    def _stored(self, table: Table, rows: pa.Table, partition: int) -> list[StoredFile]:
        """Store the rows, which are in the order of their days, in a file for each day."""
        stored = []
        days = pc.unique(rows.column(DS)).to_pylist()
        for start in range(0, len(days), DAYS_PER_WRITE):
            chunk = days[start : start + DAYS_PER_WRITE]
            with BucketWriter(table, self.folders[table.name], partition % self.partitions.buckets) as writer:
                part = rows_where(rows, pc.is_in(rows.column(DS), value_set=pa.array(chunk, pa.string())))
                for start in range(0, len(part), _ROWS_AT_ONCE):
                    writer.add(part.slice(start, _ROWS_AT_ONCE))
            stored += writer.stored
        return stored
