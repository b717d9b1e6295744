"""Journeys as summaries: what the arithmetic of later steps (features.point_in_time) needs of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Mask, to_ints
from features.user_chunk import RUNNING_TOTALS, SUMMARY
from lakehouse.arrow_types import arrow_type, in_schema
from lakehouse.journeys import NewestRows
from lakehouse.reading import ROWS_PER_READ
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
    """Journeys of a bucket, by user: the id of each, and the summaries, which are read a few at a time."""

    user_id: pa.ChunkedArray
    summaries: Iterator[pa.Table]
    _buffered: pa.Table

    def next_summaries(self, journeys: int) -> pa.Table:
        """The summaries of the next users, as many as this."""
        while len(self._buffered) < journeys:
            self._buffered = pa.concat_tables([self._buffered, next(self.summaries)])
        summaries, self._buffered = self._buffered.slice(0, journeys), self._buffered.slice(journeys)
        return summaries


def earlier_journeys(
    files: Sequence[Path], dataset: Dataset, exposures: pa.Table, changed_before_ms: int | None
) -> EarlierJourneys:
    """The journeys of a bucket. files: see lakehouse.journeys.NewestRows; none without earlier history.

    changed_before_ms: to leave out all users who have neither an exposure nor a pending gain that is known before it.
    """
    schema = summary_schema(dataset, memory=True)
    if not files:
        empty = schema.empty_table()
        return EarlierJourneys(empty.column("user_id"), iter(()), empty)
    newest = NewestRows(files)
    is_read_U = np.ones(len(newest.user_id), bool)
    if changed_before_ms is not None:
        has_exposure_U = pc.is_in(newest.user_id, value_set=exposures.column("user_id"))
        is_read_U = has_exposure_U.to_numpy() | _has_pending_gain(newest, changed_before_ms)
    tables = newest.tables(columns_of_summaries(schema), JOURNEYS_PER_READ, is_read_U)
    summaries = (to_summaries(rows, schema) for rows in tables)
    return EarlierJourneys(newest.user_id.filter(pa.array(is_read_U)), summaries, schema.empty_table())


def _has_pending_gain(newest: NewestRows, known_before_ms: int) -> Mask:
    """[U]: whether a pending gain of the user is known before this time."""
    known_U = []
    for rows in newest.tables(["pending.list.element.known_at_ms"], ROWS_PER_READ):
        pending = rows.column("pending").combine_chunks()
        is_known = to_ints(pc.struct_field(pc.list_flatten(pending), "known_at_ms")) < known_before_ms
        known = np.zeros(len(rows), bool)
        known[to_ints(pc.list_parent_indices(pending))[is_known]] = True
        known_U.append(known)
    return np.concatenate([np.zeros(0, bool), *known_U])
