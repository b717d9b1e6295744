"""Reads windows: the rows of `sequences`, each with the values of its steps, in the layout of schemas/steps.py.

Shapes: W windows, L = n positions, M steps.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.channel_counts import dense_counts, dense_lists
from features.columns import NO_ROW, fixed_length_lists, row_indices
from lakehouse.arrow_types import arrow_type
from lakehouse.lake import DS, Lake, Partition
from lakehouse.storage.data_files import part_of, read_file
from mtorl_model.data.parts import parts_with_rows
from mtorl_model.data.windows.journey_rows import JourneyRows, StepReader
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.splits import TRAIN
from schemas.steps import counted_by_channel, window_columns
from schemas.tables import EXPOSURES, SEQUENCES, STEPS
from schemas.tables.sequences import sequences

WINDOWS_PER_READ = 4096

Ints = npt.NDArray[np.int64]


class WindowPart(NamedTuple):
    """Rows of `sequences` of some days, of the users of one part of every day's files. part: as in part_of."""

    part: str
    windows: pa.Table


def window_parts(
    lake: Lake, dataset: Dataset, days: Sequence[str], split: str | None = None, parts: Container[str] | None = None
) -> Iterator[WindowPart]:
    """The windows of these days, of a split or of all users, one part of the users after another; never an empty one.

    parts: only these; None: all. In a part the windows are in the order of the days. Raises UserError for a day that is
    not published, or whose audit failed.
    """
    for day in days:
        lake[SEQUENCES, dataset, day].require()
    folder, files = lake.table(SEQUENCES, dataset), lake.present(SEQUENCES, dataset, days)
    for part in sorted({part_of(file) for named in files.values() for file in named}):
        if parts is not None and part not in parts:
            continue
        tables = [
            rows.append_column(DS, pa.repeat(day, len(rows)))
            for day in days
            for rows in [read_file(folder, file) for file in files[day] if part_of(file) == part]
        ]
        windows = pa.concat_tables(tables)
        if split is not None:
            windows = windows.filter(pc.equal(windows.column("split"), split))
        if len(windows):
            yield WindowPart(part, windows)


def partitions_read(lake: Lake, dataset: Dataset, days: Sequence[str]) -> list[Partition]:
    """The partitions that the windows of these days are read from."""
    return [lake[table, dataset, day] for table in (SEQUENCES, STEPS, EXPOSURES) for day in days]


def read_windows(
    lake: Lake, dataset: Dataset, days: Sequence[str], columns: Iterable[str], channels: Sequence[str],
    split: str | None = None, parts: Container[str] | None = None,
) -> Iterator[pa.Table]:  # fmt: skip
    """The windows of these days as padded lists, at most WINDOWS_PER_READ at a time; see window_parts.

    columns: of schemas.steps.window_columns. channels: of the feature spec, for the counts by channel.
    """
    yield from pad_parts(lake, dataset, days, window_parts(lake, dataset, days, split, parts), columns, channels)


def draw_windows(
    lake: Lake, dataset: Dataset, quotas: Mapping[str, int], columns: Iterable[str], channels: Sequence[str],
    rng: np.random.Generator,
) -> pa.Table:  # fmt: skip
    """Random windows of training users as padded lists. quotas: by day, how many to draw, if the day has as many.

    They are drawn from as few parts of each day as have enough of them (enough_parts). A part has a random share of the
    users, so the steps of the other parts, most of a large day, need not be read.
    """
    days = sorted(quotas)
    if not days:
        return no_windows(dataset, columns)
    parts = enough_parts(list(window_parts(lake, dataset, days, TRAIN)), quotas, rng)
    day_W = np.concatenate([np.zeros(0, object), *(part.windows.column(DS).to_numpy() for part in parts)])
    is_drawn_W = np.zeros(len(day_W), dtype=bool)
    for day in days:
        rows = np.flatnonzero(day_W == day)
        is_drawn_W[rng.choice(rows, min(quotas[day], len(rows)), replace=False)] = True
    drawn, start = [], 0
    for part, windows in parts:
        chosen = windows.filter(pa.array(is_drawn_W[start : start + len(windows)]))
        start += len(windows)
        if len(chosen):
            drawn.append(WindowPart(part, chosen))
    return pa.concat_tables([no_windows(dataset, columns), *pad_parts(lake, dataset, days, drawn, columns, channels)])


def enough_parts(parts: Sequence[WindowPart], quotas: Mapping[str, int], rng: np.random.Generator) -> list[WindowPart]:
    """For each day its windows in as few parts as have its quota (parts_with_rows); every day has other parts."""
    chosen: dict[str, set[str]] = {part: set() for part, _ in parts}
    counted = [pc.value_counts(windows.column(DS)).to_pylist() for _, windows in parts]
    counts = [{row["values"]: row["counts"] for row in rows} for rows in counted]
    for day, quota in sorted(quotas.items()):
        windows_of = {part: count.get(day, 0) for (part, _), count in zip(parts, counts, strict=True)}
        for part in parts_with_rows(windows_of, quota, rng):
            chosen[part].add(day)
    needed_parts = []
    for part, windows in parts:
        if chosen[part]:
            is_chosen = pc.is_in(windows.column(DS), value_set=pa.array(sorted(chosen[part]), pa.string()))
            needed_parts.append(WindowPart(part, windows.filter(is_chosen)))
    return needed_parts


