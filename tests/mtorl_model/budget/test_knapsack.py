"""The best pairs for a budget: within it, certified, and compared with exact solutions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from mtorl_model.budget.knapsack import NO_CHANNEL, best_pairs
from mtorl_model.data.money import MAX_NANO, affordable, budget_nano, cost_nano, in_units, total_nano
from schemas.errors import UserError

AMOUNTS = st.one_of(st.integers(0, 12), st.integers(0, 10**6), st.integers(0, MAX_NANO))
REWARDS = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(-0.5, 1.0), st.floats(1e-9, 1e-3),
                   st.sampled_from([5e-324, 2.5e-323, 1e-310]), st.floats(0, 1e-300))  # fmt: skip


@st.composite
def markets(draw):
    """Few users and channels, rewards and costs of all sizes, many ties, and a budget."""
    users, actions = draw(st.integers(0, 5)), draw(st.integers(1, 3))
    reward_UA = draw(arrays(np.float64, (users, actions), elements=REWARDS))
    cost_UA = draw(arrays(np.int64, (users, actions), elements=AMOUNTS))
    return reward_UA, cost_UA, draw(st.one_of(AMOUNTS, st.integers(0, 40)))


def best_of_all(reward_UA, cost_UA, budget) -> float:
    """The greatest reward of any plan within the budget, by trying every plan, with whole numbers for money."""
    users, actions = reward_UA.shape
    return max(
        sum(float(reward_UA[u, c]) for u, c in enumerate(plan) if c >= 0)
        for plan in product(range(-1, actions), repeat=users)
        if sum(int(cost_UA[u, c]) for u, c in enumerate(plan) if c >= 0) <= budget
    )


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(markets())
def test_a_plan_is_within_budget_and_its_certificate_holds(market):
    reward_UA, cost_UA, budget = market
    plan = best_pairs(*market)
    bought = [(u, c) for u, c in enumerate(plan.channel_U.tolist()) if c != NO_CHANNEL]
    assert plan.spend_nano == sum(int(cost_UA[u, c]) for u, c in bought) <= budget
    assert plan.reward == pytest.approx(sum(reward_UA[u, c] for u, c in bought))
    best, slack = best_of_all(*market), 1e-9
    assert plan.reward <= best + slack
    assert best <= plan.bound + slack
    assert best - plan.reward <= plan.gap + slack
    # The certificate is tight: less than one pair is lost.
    assert plan.gap <= max(float(reward_UA.max(initial=0.0)), 0.0) + slack


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(0.05, 0.9))
def test_the_bound_is_that_of_the_relaxation(seed, actions, share):
    """Lagrangian and linear relaxation have the same optimum: an independent solver must find it."""
    rng = np.random.default_rng(seed)
    reward_UA, cost_UA = rng.random((8, actions)), rng.integers(1, 1000, (8, actions))
    budget = int(share * cost_UA.max(axis=1).sum())
    reward_UA[cost_UA > budget] = 0.0
    one_channel_per_user = np.kron(np.eye(8), np.ones(actions))
    solved = linprog(
        -reward_UA.ravel(),
        A_ub=np.vstack([cost_UA.ravel(), one_channel_per_user]),
        b_ub=[budget, *np.ones(8)],
        bounds=(0, 1),
    )
    assert best_pairs(reward_UA, cost_UA, budget).bound == pytest.approx(-solved.fun, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("reward", "cost", "budget"), [(5e-324, 6, 6), (2.5e-323, 2, 3), (1e-310, 10**15, 15 * 10**14)]
)
def test_rewards_too_small_for_a_price_stay_within_the_budget(reward, cost, budget):
    """Reward per cost is below the smallest float: at any price that floats allow, every user buys."""
    assert best_pairs(np.full((2, 1), reward), np.array([cost]), budget).spend_nano == cost


def test_equal_users_are_bought_until_the_money_is_spent():
    """All users change their choice at the same price: the price alone would buy for all of them or for no user."""
    plan = best_pairs(np.full((100_000, 2), 0.25), np.array([7, 9]), 7 * 12_345 + 3)
    assert (plan.channel_U == 0).sum() == 12_345
    assert plan.gap < 0.25


def test_a_costlier_channel_is_bought_if_it_earns_its_cost():
    reward_UA = np.array([[0.5, 0.9], [0.5, 0.6]])
    assert best_pairs(reward_UA, np.array([10, 20]), 30).channel_U.tolist() == [1, 0]
    assert best_pairs(reward_UA, np.array([10, 20]), 20).channel_U.tolist() == [0, 0]
    assert best_pairs(reward_UA, np.array([10, 20]), 9).channel_U.tolist() == [NO_CHANNEL, NO_CHANNEL]
    assert best_pairs(reward_UA, np.array([0, 20]), 0).channel_U.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("reward", "cost", "budget", "message"),
    [(np.nan, 1, 5, "not a finite number"), (0.5, -1, 5, "negative"), (0.5, 1, -1, "budget of -1")],
)
def test_invalid_rewards_costs_and_budgets_are_refused(reward, cost, budget, message):
    with pytest.raises(UserError, match=message):
        best_pairs(np.array([[0.1, reward]]), np.array([[1, cost]]), budget)


@pytest.mark.parametrize(
    ("amount", "message"), [(np.nan, "not a number"), (-1e-9, "negative"), (np.inf, "too large"), (1e12, "too large")]
)
def test_an_invalid_cost_is_refused(amount, message):
    with pytest.raises(UserError, match=message):
        cost_nano(np.array([0.0, amount]))


@pytest.mark.parametrize("amount", [float("nan"), "inf", -0.5, "1e12", "1e999999999", "two", ""])
def test_an_invalid_budget_is_refused(amount):
    with pytest.raises(UserError, match="a budget of"):
        budget_nano(amount)


def test_money_is_whole_nano():
    assert cost_nano(np.array([0.0, 1e-9, 0.1, 3.0])).tolist() == [0, 1, 100_000_000, 3_000_000_000]
    assert budget_nano("2.5e-9") == 2  # rounded down
    assert budget_nano("4000000000.9999999999999999999999999") == 4_000_000_000_999_999_999


@given(st.integers(0, MAX_NANO))
def test_an_amount_in_the_logs_unit_is_read_back_exactly(nano):
    assert budget_nano(in_units(nano)) == nano
    assert budget_nano(f"{nano // 10**9}.{nano % 10**9:09d}") == nano
    cents = nano % 10**6
    assert budget_nano(cents / 100) == cents * 10**7  # the float nearest to 2.01 is smaller, but 2.01 is meant


@settings(deadline=None)
@given(st.lists(AMOUNTS, max_size=8), AMOUNTS)
def test_sums_are_exact_however_large(amounts, budget):
    cost_N = np.array(amounts, dtype=np.int64)
    assert total_nano(cost_N) == sum(amounts)
    fits = affordable(cost_N, budget)
    assert sum(amounts[:fits]) <= budget
    assert fits == len(amounts) or sum(amounts[: fits + 1]) > budget
