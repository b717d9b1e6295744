"""Nightly scoring on toy journeys with an untrained model."""

import shutil
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import unpublish
from synthetic import as_table
from synthetic_journeys import (
    CHANNELS,
    GAINS,
    SPEC,
    Shown,
    journeys,
    publish_journeys,
    step_inputs,
    steps_of,
    toy_dataset,
)

from lakehouse.journeys import read_journeys
from lakehouse.lake import Lake
from lakehouse.reading import rechunk
from lakehouse.storage.scratch import work_folder
from mtorl_model import score
from mtorl_model.champion.registry import Registry
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.inference import scoring, user_predictions
from mtorl_model.inference.ranking import best_first, fused_reward
from mtorl_model.inference.scoring import MIN_JOURNEY
from mtorl_model.inference.user_predictions import predict_users
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.errors import Busy, UserError
from schemas.steps import counted_by_channel
from schemas.tables.channel_policies import channel_policies
from schemas.tables.user_reward_ranks import user_reward_ranks

TOY = toy_dataset()
DAY = "2024-01-02"
STEPS = 6
INITIAL = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))


def untrained(reward_form: str = "binary") -> MTORL:
    model = ModelConfig(hidden=16, dropout=0.3, steps=STEPS, reward_form=reward_form)
    return MTORL(MTORLConfig(model, LossConfig(), TrainConfig(seed=1)), SPEC, INITIAL).initialise()


def random_users(count: int, seed: int = 0) -> dict[int, list[Shown]]:
    """Journeys of 1 to 12 exposures; some of their channels are unknown or outside the spec."""
    rng = np.random.default_rng(seed)
    names = [*CHANNELS, None, "pop-up"]

    def random_exposure() -> Shown:
        return Shown(rng.choice(names, p=[0.3, 0.3, 0.3, 0.05, 0.05]), int(rng.random() < 0.3), int(rng.random() < 0.1))

    return {
        int(user): [random_exposure() for _ in range(rng.integers(1, 13))]
        for user in rng.choice(10_000, count, replace=False)
    }


@pytest.fixture
def lake(tmp_path, monkeypatch):
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/1", untrained()))
    return Lake(tmp_path / "lake")


def published(lake: Lake, table: str) -> pa.Table:
    return lake[table, "toy", DAY].read()


def training_window(exposures: list[Shown]) -> dict[str, object]:
    """The window of `sequences` that Spark would cut with the last of these exposures at its last position."""
    steps = steps_of(0, exposures)[-STEPS:]
    padding = STEPS - len(steps)
    for step in steps:
        for prefix, events in counted_by_channel(TOY).items():
            sparse = {entry["channel"]: entry for entry in step[f"{prefix}_by_channel"]}
            for event in events:
                step[f"{prefix}_{event}_by_channel"] = [sparse[c][event] if c in sparse else 0 for c in CHANNELS]
    return {
        "user_id": 1, "window": 0, "split": "train", "age": 30.0,
        "valid": [k >= padding for k in range(STEPS)], "is_label": [k == STEPS - 1 for k in range(STEPS)],
        **{name: [None] * padding + [step[name] for step in steps] for name in steps[0]},
    }  # fmt: skip


@pytest.mark.parametrize("reward_form", ["binary", "continuous", "fused", "onehot"])
@pytest.mark.parametrize("length", [2, 4, 5, 6, 11])
def test_scoring_reads_the_same_inputs_as_training_for_the_next_exposure(length, reward_form):
    model = untrained(reward_form)
    exposures = [*random_users(1, seed=length).popitem()[1], *[Shown("left"), Shown("mid", click=1, sale=1)] * 6][
        :length
    ]
    upcoming = Shown("right", click=1, sale=1, campaign="summer", cost=9.0)
    trained_on = as_table(TOY, SPEC, [training_window([*exposures, upcoming])], steps=STEPS)
    at_training = model.predict(model.encoder(TOY).encode(trained_on).batch())

    row = journeys({1: exposures}).to_pylist()[0]
    row["next_step"] = step_inputs(exposures, hour=length)  # the hour that the scoring assumes
    table = pa.Table.from_pylist([row], journeys({1: exposures}).schema)
    ((_, (record,), _, _),) = predict_users([table], model, TOY, tau=0.5)

    assert record["shown"] >= MIN_JOURNEY
    np.testing.assert_allclose(record["policy"], at_training.policy_XA[0, -1], atol=1e-6)
    np.testing.assert_allclose(record["gains"], at_training.gains_XG[0, -1], atol=1e-6)


