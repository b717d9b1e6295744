"""The input of a full training, by the kind that the method reads (Method.reads)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.reading import read_candidates
from mtorl_model.data.delayed_feedback import FeedbackConfig, cutoff_at_end_of
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import InitialPolicy, fit_initial_policy, policy_of_counts
from mtorl_model.data.windows.store import open_windows
from mtorl_model.methods.method import CANDIDATES, WINDOWS, MethodConfig
from mtorl_model.training import data_parallel
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.splits import TRAIN, VALIDATION
from schemas.tables import EXPOSURES, ITEM_HISTORY, SEQUENCES, STEPS
from schemas.tables.feature_spec import FeatureSpec


class TrainingInputs(NamedTuple):
    """train, valid: stores, as Method.fit reads them. keys: texts that are equal if and only if the stores are.

    encoding: see Method.encoding. trained_on: fingerprints of the partitions, by path in the lake.
    """

    train: Any
    valid: Any
    keys: tuple[str, str]
    initial_policy: InitialPolicy
    encoding: str
    trained_on: dict[str, str]


def open_training(
    kind: str,
    lake: Lake,
    dataset: Dataset,
    config: MethodConfig,
    spec: FeatureSpec,
    first_day: str,
    last_day: str,
    labels_known_by: str | None,
) -> TrainingInputs:
    """The input of the published days from first to last. kind: Method.reads.

    labels_known_by: the labels as known at the end of this day; None: the full outcome. Raises UserError without rows
    to train or to validate on; Busy if another run publishes one of the days at the same time.
    """
    return _OPENERS[kind](lake, dataset, config, spec, first_day, last_day, labels_known_by)


def _open_windows(
    lake: Lake, dataset: Dataset, config: MethodConfig, spec: FeatureSpec, first: str, last: str, known_by: str | None
) -> TrainingInputs:
    encoder = Encoder(spec, dataset, config.reward_inputs)
    days = [d for d in lake.days(SEQUENCES, dataset) if first <= d <= last]
    trained_on = {
        key: fingerprint
        for table in (SEQUENCES, STEPS, EXPOSURES)
        for key, fingerprint in lake.fingerprints(table, dataset, days).items()
    }
    cutoff = cutoff_at_end_of(known_by, lake, dataset, days, FeedbackConfig()) if known_by else None
    train, valid = data_parallel.first_alone(
        lambda: [open_windows(lake, encoder, first, last, split, cutoff) for split in (TRAIN, VALIDATION)]
    )
    policy = fit_initial_policy(train, spec)
    return TrainingInputs(train, valid, (train.key, valid.key), policy, "", trained_on)


def _open_candidates(
    lake: Lake, dataset: Dataset, config: MethodConfig, spec: FeatureSpec, first: str, last: str, known_by: str | None
) -> TrainingInputs:
    days = [d for d in lake.days(STEPS, dataset) if first <= d <= last]
    if not days:
        raise UserError(
            f"no steps for {dataset.name} from {first} to {last} in {lake.root}: run these days first (make run)"
        )
    trained_on = {
        path: fingerprint
        for table in (STEPS, EXPOSURES, ITEM_HISTORY)
        for path, fingerprint in lake.fingerprints(table, dataset, days).items()
    }
    cutoff = cutoff_at_end_of(known_by, lake, dataset, days, FeedbackConfig()) if known_by else None
    store, encoder = read_candidates(lake, dataset, days, cutoff=cutoff)
    if len(store.task_names) != len(dataset.gain_names):
        raise UserError(
            f"{dataset.name} has {len(dataset.gain_names)} gains, but its contract names {len(store.task_names)} task: "
            "name the second one as its implied_label"
        )
    train, valid = (store.split_rows(split) for split in (TRAIN, VALIDATION))
    if not len(valid):
        raise UserError(f"no exposure of a validation user of {dataset.name} from {first} to {last}: add days")
    key = f"{sorted(trained_on.items())} {cutoff.key if cutoff else None}"
    policy = candidate_policy(lake, dataset, days, train, spec)
    return TrainingInputs(train, valid, (f"train {key}", f"valid {key}"), policy, encoder.to_json(), trained_on)


_OPENERS: Mapping[str, Callable[..., TrainingInputs]] = {WINDOWS: _open_windows, CANDIDATES: _open_candidates}


def candidate_policy(
    lake: Lake, dataset: Dataset, days: list[str], train: CandidateStore, spec: FeatureSpec
) -> InitialPolicy:
    """The initial policy of the training exposures; the rate of a gain is that of its task."""
    names, width = ["exposure_id", "channel", spec.gains[0]], len(spec.channels)
    exposures_A, gained_A = np.zeros(width), np.zeros(width)
    training_ids, channels = pa.array(np.sort(train.exposure_id_N)), pa.array(spec.channels, pa.string())
    for table in read_tables([lake[EXPOSURES, dataset, day] for day in days], names):
        rows = table.filter(pc.is_in(table.column("exposure_id"), value_set=training_ids))
        index_N = pc.fill_null(pc.index_in(rows.column("channel"), value_set=channels), -1).to_numpy()
        gained_N = rows.column(spec.gains[0]).to_numpy()[index_N >= 0]
        exposures_A += np.bincount(index_N[index_N >= 0], minlength=width)
        gained_A += np.bincount(index_N[index_N >= 0], weights=gained_N, minlength=width)
    return policy_of_counts(exposures_A, gained_A, train.labels_NT.mean(axis=0), spec)
