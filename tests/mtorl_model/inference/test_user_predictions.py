"""A user's answer is the same to the last bit in any company, on any number of threads, computed or carried over."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_journeys import CHANNELS, SPEC, Shown, journeys, publish_journeys, toy_dataset

from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from mtorl_model import score
from mtorl_model.champion.registry import Registry
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.data.journey_windows import journeys_to_windows
from mtorl_model.inference import prediction_cache, user_predictions
from mtorl_model.inference.channel_level import ChannelCounts, count_remembered, reliable_steps
from mtorl_model.inference.prediction_cache import EarlierPredictions, PredictionFile, identity, record_type
from mtorl_model.inference.user_predictions import predict_users
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

TOY = toy_dataset()
DAY = "2024-01-02"
TAU = 0.5
USERS = 150


def small(seed: int = 0, spec: FeatureSpec = SPEC) -> MTORL:
    """Untrained, of the size that is used: how a product is rounded depends on it."""
    initial = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))
    return MTORL(preset("small", "toy").changed({"seed": seed}), spec, initial).initialise()


def users(count: int = USERS, seed: int = 0) -> dict[int, list[Shown]]:
    """Journeys of 1 to 30 exposures: windows of every length, the longest cut."""
    rng = np.random.default_rng(seed)
    return {
        user: [Shown(rng.choice(CHANNELS), int(rng.random() < 0.3)) for _ in range(rng.integers(1, 31))]
        for user in range(count)
    }


@pytest.fixture(scope="module")
def model() -> MTORL:
    return small()


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return journeys(users())


@pytest.fixture(scope="module")
def together(model, table) -> np.ndarray:
    return records([table], model)


def records(tables: list[pa.Table], model: MTORL, earlier: EarlierPredictions | None = None) -> np.ndarray:
    return np.concatenate([found.records_U for found in predict_users(tables, model, TOY, TAU, earlier)])


def test_an_answer_is_what_the_model_says_of_the_padded_window(model, table, together):
    windows = journeys_to_windows(table, SPEC, TOY, model.config.steps)
    encoded = Encoder(SPEC, TOY).encode(windows)
    policy_BLA, gains_BLG = model.predict(encoded.batch())
    np.testing.assert_allclose(together["policy"], policy_BLA[:, -1], atol=1e-6)
    np.testing.assert_allclose(together["gains"], gains_BLG[:, -1], atol=1e-6)
    counts = ChannelCounts.zeros(len(CHANNELS))
    for found in predict_users([table], model, TOY, TAU):
        counts += found.counts
    expected = count_remembered(windows, encoded, reliable_steps(gains_BLG, TAU, TOY), TOY)
    assert 0 < expected.reliable_A.sum() < expected.exposures_A.sum()
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(counts, name), getattr(expected, name))


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_an_answer_is_the_same_in_any_company(model, table, together, data):
    chosen = data.draw(st.lists(st.integers(0, USERS - 1), min_size=1, max_size=90))
    at_once = data.draw(st.integers(1, 100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(user_predictions, "USERS_AT_ONCE", at_once)
        found = records([table.take(chosen)], model)
    assert found.tobytes() == together[chosen].tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_answer_is_the_same_on_any_number_of_threads(model, table, together, threads, monkeypatch):
    monkeypatch.setattr(user_predictions, "USERS_AT_ONCE", 40)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert records([table], model).tobytes() == together.tobytes()
        assert torch.get_num_threads() == threads  # as it was found
    finally:
        torch.set_num_threads(before)


def test_what_fails_in_a_thread_fails_the_scoring(model, table):
    memory = table.column("memory").combine_chunks()
    names = [field.name for field in memory.type.value_type if field.name != "hour"]
    steps = pa.StructArray.from_arrays([memory.values.field(name) for name in names], names)
    column = table.schema.get_field_index("memory")
    broken = table.set_column(column, "memory", pa.ListArray.from_arrays(memory.offsets, steps))
    with pytest.raises(UserError, match="journeys remember no hour, which the model reads"):
        records([broken], model)


# What is carried over


def kept(path, model: MTORL, found: np.ndarray) -> PredictionFile:
    file = PredictionFile.create(path, identity(model), record_type(model))
    file.append(found)
    return file


def test_answers_carried_over_are_those_given_anew(tmp_path, model, table, together):
    earlier = EarlierPredictions(kept(tmp_path / "answers", model, together[: USERS // 2]))
    (found,) = predict_users([table], model, TOY, TAU, earlier)
    (anew,) = predict_users([table], model, TOY, TAU)
    assert found.carried == USERS // 2
    assert found.records_U.tobytes() == together.tobytes()
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(found.counts, name), getattr(anew.counts, name))


@pytest.mark.parametrize("what", ["hour", "last_campaign", "gap_s", "new_click", "seen_exposures", "age"])
def test_an_answer_to_other_inputs_is_not_carried_over(tmp_path, model, table, together, what):
    """One input of one user's next step, or profile, is another."""
    other = {"hour": 23, "last_campaign": "summer", "gap_s": 7.0, "new_click": 5, "seen_exposures": 99, "age": 77.0}
    rows = table.to_pylist()
    (rows[3] if what == "age" else rows[3]["next_step"])[what] = other[what]
    changed = pa.Table.from_pylist(rows, table.schema)
    (found,) = predict_users(
        [changed], model, TOY, TAU, EarlierPredictions(kept(tmp_path / "answers", model, together))
    )
    assert found.carried == USERS - 1
    assert found.records_U["policy"][3].tolist() != together["policy"][3].tolist()