def test_policies_follow_the_contract(lake):
    publish_journeys(lake, DAY, journeys(random_users(60)))
    score.score_day(Registry(lake, TOY), DAY)
    table = published(lake, "channel_policies")
    assert tuple(table.column_names) == channel_policies(TOY).column_names
    rows = table.to_pylist()
    assert [row["user_id"] for row in rows] == sorted(random_users(60))
    for row in rows:
        policy = dict(row["policy"])
        assert tuple(policy) == CHANNELS
        assert sum(policy.values()) == pytest.approx(1.0, abs=1e-9)
        assert policy[row["channel"]] == max(policy.values())
        assert (row["model_version"], row["feature_spec"], row["day"]) == ("mtorl_toy/1", SPEC.version, DAY)
    assert len({row["policy"][0][1] for row in rows if row["source"] == "model"}) > 30  # users have different policies


def test_every_user_gets_the_scores_of_that_users_journey(lake):
    table = journeys(random_users(40))
    publish_journeys(lake, DAY, table)
    score.score_day(Registry(lake, TOY), DAY)
    policies = {row["user_id"]: row for row in published(lake, "channel_policies").to_pylist()}
    ranks = {row["user_id"]: row for row in published(lake, "user_reward_ranks").to_pylist()}
    initial = published(lake, "channel_allocation").column("initial").to_pylist()
    for k, user in enumerate(table.column("user_id").to_pylist()):
        ((_, (record,), _, _),) = predict_users([table.slice(k, 1)], untrained(), TOY, tau=0.5)
        source = "model" if record["shown"] >= MIN_JOURNEY else "initial"
        assert (policies[user]["source"], ranks[user]["source"]) == (source, source)
        expected = record["policy"].tolist() if source == "model" else initial
        assert [p for _, p in policies[user]["policy"]] == expected
        gains = [ranks[user][f"predicted_{gain}"] for gain in GAINS]
        assert gains == (record["gains"].tolist() if source == "model" else [0.25, 0.125])


def test_both_tables_pass_their_audit(lake):
    publish_journeys(lake, DAY, journeys(random_users(60)))
    score.score_day(Registry(lake, TOY), DAY)
    partition = published(lake, "channel_policies")
    audited = duckdb.sql(channel_policies(TOY).audit_duckdb_sql).to_arrow_table().to_pylist()
    assert len(audited) == 60
    assert all(row["is_best"] and row["lowest"] >= 0 and abs(row["total"] - 1) < 1e-9 for row in audited)
    partition = published(lake, "user_reward_ranks")  # noqa: F841 (DuckDB reads it by name)
    audited = duckdb.sql(user_reward_ranks(TOY).audit_duckdb_sql).to_arrow_table().to_pylist()
    assert len(audited) == 60
    assert all(row["rank_is_right"] and 0 <= row["predicted_reward"] <= 1 for row in audited)


def test_rank_one_has_the_greatest_weighted_mean_of_gains(lake):
    publish_journeys(lake, DAY, journeys(random_users(60)))
    score.score_day(Registry(lake, TOY), DAY)
    table = published(lake, "user_reward_ranks")
    assert tuple(table.column_names) == user_reward_ranks(TOY).column_names
    click, sale, reward, rank = (
        table.column(n).to_numpy() for n in ("predicted_click", "predicted_sale", "predicted_reward", "rank")
    )
    np.testing.assert_allclose(reward, (1 * click + 3 * sale) / 4)
    assert rank.tolist() == list(range(1, 61))
    assert (np.diff(reward) <= 0).all()
    assert len(set(reward)) > 30


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([st.integers(-(2**63), 2**63 - 1), st.text(max_size=3)]))
def test_ranks_are_a_permutation_with_ties_by_user(data, ids):
    users = data.draw(st.lists(ids, unique=True, max_size=12))
    rewards = data.draw(
        st.lists(st.sampled_from([0.0, 0.25, 0.5]), min_size=len(users), max_size=len(users))  # many ties
    )
    dtype = pa.string() if users and isinstance(users[0], str) else pa.int64()
    order = best_first(pa.array(users, dtype), np.array(rewards)).to_pylist()
    assert sorted(order) == list(range(len(users)))
    by_hand = sorted(range(len(users)), key=lambda k: users[k].encode() if dtype == pa.string() else users[k])
    assert order == sorted(by_hand, key=lambda k: -rewards[k])


