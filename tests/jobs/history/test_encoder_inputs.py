"""From a log to the encoder: what is not known yet at a step does not reach what the model reads of it."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from bucket_lake import BucketLake
from random_exposures import day, random_exposures
from test_steps import DATASETS, DAYS, NOT_STRICTLY
from unknown_shuffled import with_the_unknown_shuffled

from features import visibility
from jobs.history.feature_selection import fit_spec
from jobs.history.training_steps import read_training_steps
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows.reading import read_windows
from schemas.dataset import Dataset, get_dataset

STEPS = 8
INPUTS = ("categorical_NLK", "numeric_NLF", "action_in_NLA", "reward_in_NLR")
PROFILE = ("profile_categorical_NK", "profile_numeric_NF")


def encoded_logs(folder: Path, dataset: Dataset, seed: int) -> tuple[Encoded, Encoded, np.ndarray]:
    """Windows of a log and of the same log with the unknown shuffled; [N, L]: steps at or before the user's cut."""
    frame = random_exposures(dataset, users=25, rows=400, days=DAYS, seed=seed)
    rng = np.random.default_rng(seed)
    cuts = {u: int(rng.choice(times)) for u, times in frame.groupby("user_id").exposed_at_ms}
    spec, encoded = None, []
    for k, log in enumerate((frame, with_the_unknown_shuffled(frame, dataset, cuts, seed))):
        lake = BucketLake(folder / str(k), dataset, log)
        lake.publish(lake.build(lake.days, window_steps=STEPS, side=visibility.STRICTLY_BEFORE), lake.days)
        if spec is None:
            names = dataset.channels or tuple(sorted(log.channel.dropna().unique()))
            read = partial(read_training_steps, lake.lake, dataset, lake.days)
            spec = fit_spec(read, dataset, names, day(0), day(DAYS - 1), 0.5)
        encoder = Encoder(spec, dataset)
        columns = ("user_id", "exposed_at_ms", *encoder.columns)
        table = pa.concat_tables(read_windows(lake.lake, dataset, lake.days, columns, spec.channels))
        encoded.append(encoder.encode(table))
    users = table.column("user_id").to_numpy()
    at_ms = np.array([[-1 if t is None else t for t in times] for times in table.column("exposed_at_ms").to_pylist()])
    cut_N1 = np.array([cuts[u] for u in users])[:, None]
    assert ((at_ms == cut_N1).sum(), ((at_ms > 0) & (at_ms < cut_N1)).sum()) > (25, 150)
    return *encoded, encoded[0].valid_NL & (at_ms <= cut_N1)


def changed(original: Encoded, shuffled: Encoded, seen_NL: np.ndarray) -> set[str]:
    """The model's inputs that differ at a step of seen_NL."""
    names = [n for n in INPUTS if not np.array_equal(getattr(original, n)[seen_NL], getattr(shuffled, n)[seen_NL])]
    return {*names, *(n for n in PROFILE if not np.array_equal(getattr(original, n), getattr(shuffled, n)))}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_what_the_model_reads_does_not_change_when_the_unknown_is_shuffled(tmp_path, name):
    original, shuffled, seen_NL = encoded_logs(tmp_path, get_dataset(name), 1)
    assert changed(original, shuffled, seen_NL) == set()
    assert not np.array_equal(original.gains_NLG[seen_NL], shuffled.gains_NLG[seen_NL])  # the labels did change


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_equal_time_stamps_would_reach_the_model_if_they_counted_as_known(tmp_path, name, monkeypatch):
    monkeypatch.setattr(visibility, "STRICTLY_BEFORE", NOT_STRICTLY)
    assert set(INPUTS) <= changed(*encoded_logs(tmp_path, get_dataset(name), 1))
