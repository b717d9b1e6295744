"""A user's prediction has the same bits whichever other users are scored, on any number of threads, cached or not."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import unpublish
from synthetic_journeys import CHANNELS, SPEC, Shown, journeys, publish_journeys, toy_dataset

from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.scratch import scratch_folder
from mtorl_model import score
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import Encoder, InputNames, input_names
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.windows.next_steps import journeys_to_windows
from mtorl_model.inference import prediction_cache, user_predictions
from mtorl_model.inference.channel_level import ChannelCounts, count_remembered, reliable_steps
from mtorl_model.inference.prediction_cache import (
    CACHE,
    CachedPredictions,
    PredictionFile,
    cached_predictions,
    identity,
    record_type,
    replace_cache,
)
from mtorl_model.inference.user_predictions import predict_users
from mtorl_model.methods.common.channel_value import ChannelValues, ValueConfig, channel_columns
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

pytestmark = pytest.mark.lake

TOY = toy_dataset()
DAY = "2024-01-02"
TAU = 0.5
USERS = 150


def small(seed: int = 0, spec: FeatureSpec = SPEC) -> MTORL:
    """Untrained networks of the size in use, on which the rounding of matrix products depends, and trees of noise."""
    initial = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))
    model = MTORL(preset("small", "toy").changed({"seed": seed}), spec, initial).initialise()
    model.trees, model.values = fitted_on_noise(input_names(spec, model.config.reward_inputs))
    return model


@cache
def fitted_on_noise(names: InputNames) -> tuple[LabelTrees, ChannelValues]:
    rng = np.random.default_rng(0)
    width = sum(map(len, names)) + len(CHANNELS)
    labels = LabelRows(
        rng.standard_normal((600, width)).astype(np.float32), rng.integers(0, 3, 600),
        rng.integers(0, 2, (600, 2)).astype(np.float32), np.ones((600, 2), np.float32), np.zeros(600, np.float32),
        np.arange(600) // 6, None,
    )  # fmt: skip
    values = ValueConfig(value_iterations=5, value_caution=0.0)
    return (
        LabelTrees.fit(labels, TreesConfig(channel_iterations=5, gain_iterations=5), len(CHANNELS)),
        ChannelValues.fit(labels, channel_columns(names, CHANNELS), values),
    )


def users(count: int = USERS, seed: int = 0) -> dict[int, list[Shown]]:
    """Journeys of 1 to 30 exposures: windows of every length, and journeys longer than a window."""
    rng = np.random.default_rng(seed)
    return {
        user: [Shown(rng.choice(CHANNELS), int(rng.random() < 0.3)) for _ in range(rng.integers(1, 31))]
        for user in range(count)
    }


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """150 users have about eight windows of each length: most of a block of the usual size would be filled up."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(user_predictions.WINDOWS_IN_BLOCK, "cpu", 16)
        yield


@pytest.fixture(scope="module")
def model() -> MTORL:
    return small()


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return journeys(users())


@pytest.fixture(scope="module")
def all_records(model, table) -> np.ndarray:
    return records([table], model)


def records(tables: list[pa.Table], model: MTORL, cached: CachedPredictions | None = None) -> np.ndarray:
    return np.concatenate([users.records_U for users in predict_users(tables, model, TOY, TAU, cached)])