def test_the_fused_reward_of_certain_gains_is_one():
    assert fused_reward(np.ones((1, 3)), (0.1, 0.2, 0.7)).tolist() == [1.0]
    assert fused_reward(np.array([[1.0, 0.0]]), (1.0, 3.0)).tolist() == [0.25]


def test_a_short_journey_gets_the_initial_policy(lake):
    users = {
        1: [Shown("left")],
        2: [Shown("mid"), Shown("mid")],
        3: [Shown("mid"), Shown(None), Shown("pop-up")],  # only one exposure in a channel of the spec
    }
    publish_journeys(lake, DAY, journeys(users))
    policies, *_ = score.score_day(Registry(lake, TOY), DAY)
    rows = published(lake, "channel_policies").to_pylist()
    assert [row["source"] for row in rows] == ["initial", "model", "initial"]
    initial = [(row["channel"], row["initial"]) for row in published(lake, "channel_allocation").to_pylist()]
    for row in (rows[0], rows[2]):
        assert row["policy"] == initial  # equation 17 of the day
        assert row["channel"] == max(initial, key=lambda channel_and_share: channel_and_share[1])[0]
    assert policies.counts == {"initial": 2}
    ranks = {row["user_id"]: row for row in published(lake, "user_reward_ranks").to_pylist()}
    assert [ranks[user]["source"] for user in (1, 2, 3)] == ["initial", "model", "initial"]
    assert (ranks[1]["predicted_click"], ranks[1]["predicted_sale"]) == (0.25, 0.125)
    assert ranks[1]["predicted_reward"] == (0.25 + 3 * 0.125) / 4
    assert ranks[3]["rank"] == ranks[1]["rank"] + 1  # equal rewards are ordered by user_id


def test_sizes_of_reads_and_row_groups_do_not_change_a_byte(lake, monkeypatch):
    monkeypatch.setattr(user_predictions, "USERS_PER_CHUNK", 16)
    table = journeys(random_users(75))
    fingerprints = set()
    for rows_per_read, files, rows_per_group in ((1, 1, 1000), (7, 3, 10), (4096, 2, 5), (16, 1, 16)):
        publish_journeys(lake, DAY, table, files=files, rows_per_group=rows_per_group)
        manifests = score.score_day(Registry(lake, TOY), DAY, rows_per_read=rows_per_read)
        fingerprints.add(tuple(m.fingerprint for m in manifests))
    assert len(fingerprints) == 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 9)), st.integers(1, 7))
def test_regrouping_keeps_every_row_in_order(sizes, rows):
    ends = np.cumsum([0, *sizes])
    tables = [pa.table({"x": np.arange(a, b)}) for a, b in pairwise(ends)]
    groups = [group.column("x").to_pylist() for group in rechunk(tables, rows)]
    assert [x for group in groups for x in group] == list(range(ends[-1]))
    assert all(len(group) == rows for group in groups[:-1])
    assert all(0 < len(group) <= rows for group in groups)


def test_user_ids_may_be_text(lake):
    users = dict(zip(("b", "ä", "a", "Z", "10", "9"), random_users(6).values(), strict=True))
    publish_journeys(lake, DAY, journeys(users))
    score.score_day(Registry(lake, toy_dataset("string")), DAY)
    policies, ranks = (published(lake, name) for name in ("channel_policies", "user_reward_ranks"))
    assert policies.column("user_id").to_pylist() == ["10", "9", "Z", "a", "b", "ä"]
    assert sorted(ranks.column("user_id").to_pylist()) == ["10", "9", "Z", "a", "b", "ä"]
    assert policies.schema.field("user_id").type == pa.string()


def test_a_day_without_users_has_empty_tables(lake):
    publish_journeys(lake, DAY, journeys({1: [Shown("left")]}).slice(0, 0))
    manifests = score.score_day(Registry(lake, TOY), DAY)
    assert [m.rows for m in manifests] == [0, 0, len(CHANNELS)]
    assert tuple(published(lake, "channel_policies").column_names) == channel_policies(TOY).column_names
    assert published(lake, "user_reward_ranks").schema.field("rank").type == pa.int64()