def test_nothing_is_found_among_no_answers(tmp_path, model, table, together):
    earlier = EarlierPredictions(kept(tmp_path / "answers", model, together[:0]))
    assert records([table], model, earlier).tobytes() == together.tobytes()


def test_another_model_has_another_identity(model, monkeypatch):
    assert identity(small()) == identity(model)
    assert identity(small(seed=1)) != identity(model)
    initial = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.26, "sale": 0.125}, (0.5, 0.3, 0.2))
    other_rate = MTORL(model.config, SPEC, initial)
    other_rate.restore(model.state())
    assert identity(other_rate) != identity(model)  # tau is another
    before = identity(model)
    monkeypatch.setattr(prediction_cache, "_processor", lambda: "another")
    assert identity(model) != before


@pytest.fixture
def lake(tmp_path, monkeypatch, model):
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", model))
    return Lake(tmp_path / "lake")


def fingerprints(manifests: tuple[Manifest, ...]) -> list[str]:
    return [manifest.fingerprint for manifest in manifests]


def repaired() -> pa.Table:
    """The journeys with one exposure more in every tenth, and a user more."""
    log = users(USERS + 1)
    return journeys({user: shown + [Shown("left", 1)] * (user % 10 == 0) for user, shown in log.items()})


def test_fingerprints_do_not_tell_whether_answers_were_carried_over(lake, table, capsys):
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    assert "0 of 150 predictions carried over" in capsys.readouterr().out
    publish_journeys(lake, DAY, repaired())
    carried = fingerprints(score.score_day(Registry(lake, TOY), DAY))
    assert "135 of 151 predictions carried over" in capsys.readouterr().out
    for name in (*score.SCORE_TABLES, prediction_cache.CACHE):
        shutil.rmtree(lake.table(name, "toy"))
    assert fingerprints(score.score_day(Registry(lake, TOY), DAY)) == carried
    assert "0 of 151 predictions carried over" in capsys.readouterr().out


@pytest.mark.parametrize(("clock", "carried"), [(True, 0), (False, 135)])
def test_the_following_night_carries_over_nobody_whose_clock_the_model_reads(
    lake, table, capsys, monkeypatch, clock, carried
):
    """Of 151 users 135 have seen nothing new; but for all of them the last exposure is a day longer ago."""
    features = tuple(replace(f, kept=f.kept and (clock or f.name != "gap_s")) for f in SPEC.features)
    model = small(spec=replace(SPEC, features=features))
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", model))
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    rows = repaired().to_pylist()
    for row in rows:
        row["next_step"]["gap_s"] += 86_400
    publish_journeys(lake, "2024-01-03", pa.Table.from_pylist(rows, table.schema))
    score.score_day(Registry(lake, TOY), "2024-01-03")
    assert f"{carried} of 151 predictions carried over" in capsys.readouterr().out.splitlines()[-1]


def test_a_new_champion_is_asked_anew(lake, table, capsys, monkeypatch):
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    other = small(seed=1)
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/2", other))
    found = fingerprints(score.score_day(Registry(lake, TOY), DAY))
    assert "0 of 150 predictions carried over" in capsys.readouterr().out.splitlines()[-1]
    for name in (*score.SCORE_TABLES, prediction_cache.CACHE):
        shutil.rmtree(lake.table(name, "toy"))
    assert fingerprints(score.score_day(Registry(lake, TOY), DAY)) == found
