"""One daily step: the same from the same champion and day, inside the box around it, and learned from what it logs."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from method_inputs import CandidateInputs

from lakehouse.lake import Lake
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.method import Run
from mtorl_model.methods.unified_rl.chain.boxed_policy import MOST_ACTORS, BoxedPolicy
from mtorl_model.methods.unified_rl.chain.config import PRESETS
from mtorl_model.methods.unified_rl.chain.requests import states
from mtorl_model.methods.unified_rl.chain.user_pairs import UserPairs
from mtorl_model.methods.unified_rl.fusion import biases_of, powers_of
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.method import UnifiedRL
from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import FeatureSpec

CONFIG = PRESETS["small"].changed({"gain_iterations": 8, "steps": 30, "rounds": 1, "critics": 2, "hidden": 16})


@pytest.fixture(scope="module")
def inputs(synthetic_lake: tuple[Lake, FeatureSpec]) -> CandidateInputs:
    return CandidateInputs(synthetic_lake[1])


@pytest.fixture(scope="module")
def champion(inputs: CandidateInputs) -> Any:
    return inputs.fit(UnifiedRL, CONFIG, None)


def test_the_same_champion_and_day_give_the_same_bytes(inputs: CandidateInputs, champion: UnifiedRL) -> None:
    sample, models = inputs.day_sample(champion), [copy.deepcopy(champion) for _ in range(2)]
    for model in models:
        model.fine_tune(sample, FineTuneConfig())
    states = [model.state() for model in models]
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)
    biases = [name for name in champion.state() if name.startswith("actor_") and name.endswith("layers.4.bias")]
    for age, name in enumerate(sorted(biases)):
        older = f"actor_{age + 1:02d}.layers.4.bias"
        np.testing.assert_array_equal(states[0][older], champion.state()[name])
    assert not np.array_equal(states[0]["actor_00.layers.4.bias"], champion.state()["actor_00.layers.4.bias"])


def test_explored_actions_are_in_the_box_and_another_day_has_others(
    inputs: CandidateInputs, champion: UnifiedRL
) -> None:
    sample = inputs.day_sample(champion)
    explored = champion.explored(sample)
    repeated = champion.explored(sample)
    np.testing.assert_array_equal(explored.power_NI, repeated.power_NI)
    requests = dict(zip(sample.new.exposure_id_N.tolist(), range(len(sample.new)), strict=True))
    rows = [requests[request] for request in explored.request_N.tolist()]
    centre_NI = champion.predict(sample.new).fused.power_XI[rows]
    assert (np.abs(explored.power_NI - centre_NI) <= 0.15 + 1e-6).all()
    width = np.minimum(centre_NI + 0.15, 2.0) - np.maximum(centre_NI - 0.15, 0.0)
    assert (explored.propensity_N >= 1 / width.prod(axis=1) / 0.3**4 * 0.999).all()
    assert {*explored.draw_N.tolist()} == {0, 1}
    later = replace(sample.new, exposed_at_ms_N=sample.new.exposed_at_ms_N + 86_400_000)
    assert not np.array_equal(champion.explored(sample._replace(new=later)).power_NI, explored.power_NI)


def actor_at(action: list[float], state: int, seed: int = 0) -> Actor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        actor = Actor(state, len(action), 8)
    actor.start_at(torch.tensor(action))
    return actor


STATES = np.random.default_rng(0).normal(size=(20, 3))


def test_the_served_action_stays_in_the_box_around_what_was_served_before() -> None:
    start = BoxedPolicy((actor_at([0.0] * 4, 3),), 0.15)
    first = start.followed_by(actor_at([0.9, -0.9, 0.05, 0.0], 3))
    np.testing.assert_allclose(first.act(STATES), np.tile([0.15, -0.15, 0.05, 0.0], (20, 1)), atol=0.01)
    second = first.followed_by(actor_at([0.9, 0.0, 0.0, 0.0], 3, seed=1))
    action_ND, centre_ND = second.served(STATES)
    np.testing.assert_array_equal(centre_ND, first.act(STATES))  # not the action of first's actor, .9
    np.testing.assert_allclose(action_ND[:, 0], 0.3, atol=0.01)
    assert (np.abs(action_ND - centre_ND) <= 0.15 + 1e-9).all()
    assert powers_of(action_ND).shape == biases_of(action_ND).shape == (20, 2)
    np.testing.assert_array_equal(start.served(STATES)[0], start.served(STATES)[1])


def test_a_policy_of_very_many_steps_keeps_the_newest_actors() -> None:
    policy = BoxedPolicy((actor_at([0.0] * 4, 3),), 0.15)
    for step in range(40):
        policy = policy.followed_by(actor_at([min(0.01 * step, 0.9), 0.0, 0.0, 0.0], 3, seed=step))
    assert len(policy.actors) == MOST_ACTORS
    np.testing.assert_allclose(policy.act(STATES)[:, 0], 0.39, atol=0.01)


def test_training_and_serving_have_one_box_around_what_the_champion_serves(
    inputs: CandidateInputs, champion: UnifiedRL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the champion's actor has left its own box, so that it starts the next step outside of it."""
    model, sample = copy.deepcopy(champion), inputs.day_sample(champion)
    state_NS = states(sample.new, np.arange(len(sample.new)), model.dataset)
    size = state_NS.shape[1]
    model._policy = BoxedPolicy((actor_at([0.0] * 8, size),), 0.15).followed_by(actor_at([0.6] + [0.0] * 7, size))
    served_before_ND = model._policy.act(state_NS)
    assert served_before_ND[:, 0] == pytest.approx(0.15, abs=0.02)

    trained_on = []
    fit = FusionLearner.fit
    monkeypatch.setattr(FusionLearner, "fit", lambda self, log: trained_on.append(log) or fit(self, log))
    model.fine_tune(sample, FineTuneConfig())
    (log,) = trained_on
    lists = model._lists(sample.new, model._predictor.predict(sample.new))
    np.testing.assert_array_equal(log.centre_ND, np.tile(served_before_ND[lists.first_R], (2, 1)))
    assert (np.abs(log.action_ND - log.centre_ND) <= 0.15 + 1e-9).all()

    action_ND, centre_ND = model._policy.served(state_NS)
    np.testing.assert_array_equal(centre_ND, served_before_ND)
    assert (np.abs(action_ND - served_before_ND) <= 0.15 + 1e-9).all()