def test_the_manifest_names_journeys_and_model(lake):
    fingerprint = publish_journeys(lake, DAY, journeys(random_users(5)))
    for manifest in score.score_day(Registry(lake, TOY), DAY):
        assert manifest.rows == (3 if manifest.table == "channel_allocation" else 5)
        assert manifest.inputs == {
            f"toy/journeys/ds={DAY}": fingerprint, "model": "mtorl_toy/1", "recommendation": "imitation"
        }  # fmt: skip
        assert manifest.spec_version == SPEC.version


def test_channels_may_be_drawn_to_learn(lake):
    publish_journeys(lake, DAY, journeys(random_users(400)))
    registry = Registry(lake, TOY)
    score.score_day(registry, DAY)
    recommended = published(lake, "channel_policies")
    assert not any(recommended.column("explored").to_pylist())
    assert set(recommended.column("propensity").to_pylist()) == {1.0}
    manifest, *_ = score.score_day(registry, DAY, exploration=0.5)  # other settings: scored again
    assert manifest.inputs["recommendation"] == "imitation, exploration 0.5"
    explored = published(lake, "channel_policies")
    is_explored = np.array(explored.column("explored").to_pylist())
    assert 0.4 < is_explored.mean() < 0.6
    is_recommended = np.array(explored.column("channel").to_pylist()) == np.array(
        recommended.column("channel").to_pylist()
    )
    assert is_recommended[~is_explored].all()
    assert not is_recommended[is_explored].all()
    expected = 0.5 / 3 + 0.5 * is_recommended
    np.testing.assert_allclose(explored.column("propensity").to_numpy(), expected)
    partition = explored
    audit = channel_policies(TOY).audit_duckdb_sql
    assert duckdb.sql(audit).filter("NOT is_best OR NOT chance_is_right").fetchall() == []
    # Propensities of drawn channels that are wrong: as if they had been recommended, and as if nobody else explored.
    for wrong in (np.where(is_explored, 2 / 3, expected), np.where(is_explored, 0.05, expected)):
        column = explored.schema.get_field_index("propensity")
        partition = explored.set_column(column, "propensity", pa.array(wrong))  # noqa: F841
        assert len(duckdb.sql(audit).filter("NOT chance_is_right").fetchall()) > 50
    assert score.score_day(registry, DAY, exploration=0.5)[0] == manifest  # not scored again


def test_a_basis_that_the_model_lacks_is_one_clear_line(lake):
    publish_journeys(lake, DAY, journeys(random_users(5)))
    with pytest.raises(UserError, match="--basis value: mtorl_toy/1 allows only imitation, constant"):
        score.score_day(Registry(lake, TOY), DAY, basis="value")
    score.score_day(Registry(lake, TOY), DAY, basis="constant")
    assert len(set(published(lake, "channel_policies").column("channel").to_pylist())) == 1


def test_the_audit_sees_a_constant_channel_that_is_not_the_best_for_all(lake):
    """The values of a user with a short journey are those of the average user."""
    publish_journeys(lake, DAY, journeys(random_users(60)))
    score.score_day(Registry(lake, TOY), DAY, basis="constant")
    rows = published(lake, "channel_policies").to_pylist()
    (channel,) = {row["channel"] for row in rows}
    assert {row["source"] for row in rows} == {"model", "initial"}
    other = next(name for name in CHANNELS if name != channel)
    schema = published(lake, "channel_policies").schema
    for best, is_right in ((channel, True), (other, False)):
        values = [(name, 0.9 if name == best else 0.1) for name in CHANNELS]
        partition = pa.Table.from_pylist(  # noqa: F841 (DuckDB reads it by name)
            [{**row, "expected_click": values, "expected_sale": values} for row in rows], schema
        )
        wrong = duckdb.sql(channel_policies(TOY).audit_duckdb_sql).filter("NOT is_best").fetchall()
        assert (not wrong) == is_right


def test_output_comes_in_several_row_groups(lake, monkeypatch):
    monkeypatch.setattr(scoring, "ROWS_PER_GROUP", 4)
    publish_journeys(lake, DAY, journeys(random_users(10)))
    score.score_day(Registry(lake, TOY), DAY)
    for name in ("channel_policies", "user_reward_ranks"):
        file = pq.ParquetFile(*lake[name, "toy", DAY].files())
        assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [4, 4, 2]