@pytest.mark.slow
def test_a_prediction_equals_the_models_prediction_for_the_padded_window(model, table, all_records):
    windows = journeys_to_windows(table, SPEC, TOY, model.config.steps)
    encoded = Encoder(SPEC, TOY).encode(windows)
    policy_BLA, gains_BLG, values_BLAG, *_ = model.predict(encoded.batch())
    np.testing.assert_allclose(all_records["policy"], policy_BLA[:, -1], atol=1e-6)
    np.testing.assert_allclose(all_records["gains"], gains_BLG[:, -1], atol=1e-6)
    np.testing.assert_allclose(all_records["values"], values_BLAG[:, -1], atol=1e-6)
    counts = ChannelCounts.zeros(len(CHANNELS))
    for predicted in predict_users([table], model, TOY, TAU):
        counts += predicted.counts
    networks_gains_BLG = model.predict_last(encoded.batch()).gains_XG  # earlier steps without trees
    expected = count_remembered(windows, encoded, reliable_steps(networks_gains_BLG, TAU, TOY), TOY)
    assert 0 < expected.reliable_A.sum() < expected.exposures_A.sum()
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(counts, name), getattr(expected, name))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_prediction_does_not_depend_on_the_other_users(model, table, all_records, data):
    chosen = data.draw(st.lists(st.integers(0, USERS - 1), min_size=1, max_size=90))
    users_per_chunk = data.draw(st.integers(1, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_predictions, "USERS_PER_CHUNK", users_per_chunk)
        predictions = records([table.take(chosen)], model)
    assert predictions.tobytes() == all_records[chosen].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
def test_a_prediction_does_not_depend_on_the_number_of_threads(model, table, all_records, threads, monkeypatch):
    monkeypatch.setattr(user_predictions, "USERS_PER_CHUNK", 40)
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert records([table], model).tobytes() == all_records.tobytes()
        assert torch.get_num_threads() == threads  # restored
    finally:
        torch.set_num_threads(threads_before)


def test_an_error_in_a_thread_fails_the_scoring(model, table):
    memory = table.column("memory").combine_chunks()
    names = [field.name for field in memory.type.value_type if field.name != "hour"]
    steps = pa.StructArray.from_arrays([memory.values.field(name) for name in names], names)
    column = table.schema.get_field_index("memory")
    broken = table.set_column(column, "memory", pa.ListArray.from_arrays(memory.offsets, steps))
    with pytest.raises(UserError, match="journeys lack the input hour that the model reads"):
        records([broken], model)


# The cache of predictions


def cache_of(path, model: MTORL, predictions: np.ndarray) -> PredictionFile:
    file = PredictionFile.create(path, identity(model), record_type(model))
    file.append(predictions)
    return file


def test_a_damaged_cache_is_named_and_not_used(tmp_path, empty_scratch, model, all_records, capsys):
    lake = Lake(tmp_path)
    replace_cache(lake, TOY, cache_of(tmp_path / "staged", model, all_records), tmp_path / "staged")
    (path,) = scratch_folder(CACHE).iterdir()
    with cached_predictions(lake, model, TOY) as cached:
        assert cached is not None
    content = path.read_bytes()
    for position in (len(content) - 1, len(content) // 2, 100):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with cached_predictions(lake, model, TOY) as cached:
            assert cached is None
        assert capsys.readouterr().out == f"{path} is damaged: all users are predicted again\n"


@pytest.mark.slow
def test_cached_predictions_equal_computed_ones(tmp_path, model, table, all_records):
    cached = CachedPredictions(cache_of(tmp_path / "cache", model, all_records[: USERS // 2]))
    (predicted,) = predict_users([table], model, TOY, TAU, cached)
    (computed,) = predict_users([table], model, TOY, TAU)
    assert predicted.reused == USERS // 2
    assert predicted.records_U.tobytes() == all_records.tobytes()
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(predicted.counts, name), getattr(computed.counts, name))


@pytest.mark.parametrize("changed_input", ["hour", "last_campaign", "gap_s", "new_click", "seen_exposures", "age"])
def test_a_prediction_for_other_inputs_is_not_reused(tmp_path, model, table, all_records, changed_input):
    """One input of the next step, or of the profile, of one user has changed."""
    new_values = {
        "hour": 23,
        "last_campaign": "summer",
        "gap_s": 7.0,
        "new_click": 5,
        "seen_exposures": 99,
        "age": 77.0,
    }
    rows = table.to_pylist()
    (rows[3] if changed_input == "age" else rows[3]["next_step"])[changed_input] = new_values[changed_input]
    changed = pa.Table.from_pylist(rows, table.schema)
    cached = CachedPredictions(cache_of(tmp_path / "cache", model, all_records))
    (predicted,) = predict_users([changed], model, TOY, TAU, cached)
    assert predicted.reused == USERS - 1
    assert predicted.records_U["policy"][3].tolist() != all_records["policy"][3].tolist()


def test_an_empty_cache_changes_nothing(tmp_path, model, table, all_records):
    cached = CachedPredictions(cache_of(tmp_path / "cache", model, all_records[:0]))
    assert records([table], model, cached).tobytes() == all_records.tobytes()


def test_another_model_has_another_identity(model, monkeypatch):
    assert identity(small()) == identity(model)
    assert identity(small(seed=1)) != identity(model)
    initial = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.26, "sale": 0.125}, (0.5, 0.3, 0.2))
    other_rate = MTORL(model.config, SPEC, initial)
    other_rate.restore(model.state())
    assert identity(other_rate) != identity(model)  # tau differs
    old_identity = identity(model)
    monkeypatch.setattr(prediction_cache, "_processor", lambda: "another")
    assert identity(model) != old_identity


def forget_scores(lake: Lake) -> None:
    for name in score.SCORE_TABLES:
        unpublish(lake[name, "toy", DAY])
    shutil.rmtree(scratch_folder(CACHE))


@pytest.fixture
def lake(tmp_path, empty_scratch, monkeypatch, model):
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", model))
    return Lake(tmp_path / "lake")


def fingerprints(manifests: tuple[Manifest, ...]) -> list[str]:
    return [manifest.fingerprint for manifest in manifests]


def repaired() -> pa.Table:
    """The journeys with one more exposure in every tenth, and one more user."""
    log = users(USERS + 1)
    return journeys({user: exposures + [Shown("left", 1)] * (user % 10 == 0) for user, exposures in log.items()})


def test_fingerprints_do_not_depend_on_the_cache(lake, table, capsys):
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    assert "0 of 150 predictions reused" in capsys.readouterr().out
    publish_journeys(lake, DAY, repaired())
    with_cache = fingerprints(score.score_day(Registry(lake, TOY), DAY))
    assert "135 of 151 predictions reused" in capsys.readouterr().out
    forget_scores(lake)
    assert fingerprints(score.score_day(Registry(lake, TOY), DAY)) == with_cache
    assert "0 of 151 predictions reused" in capsys.readouterr().out


@pytest.mark.parametrize(("has_clock", "reused"), [(True, 0), (False, 135)])
def test_on_the_following_day_predictions_are_reused_only_without_inputs_that_count_seconds(
    lake, table, capsys, monkeypatch, has_clock, reused
):
    """135 of 151 users have no new exposure, but the time since the last exposure is a day longer for all users."""
    features = tuple(replace(f, kept=f.kept and (has_clock or f.name != "gap_s")) for f in SPEC.features)
    model = small(spec=replace(SPEC, features=features))
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", model))
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    rows = repaired().to_pylist()
    for row in rows:
        row["next_step"]["gap_s"] += 86_400
    publish_journeys(lake, "2024-01-03", pa.Table.from_pylist(rows, table.schema))
    score.score_day(Registry(lake, TOY), "2024-01-03")
    assert f"{reused} of 151 predictions reused" in capsys.readouterr().out.splitlines()[-1]


def test_predictions_of_an_earlier_champion_are_not_reused(lake, table, capsys, monkeypatch):
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    new_champion = small(seed=1)
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/2", new_champion))
    with_cache = fingerprints(score.score_day(Registry(lake, TOY), DAY))
    assert "0 of 150 predictions reused" in capsys.readouterr().out.splitlines()[-1]
    forget_scores(lake)
    assert fingerprints(score.score_day(Registry(lake, TOY), DAY)) == with_cache