def young(store: CandidateStore, is_young_N: np.ndarray) -> CandidateStore:
    """A store in which the outcomes of these rows may still follow."""
    maturity_N = np.where(is_young_N, 0.5, 1.0).astype(np.float32)
    return replace(store, objective_maturity_NI=np.tile(maturity_N[:, None], (1, store.objectives_NI.shape[1])))


def test_a_day_whose_outcomes_may_still_follow_is_replaced_by_earlier_days(
    inputs: CandidateInputs, champion: UnifiedRL
) -> None:
    sample = inputs.day_sample(champion)
    earlier = replace(sample.new, exposure_id_N=sample.new.exposure_id_N + 1_000_000)
    late = sample._replace(new=young(sample.new, np.ones(len(sample.new), bool)), replay=earlier)
    assert (champion.explored(sample).request_N < 1_000_000).all()
    assert (champion.explored(late).request_N >= 1_000_000).all()
    assert len(champion.explored(late).request_N) == len(champion.explored(sample).request_N)
    model = copy.deepcopy(champion)
    assert model.fine_tune(late, FineTuneConfig())["train_requests"] > 0

    empty = late._replace(replay=sample.new.take(np.arange(0)))
    assert len(champion.explored(empty).request_N) == 0
    unchanged = copy.deepcopy(champion)
    assert unchanged.fine_tune(empty, FineTuneConfig()) == {"train_requests": 0.0}
    assert len(unchanged._policy.actors) == len(champion._policy.actors)


def test_a_training_leaves_out_exposures_whose_outcomes_may_still_follow(inputs: CandidateInputs) -> None:
    """Their objectives count as no in the log so far; here they would also turn the weights around."""
    train, valid = inputs._store(200, 0), inputs._store(60, 1)
    is_young_N = train.session_N >= 100
    hidden_NI = np.where(is_young_N[:, None], 0.0, train.objectives_NI).astype(np.float32)
    model, run = inputs.fit(UnifiedRL, CONFIG, None), Run()
    learned_from = []
    model._learn_policy = lambda train, predictions_NI, valid, run: learned_from.append((train, predictions_NI, valid))
    model.fit(young(replace(train, objectives_NI=hidden_NI), is_young_N), young(valid, valid.session_N >= 30), run)
    ((learned, predictions_NI, validated),) = learned_from
    assert (learned.session_N < 100).all()
    assert len(learned) == len(predictions_NI) == (~is_young_N).sum()
    assert (validated.session_N < 30).all()
    assert run.lines == [
        f"{is_young_N.sum():,} exposures of training users are left out: their outcomes may still follow"
    ]
    with pytest.raises(UserError, match="no exposure of kuairand is old enough for its outcomes to be final"):
        model.fit(young(train, np.ones(len(train), bool)), valid, Run())


def test_a_training_reports_an_objective_without_a_weight(
    inputs: CandidateInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = get_dataset("kuairand")
    objectives = tuple(
        replace(objective, weight=0.0) if k else objective for k, objective in enumerate(dataset.objectives)
    )
    unweighted = replace(dataset, objectives=objectives)
    monkeypatch.setattr(UnifiedRL, "dataset", property(lambda self: unweighted))
    model = inputs.fit(UnifiedRL, CONFIG, None)
    run = Run()
    model.fit(inputs._store(200, 0), inputs._store(60, 1), run)
    (advice,) = [line for line in run.lines if "weight 0 in the reward" in line]
    assert advice.startswith("click, like, social: weight 0")


def test_a_restored_policy_has_its_actors_in_their_order(inputs: CandidateInputs, champion: UnifiedRL) -> None:
    model, store = copy.deepcopy(champion), inputs.day_sample(champion).new
    size = states(store, np.arange(1), model.dataset).shape[1]
    for step in (0.5, -0.5, 0.02):
        actor = model._new_actor(size)
        actor.start_at(torch.full((8,), step))
        model._policy = model._policy.followed_by(actor)
    restored = UnifiedRL(model.config, model.spec, model.initial_policy)
    restored.encoding = model.encoding
    restored.restore(model.state())
    np.testing.assert_array_equal(restored.predict(store).fusion_XF, model.predict(store).fusion_XF)


def test_training_starts_from_equal_weights_where_static_ones_rank_validation_users_worse(champion: UnifiedRL) -> None:
    model, pairs = copy.deepcopy(champion), UserPairs(np.zeros(4, int), np.array([1, 0, 1, 0]) > 0, np.ones(4))
    good_NI = np.full((4, 4), 0.5)
    good_NI[:, 0] = [0.9, 0.1, 0.8, 0.2]
    model.static_D = np.array([-1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])  # the first objective has no power
    assert not model._better_start(pairs, good_NI).any()
    model.static_D = np.array([0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert model._better_start(pairs, good_NI)[0] == 0.9