def test_a_broken_model_publishes_nothing(lake, monkeypatch):
    broken = untrained()
    with torch.no_grad():
        broken.networks[0].action.bias.fill_(float("nan"))
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/2", broken))
    publish_journeys(lake, DAY, journeys(random_users(5)))
    with pytest.raises(UserError, match="mtorl_toy/2 predicts no finite numbers"):
        score.score_day(Registry(lake, TOY), DAY)
    assert not lake.days("channel_policies", "toy")
    assert not lake.days("user_reward_ranks", "toy")


def test_a_day_without_journeys_is_an_error_of_one_line(lake):
    with pytest.raises(UserError, match=f"no journeys for toy on {DAY}"):
        score.score_day(Registry(lake, TOY), DAY)


def test_journeys_that_are_published_while_they_are_scored_raise_busy(lake, monkeypatch):
    """Otherwise the scores would mix two versions of the journeys under the fingerprint of the first."""
    publish_journeys(lake, DAY, journeys(random_users(9)))

    def swapped(*arguments):
        first_table, *later_tables = read_journeys(*arguments)
        yield first_table
        publish_journeys(lake, DAY, journeys(random_users(8)))
        yield from later_tables

    with monkeypatch.context() as patched:
        patched.setattr(score, "read_journeys", swapped)
        with pytest.raises(Busy, match=f"ds={DAY} was published again while it was read"):
            score.score_day(Registry(lake, TOY), DAY, rows_per_read=4)
    assert not lake.days("channel_policies", "toy")
    assert score.score_day(Registry(lake, TOY), DAY)[0].rows == 8


LATER = "2024-01-03"


def fingerprints(lake: Lake, day: str = DAY) -> list[str]:
    return [lake[table, "toy", day].require().fingerprint for table in score.SCORE_TABLES]


def test_scores_of_the_same_journeys_and_champion_are_not_computed_again(lake, monkeypatch, capsys):
    publish_journeys(lake, DAY, journeys(random_users(5)))
    score.score_day(Registry(lake, TOY), DAY)
    old = fingerprints(lake)
    with monkeypatch.context() as patch:
        patch.setattr(score, "score_journeys", None)
        score.score_day(Registry(lake, TOY), DAY)
    assert fingerprints(lake) == old
    assert "fresh, not scored again" in capsys.readouterr().out
    publish_journeys(lake, DAY, journeys(random_users(6)))
    score.score_day(Registry(lake, TOY), DAY)
    assert not set(fingerprints(lake)) & set(old)


def test_a_new_champion_rewrites_only_the_newest_day(lake, monkeypatch):
    for day in (DAY, LATER):
        publish_journeys(lake, day, journeys(random_users(5)))
        score.score_day(Registry(lake, TOY), day)
    past, newest = fingerprints(lake, DAY), fingerprints(lake, LATER)
    monkeypatch.setattr(Registry, "load_champion", lambda _: ("mtorl_toy/2", untrained()))
    for day in (DAY, LATER):
        score.score_day(Registry(lake, TOY), day)
    assert fingerprints(lake, DAY) == past
    assert not set(fingerprints(lake, LATER)) & set(newest)
    assert {m.inputs["model"] for m in score.score_day(Registry(lake, TOY), LATER)} == {"mtorl_toy/2"}


@pytest.mark.parametrize("lost", score.SCORE_TABLES)
def test_a_run_that_was_killed_between_two_tables_is_completed_by_the_next(lake, lost):
    partition = lake[lost, "toy", DAY]
    publish_journeys(lake, DAY, journeys(random_users(5)))
    manifests = score.score_day(Registry(lake, TOY), DAY)
    unpublish(partition)
    assert score.score_day(Registry(lake, TOY), DAY) == manifests

    earlier, (file,) = partition.require(), partition.files()
    publish_journeys(lake, DAY, journeys(random_users(6)))
    manifests = score.score_day(Registry(lake, TOY), DAY)
    with work_folder() as work:  # publish this table from the earlier journeys again
        shutil.copy(file, work / "part-0.parquet")
        partition.publish(work, inputs=earlier.inputs, code=earlier.code_version, spec_version=earlier.spec_version)
    assert score.score_day(Registry(lake, TOY), DAY) == manifests
    assert partition.manifest in manifests
