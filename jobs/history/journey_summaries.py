"""Journeys as summaries: what the arithmetic of later steps (features.point_in_time) needs of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from features.user_chunk import RUNNING_TOTALS, SUMMARY
from lakehouse.arrow_types import arrow_type, in_schema
from lakehouse.storage.data_files import open_parquet
from schemas.dataset import Dataset
from schemas.steps import profile_inputs
from schemas.tables.journeys import journeys

JOURNEYS_PER_READ = 1024  # a journey takes about 10,000 bytes
LATEST_MS = "exposed_at_ms"  # in a summary: of the latest step


def summary_schema(dataset: Dataset, *, memory: bool) -> pa.Schema:
    """user_id, the profile and SUMMARY. memory: whether the remembered steps are in the summary, for later journeys."""
    table = journeys(dataset)

    def typed(name: str) -> tuple[str, pa.DataType]:
        return name, arrow_type(table.column(name).dtype)

    names = ("next_step", *RUNNING_TOTALS, *(["memory"] if memory else []))
    summary = pa.struct([*map(typed, names), (LATEST_MS, pa.int64())])
    return pa.schema([*map(typed, ("user_id", *(c.name for c in profile_inputs(dataset)))), (SUMMARY, summary)])


def columns_of_summaries(schema: pa.Schema) -> list[str]:
    """The columns of `journeys` that summaries are made of, as Parquet names them."""
    fields = [field.name for field in schema.field(SUMMARY).type]
    steps = [] if "memory" in fields else [f"memory.list.element.{LATEST_MS}"]
    return [*schema.names[:-1], *fields[:-1], *steps]


def to_summaries(journeys: pa.Table, schema: pa.Schema) -> pa.Table:
    """A summary of each journey. journeys: columns_of_summaries. schema: from summary_schema."""
    memory = journeys.column("memory").combine_chunks()
    last_step = memory.offsets.to_numpy()[1:] - 1  # a journey has at least one step
    latest_ms = memory.values.field(LATEST_MS).take(pa.array(last_step))
    fields = [field for field in schema.field(SUMMARY).type if field.name != LATEST_MS]
    totals = in_schema(journeys, pa.schema(fields))
    values = [*(column.combine_chunks() for column in totals.columns), latest_ms]
    summary = pa.StructArray.from_arrays(values, [*totals.column_names, LATEST_MS])
    return in_schema(journeys, schema.remove(len(schema) - 1)).append_column(schema.field(SUMMARY), summary)


@dataclass
class EarlierJourneys:
    """The journeys of a bucket, by user: the id of each, and the summaries, which are read a few at a time."""

    user_id: pa.ChunkedArray
    summaries: Iterator[pa.Table]
    _buffered: pa.Table

    def next_summaries(self, journeys: int) -> pa.Table:
        """The summaries of the next users, as many as this."""
        while len(self._buffered) < journeys:
            self._buffered = pa.concat_tables([self._buffered, next(self.summaries)])
        taken, self._buffered = self._buffered.slice(0, journeys), self._buffered.slice(journeys)
        return taken


@contextmanager
def earlier_journeys(files: Sequence[Path], dataset: Dataset) -> Iterator[EarlierJourneys]:
    """The journeys of a bucket. files: the file of the bucket, none without earlier history."""
    schema = summary_schema(dataset, memory=True)
    if not files:
        empty = schema.empty_table()
        yield EarlierJourneys(empty.column("user_id"), iter(()), empty)
        return
    (path,) = files
    with open_parquet(path) as file:
        batches = file.iter_batches(JOURNEYS_PER_READ, columns=columns_of_summaries(schema))
        summaries = (to_summaries(pa.Table.from_batches([batch]), schema) for batch in batches)
        yield EarlierJourneys(file.read(["user_id"]).column("user_id"), summaries, schema.empty_table())
