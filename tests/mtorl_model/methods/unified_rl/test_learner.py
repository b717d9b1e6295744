"""The learner against problems whose solution is known."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from mtorl_model.methods.unified_rl.config import LOCAL, NETWORK, FusionConfig
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.offline_baselines import OFFLINE_BASELINES
from mtorl_model.methods.unified_rl.offline_learner import LogTensors
from mtorl_model.methods.unified_rl.progressive import progressive_rounds
from mtorl_model.methods.unified_rl.transitions import Transitions

CONFIG = FusionConfig(
    critics=3, critic=LOCAL, hidden=16, steps=300, batch=128, learning_rate=1e-2, target_share=0.3
)  # fmt: skip
BANDIT = replace(CONFIG, discount=0.0)


def bandit_log(best_of, centre=0.0, rows=2_000, seed=0, half_width=0.15, noise=0.0) -> Transitions:
    """Sessions of one step: the reward is 2 - (a - best)^2 for actions explored around the centre."""
    rng = np.random.default_rng(seed)
    state_NS = rng.uniform(-1, 1, (rows, 1))
    centre_ND = np.full((rows, 1), centre) if np.isscalar(centre) else centre(state_NS)
    action_ND = centre_ND + rng.uniform(-half_width, half_width, (rows, 1))
    reward_NQ = 2.0 - (action_ND - best_of(state_NS)) ** 2 + noise * rng.uniform(-1, 1, (rows, 1))
    return Transitions(state_NS, action_ND, reward_NQ, centre_ND, np.full(rows, -1))


def learner(config, groups=1) -> FusionLearner:
    return FusionLearner(config, state=1, actions=1, groups=groups)


STATES = np.linspace(-0.9, 0.9, 7)[:, None]
ZEROS = np.zeros((7, 1))


@pytest.mark.slow
@pytest.mark.parametrize("critic", [LOCAL, NETWORK])
def test_a_best_action_inside_the_box_is_learned(critic):
    trained = learner(replace(BANDIT, critic=critic))
    trained.fit(bandit_log(lambda state_NS: 0.1 * state_NS))
    assert trained.act(STATES) == pytest.approx(0.1 * STATES, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("critic", [LOCAL, NETWORK])
def test_a_best_action_outside_the_box_is_approached_up_to_its_bound(critic):
    trained = learner(replace(BANDIT, critic=critic))
    trained.fit(bandit_log(lambda state_NS: 0.6 + 0.0 * state_NS))
    assert trained.act(STATES) == pytest.approx(np.full((7, 1), 0.15), abs=0.02)


@pytest.mark.slow
def test_five_rounds_reach_a_best_action_that_is_three_boxes_away():
    """The closed form is in test_box.py; here the actor and its critics take the same steps."""

    def explore(number, policy):
        return bandit_log(lambda state_NS: 0.5 + 0.0 * state_NS, centre=policy, seed=number)

    rounds = progressive_rounds(BANDIT, explore, rounds=5, state=1, actions=1, groups=1)
    for trained, expected in zip(rounds, [0.15, 0.30, 0.45, 0.50, 0.50], strict=True):
        assert trained.act(STATES) == pytest.approx(np.full((7, 1), expected), abs=0.02)


def two_states(rows: int, reward: float) -> Transitions:
    """Sessions without end, cut after `rows` steps, that alternate between the states -1 and 1."""
    state_NS = np.where(np.arange(rows) % 2, 1.0, -1.0)[:, None]
    next_N = np.arange(1, rows + 1)
    next_N[-1] = 0  # back to the first state
    zeros_ND = np.zeros((rows, 1))
    return Transitions(state_NS, zeros_ND, np.full((rows, 1), reward), zeros_ND, next_N)


@pytest.mark.slow
@pytest.mark.parametrize("excess", [0.0, 0.06])
def test_values_of_a_fixed_actor_are_those_of_the_geometric_series(excess):
    """Inside the box Q = r / (1 - gamma); outside by e, Q = r / (1 - gamma phi(e)) (equation 6)."""
    trained = learner(replace(CONFIG, discount=0.6, target_every=2))
    action = 0.15 + excess if excess else 0.0
    for actor in (trained.actor, trained.target_actor):
        for parameter in actor.parameters():
            parameter.data.zero_()
        actor.layers[-1].bias.data.fill_(np.arctanh(action))
    log = two_states(rows=200, reward=0.5)
    trained.fit(log, learn_actor=False)
    expected = 0.5 / (1 - 0.6 * np.exp(-excess / 0.09))
    assert trained.values(log.state_NS[:2], log.action_ND[:2], log.centre_ND[:2]) == pytest.approx(
        np.full((1, 3, 2), expected), rel=0.03
    )


def test_each_critic_learns_from_its_own_part_of_the_log():
    log = bandit_log(lambda state_NS: state_NS)
    learns_CN = LogTensors(log, replace(CONFIG, bootstrap_share=0.8), masks=4, reward_scale=1.0).learns_CN
    assert learns_CN.float().mean(dim=1).numpy() == pytest.approx(np.full(4, 0.8), abs=0.05)
    for first, second in combinations(learns_CN, 2):
        # Independent parts share .8 x .8 of the log, and differ in .32 of it.
        assert (first != second).float().mean().item() == pytest.approx(0.32, abs=0.05)
    assert LogTensors(log, CONFIG, masks=1, reward_scale=1.0).learns_CN.all()


def test_critics_start_with_weights_of_their_own():
    untrained = learner(CONFIG, groups=2)
    values_CN = untrained.values(STATES, ZEROS, ZEROS).reshape(6, 7)
    assert len(np.unique(values_CN[:, 0])) == 6


def test_the_actor_is_unchanged_while_values_alone_are_learned():
    trained = learner(replace(CONFIG, steps=20))
    untrained_ND = trained.act(STATES)
    trained.fit(two_states(50, 1.0), learn_actor=False)
    assert (trained.act(STATES) == untrained_ND).all()


@pytest.mark.slow
def test_critics_of_an_ensemble_differ_where_the_log_has_no_actions():
    trained = learner(BANDIT)
    trained.fit(bandit_log(lambda state_NS: 0.1 * state_NS))
    logged, unlogged = (
        trained.values(STATES, np.full((7, 1), action), ZEROS).std(axis=1).mean() for action in (0.0, 0.9)
    )
    assert unlogged > 3 * logged > 0


@pytest.mark.slow
def test_the_uncertainty_term_chooses_actions_on_which_critics_agree():
    def uncertainty(weight: float) -> float:
        trained = learner(replace(BANDIT, uncertainty=weight, box_penalty=0.0))
        trained.fit(bandit_log(lambda state_NS: 0.1 + 0.0 * state_NS, rows=300, noise=0.5))
        return float(trained.values(STATES, trained.act(STATES), ZEROS).std(axis=1).mean())

    assert uncertainty(3.0) < 0.8 * uncertainty(0.0)


@pytest.mark.slow
def test_one_critic_has_no_uncertainty():
    trained = learner(replace(BANDIT, critics=1, uncertainty=100.0))
    trained.fit(bandit_log(lambda state_NS: 0.1 * state_NS))
    assert trained.act(STATES) == pytest.approx(0.1 * STATES, abs=0.03)


def test_the_same_log_and_seed_give_the_same_policy():
    log = bandit_log(lambda state_NS: 0.1 * state_NS)
    policies = []
    for seed in (0, 0, 1):
        trained = learner(replace(BANDIT, steps=30, seed=seed))
        trained.fit(log)
        policies.append(trained.act(STATES))
    assert (policies[0] == policies[1]).all()
    assert (policies[0] != policies[2]).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFLINE_BASELINES)
def test_each_offline_baseline_learns_the_best_of_the_logged_actions(name):
    """Actions of the whole range are in the log. The action 0 loses .16."""
    log = bandit_log(lambda state_NS: 0.4 * np.sign(state_NS), half_width=0.8)
    trained = OFFLINE_BASELINES[name](replace(BANDIT, steps=500), state=1, actions=1)
    trained.fit(log)
    states = STATES[STATES[:, 0] != 0]
    assert ((trained.act(states) - 0.4 * np.sign(states)) ** 2).mean() < 0.1


def test_rewards_are_not_negative_and_next_steps_are_rows():
    log = bandit_log(lambda state_NS: state_NS, rows=3)
    with pytest.raises(ValueError, match="negative"):
        replace(log, reward_NQ=log.reward_NQ - 5.0)
    with pytest.raises(ValueError, match="not a row"):
        replace(log, next_N=np.array([1, 3, -1]))


def test_returns_are_discounted_to_the_end_of_the_session():
    arrays = np.zeros((3, 1))
    log = Transitions(arrays, arrays, np.array([[1.0], [2.0], [4.0]]), arrays, np.array([1, -1, -1]))
    assert log.returns(0.5)[:, 0].tolist() == [2.0, 2.0, 4.0]