def no_windows(dataset: Dataset, columns: Iterable[str]) -> pa.Table:
    """Padded windows of these columns, none of them."""
    types = {column.name: arrow_type(column.dtype) for column in window_columns(dataset)}
    return pa.schema([(name, types[name]) for name in dict.fromkeys(columns)]).empty_table()


def pad_parts(
    lake: Lake, dataset: Dataset, days: Sequence[str], parts: Iterable[WindowPart], columns: Iterable[str],
    channels: Sequence[str],
) -> Iterator[pa.Table]:  # fmt: skip
    """The windows of these parts as padded lists; see read_windows."""
    names = list(dict.fromkeys(columns))
    reader = StepReader.up_to(lake, dataset, max(days))
    runs = list(reader.runs_of_days(days))
    for part, all_windows in parts:
        for run in runs:
            windows = all_windows.filter(pc.is_in(all_windows.column(DS), value_set=pa.array(run)))
            if not len(windows):
                continue
            journeys = reader.read(windows, run, part, step_columns(dataset, names))
            first_row_W = journeys.first_rows(windows)
            for start in range(0, len(windows), WINDOWS_PER_READ):
                chunk, rows = windows.slice(start, WINDOWS_PER_READ), first_row_W[start : start + WINDOWS_PER_READ]
                yield padded(chunk, journeys, rows, dataset, names, channels)


def step_columns(dataset: Dataset, names: Iterable[str]) -> list[str]:
    """The columns of `exposures` and `steps` that these columns of padded windows are made from."""
    window_names = {"valid", "is_label", *sequences(dataset).column_names}
    by_channel = {f"{prefix}_{name}_by_channel": f"{prefix}_by_channel" for prefix, name in _counted(dataset)}
    return list(dict.fromkeys(by_channel.get(name, name) for name in names if name not in window_names))


def _counted(dataset: Dataset) -> list[tuple[str, str]]:
    return [(prefix, name) for prefix, counted in counted_by_channel(dataset).items() for name in counted]


def padded(
    windows: pa.Table, journeys: JourneyRows, first_row_W: Ints, dataset: Dataset, names: Sequence[str],
    channels: Sequence[str],
) -> pa.Table:  # fmt: skip
    """The named columns of windows of one length. first_row_W: the row of each window's first step in the journeys."""
    length = window_length(windows)
    padding_W, first_step_W, first_label_W = (
        windows.column(name).to_numpy().astype(np.int64) for name in ("padding", "first_step", "first_label")
    )
    place_WL = np.arange(length) - padding_W[:, None]  # among the window's steps
    valid_WL = place_WL >= 0
    is_label_WL = place_WL >= (first_label_W - first_step_W)[:, None]
    row_WL = np.where(valid_WL, first_row_W[:, None] + place_WL, NO_ROW)
    return padded_lists(windows, journeys.rows, row_WL, is_label_WL, dataset, names, channels)


def window_length(windows: pa.Table) -> int:
    """n of the windows. Raises UserError if they have several."""
    lengths = windows.column("length").unique().to_pylist()
    if len(lengths) != 1:
        raise UserError(f"windows of {sorted(lengths)} steps in one table: the model reads one length")
    return int(lengths[0])


def padded_lists(
    windows: pa.Table, steps_M: pa.Table, row_WL: Ints, is_label_WL: npt.NDArray[np.bool_], dataset: Dataset,
    names: Sequence[str], channels: Sequence[str],
) -> pa.Table:  # fmt: skip
    """The named columns of windows. row_WL: the step of each position, a row of steps_M; NO_ROW at padding."""
    length, valid_WL = row_WL.shape[1], row_WL != NO_ROW
    # Each step once: it is in several windows, and counts by channel take longest.
    used_rows, used_V = np.unique(row_WL[valid_WL], return_inverse=True)
    used_steps = steps_M.take(pa.array(used_rows))
    used_WL = np.full(row_WL.shape, NO_ROW)
    used_WL[valid_WL] = used_V
    rows, valid = row_indices(used_WL.ravel()), valid_WL.ravel()
    counts = _counts_by_channel(used_steps, dataset, channels)

    def values_of(name: str) -> pa.Array:
        if name == "valid":
            return pa.array(valid)
        if name == "is_label":
            return pa.array(is_label_WL.ravel())
        if name in counts:
            return dense_lists(counts[name][used_V], valid)
        return used_steps.column(name).combine_chunks().take(rows)

    return pa.table(
        {
            name: windows.column(name) if name in windows.column_names else fixed_length_lists(values_of(name), length)
            for name in names
        }
    )


def _counts_by_channel(
    steps_M: pa.Table, dataset: Dataset, channels: Sequence[str]
) -> dict[str, npt.NDArray[np.int32]]:
    """[M, A]: the counts by channel, by the name of their column in a padded window."""
    counts = {}
    for prefix, counted in counted_by_channel(dataset).items():
        if f"{prefix}_by_channel" in steps_M.column_names:
            lists = steps_M.column(f"{prefix}_by_channel").combine_chunks()
            for name, counts_MA in zip(counted, dense_counts(lists, counted, channels), strict=True):
                counts[f"{prefix}_{name}_by_channel"] = counts_MA
    return counts
