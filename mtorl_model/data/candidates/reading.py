"""Reads the candidate rows of days of the lake into a CandidateStore."""

from collections.abc import Container, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.candidate_inputs import (
    candidate_inputs,
    category_names,
    number_names,
    objective_column,
    task_names,
    with_gains_known_by,
)
from features.user_splits import split_indices
from lakehouse.lake import Lake, Partition
from lakehouse.reading import consistent_read
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.delayed_feedback import LabelCutoff, maturity_of
from schemas.dataset import Dataset
from schemas.days import day_before
from schemas.errors import UserError
from schemas.splits import SPLITS, TRAIN
from schemas.tables import EXPOSURES, ITEM_HISTORY, STEPS

_SPLIT = "split"


def read_candidates(
    lake: Lake,
    dataset: Dataset,
    days: Sequence[str],
    encoder: CandidateEncoder | None = None,
    cutoff: LabelCutoff | None = None,
    split: str | None = None,
    parts: Container[str] | None = None,
) -> tuple[CandidateStore, CandidateEncoder]:
    """The exposures of these days as candidates, and the encoder.

    encoder: None fits one on the training users of these days. cutoff: late gains count only if they were known
    at this moment; None: all. split: the users of this split only; None: all users. parts: the users in these parts of
    the files only; None: all. Raises UserError for an encoder of another dataset, and what read_candidate_rows raises.
    """
    if encoder is not None and encoder.dataset != dataset.name:
        raise UserError(f"the encoder is for {encoder.dataset}, not for {dataset.name}: train the model again")
    rows = read_candidate_rows(lake, dataset, days, cutoff, split, parts)
    if encoder is None:
        encoder = CandidateEncoder.fit(rows.filter(pc.equal(rows.column(_SPLIT), SPLITS.index(TRAIN))), dataset)
    return store_of(rows, encoder, dataset, cutoff), encoder


def read_candidate_rows(
    lake: Lake, dataset: Dataset, days: Sequence[str], cutoff: LabelCutoff | None = None, split: str | None = None,
    parts: Container[str] | None = None,
) -> pa.Table:  # fmt: skip
    """The candidate rows of these days (features/candidate_inputs.py), with the column `split`, an index in SPLITS.

    All rows are in memory. Raises UserError for a day that is not published or whose audit failed, and for steps that
    do not match the exposures; Busy if one of the days is published again in the meantime.
    """
    partitions = [partition for day in days for partition in partitions_of(lake, dataset, day)]
    for partition in partitions:
        partition.require()
    with consistent_read(partitions):
        tables = [table for day in days for table in _day_rows(lake, dataset, day, cutoff, split, parts)]
    return pa.concat_tables(tables)


def store_of(
    rows: pa.Table, encoder: CandidateEncoder, dataset: Dataset, cutoff: LabelCutoff | None = None
) -> CandidateStore:
    """Candidate rows with the column `split` (an index in SPLITS) as a store, sorted by user and time.

    cutoff: the one by which the labels of the rows were read.
    """
    rows = rows.sort_by([(name, "ascending") for name in ("user_id", "exposed_at_ms", "exposure_id")])
    numeric_NF = encoder.numeric_NF(rows)
    missing_NF = np.isnan(numeric_NF)
    tasks, objectives = task_names(dataset), tuple(objective.name for objective in dataset.objectives)
    user_N, exposed_at_ms_N = _run_numbers(rows.column("user_id")), rows.column("exposed_at_ms").to_numpy()
    return CandidateStore(
        user_N=user_N,
        session_N=_run_numbers(rows.column("session_id")),
        position_N=rows.column("position").to_numpy(),
        exposure_id_N=rows.column("exposure_id").to_numpy(),
        exposed_at_ms_N=exposed_at_ms_N,
        categorical_NK=encoder.categorical_NK(rows),
        numeric_NF=np.nan_to_num(numeric_NF),
        missing_NF=missing_NF,
        labels_NT=_columns(rows, tasks),
        maturity_NT=maturity_of(exposed_at_ms_N, dataset.tasks.values(), cutoff),
        objectives_NI=_columns(rows, [objective_column(name) for name in objectives]),
        objective_maturity_NI=maturity_of(exposed_at_ms_N, (o.columns for o in dataset.objectives), cutoff),
        split_N=rows.column(_SPLIT).to_numpy(),
        categorical_names=category_names(dataset),
        cardinalities=encoder.cardinalities,
        numeric_names=number_names(dataset),
        task_names=tasks,
        objective_names=objectives,
    )


def _columns(rows: pa.Table, names: Sequence[str]) -> np.ndarray:
    columns_NC = np.empty((len(rows), len(names)), np.float32)
    for column, name in enumerate(names):
        columns_NC[:, column] = rows.column(name).to_numpy()
    return columns_NC


def partitions_of(lake: Lake, dataset: Dataset, day: str) -> tuple[Partition, ...]:
    """The partitions of a day's rows: exposures, steps, and, except on the first day, last evening's item history."""
    is_first = day == min(lake.days(EXPOSURES, dataset), default=day)
    history = () if is_first else (lake[ITEM_HISTORY, dataset, day_before(day)],)
    return lake[EXPOSURES, dataset, day], lake[STEPS, dataset, day], *history


def _day_rows(
    lake: Lake, dataset: Dataset, day: str, cutoff: LabelCutoff | None, split: str | None, parts: Container[str] | None
) -> Iterator[pa.Table]:
    """The candidate rows of a day with the users' split, a table for each file."""
    exposures, steps, *history = partitions_of(lake, dataset, day)
    items = history[0].read() if history else None
    files = zip(exposures.read_by_file(parts=parts), steps.read_by_file(parts=parts), strict=True)
    for exposure_rows, step_rows in files:
        splits = split_indices(exposure_rows.column("user_id"))
        if split is not None:
            is_chosen = pc.equal(splits, SPLITS.index(split))
            # Rows that do not match are not filtered, so that candidate_inputs refuses them.
            if len(step_rows) == len(exposure_rows):
                exposure_rows, step_rows = exposure_rows.filter(is_chosen), step_rows.filter(is_chosen)
                splits = splits.filter(is_chosen)
        if cutoff is not None:
            exposure_rows = with_gains_known_by(exposure_rows, dataset, cutoff.at_ms)
        try:
            yield candidate_inputs(exposure_rows, step_rows, items, dataset).append_column(_SPLIT, splits)
        except ValueError as error:
            raise UserError(f"{steps.path}: {error}; build the day's steps again (make backfill)") from error


def _run_numbers(values: pa.ChunkedArray) -> np.ndarray:
    """[N]: a number for each run of equal values, from 0."""
    flat = values.combine_chunks()
    changes = np.asarray(pc.not_equal(flat[1:], flat[:-1])) if len(flat) > 1 else np.zeros(0, bool)
    return np.concatenate([np.zeros(min(len(flat), 1), np.int64), np.cumsum(changes)])
