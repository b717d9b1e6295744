"""User level, our own step beyond the paper: the best set of (user, channel) pairs for a budget.

Top N (section 3.7.2) assumes one price for all. If channels have different costs, the problem is a multiple-choice
knapsack:

    maximise sum r_uc x_uc   with   sum w_uc x_uc <= W,   sum_c x_uc <= 1 for each user,   x_uc in {0, 1}

Its Lagrangian relaxation puts a price lambda on money: each user takes the channel with the greatest r - lambda w, or
no channel if none of these values is positive. For every lambda >= 0

    g(lambda) = lambda W + sum_u max(0, max_c r_uc - lambda w_uc)   >=   the reward of every plan within the budget,

so the smallest g is a certificate. Spending falls as lambda rises. A bisection finds the price at which spending
crosses the budget, and the remaining money buys some of the changes between the two sides of the crossing. The loss
against the bound is smaller than the reward of one pair. Kellerer, Pferschy, Pisinger: Knapsack Problems (2004),
chapter 11.

Shapes: U users, A actions (channels), B users of a block.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtorl_model.data.money import MAX_NANO, Floats, Ints, affordable, total_nano
from schemas.errors import UserError

NO_CHANNEL = -1  # the plan buys nothing for this user
_USERS_PER_BLOCK = 32_768  # the rows of a block fit into the processor's cache
_MAX_HALVINGS = 200
_TOLERANCE = 1e-12  # the relative width of the price's bracket at which the bisection ends


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs within a budget. channel_U: an index, or NO_CHANNEL."""

    channel_U: npt.NDArray[np.int64]
    reward: float  # of the chosen pairs
    spend_nano: int  # the cost of the chosen pairs; never above the budget
    bound: float  # no plan within the budget earns more than this
    price: float  # lambda, the reward that one more nano would buy

    @property
    def gap(self) -> float:
        """The certificate: a better plan earns at most this much more."""
        return max(self.bound - self.reward, 0.0)


def best_pairs(reward_UA: Floats, cost_nano_UA: Ints, budget: int) -> Plan:
    """Choose at most one channel per user, within the budget (nano).

    cost_nano_UA: [U, A], or a shape that broadcasts to it. Raises UserError if a reward is not a finite number or a
    cost is negative. Deterministic: ties are broken by the order of users and channels.
    """
    users, actions = reward_UA.shape
    cost_nano_UA = np.broadcast_to(cost_nano_UA, (users, actions))
    if budget < 0 or budget > MAX_NANO:
        raise UserError(f"a budget of {budget} nano: give one from 0 to {MAX_NANO}")
    if not np.isfinite(reward_UA).all():
        raise UserError("a predicted reward is not a finite number, so no plan can be made: train the model again")
    if users and int(cost_nano_UA.min(initial=0)) < 0:
        raise UserError("an expected cost is negative: correct the costs")
    market = _Market(reward_UA, cost_nano_UA, budget)

    unlimited = market.demand(0.0)
    if unlimited.spend <= budget:
        return Plan(unlimited.channel_U, unlimited.surplus, unlimited.spend, unlimited.surplus, 0.0)
    low, high = _bracket_price(market, budget, unlimited)
    assert high.spend <= budget < low.spend
    channel_U = _spend_remainder(market, low.channel_U, high.channel_U, budget - high.spend)
    reward_U, cost_U = market.rewards_and_costs(channel_U)
    reward = float(reward_U.sum())
    bound = min(demand.surplus + demand.price * budget for demand in (low, high))
    return Plan(channel_U, reward, total_nano(cost_U), max(bound, reward), high.price)


@dataclass(frozen=True, slots=True)
class _Demand:
    """The channels that users take at a price. surplus: the sum of r - lambda w over them."""

    price: float
    channel_U: npt.NDArray[np.int64]
    spend: int
    surplus: float


class _Market:
    """All pairs whose cost is within the budget; no plan contains another pair. Stored by channel, in user blocks."""

    def __init__(self, reward_UA: Floats, cost_nano_UA: Ints, budget: int) -> None:
        self._reward_UA, self._cost_UA = reward_UA, cost_nano_UA
        self._blocks: list[tuple[slice, Floats, Ints]] = []
        for start in range(0, len(reward_UA), _USERS_PER_BLOCK):
            block = slice(start, start + _USERS_PER_BLOCK)
            cost_AB = np.ascontiguousarray(cost_nano_UA[block].T)
            reward_AB = np.where(cost_AB <= budget, reward_UA[block].T, -np.inf)
            self._blocks.append((block, reward_AB, cost_AB))

    def demand(self, price: float) -> _Demand:
        channel_U = np.full(len(self._reward_UA), NO_CHANNEL, dtype=np.int64)
        spend, surplus = 0, 0.0
        for block, reward_AB, cost_AB in self._blocks:
            best_B, paid_B = np.zeros(reward_AB.shape[1]), np.zeros(reward_AB.shape[1], dtype=np.int64)
            channel_B = channel_U[block]  # a view
            for a, (reward_B, cost_B) in enumerate(zip(reward_AB, cost_AB, strict=True)):
                value_B = reward_B - price * cost_B
                better_B = value_B > best_B
                np.copyto(best_B, value_B, where=better_B)
                np.copyto(paid_B, cost_B, where=better_B)
                np.copyto(channel_B, a, where=better_B)
            spend += total_nano(paid_B)
            surplus += float(best_B.sum())
        return _Demand(price, channel_U, spend, surplus)

    def demand_without_spending(self) -> _Demand:
        """The demand at a price that is too high for every pair with a cost.

        The channels are chosen without a price, because rewards can be so small that no float is a high enough price.
        The surplus is that of the highest price that floats allow, so the bound stays correct.
        """
        price = self._highest_price()
        channel_U = np.full(len(self._reward_UA), NO_CHANNEL, dtype=np.int64)
        for block, reward_AB, cost_AB in self._blocks:
            free_AB = np.where(cost_AB == 0, reward_AB, 0.0)
            channel_U[block] = np.where(free_AB.max(axis=0) > 0, free_AB.argmax(axis=0), NO_CHANNEL)
        return _Demand(price, channel_U, 0, self.demand(price).surplus)

    def _highest_price(self) -> float:
        highest = 0.0
        for _, reward_AB, cost_AB in self._blocks:
            worth_buying_AB = (cost_AB > 0) & (reward_AB > 0)
            reward_per_cost = reward_AB[worth_buying_AB] / cost_AB[worth_buying_AB]
            highest = max(highest, float(np.max(reward_per_cost, initial=0.0)))
        return highest * (1 + 1e-9)

    def rewards_and_costs(self, channel_U: npt.NDArray[np.int64]) -> tuple[Floats, Ints]:
        """[U]: reward and cost of these choices; 0 for NO_CHANNEL."""
        index_U1 = np.maximum(channel_U, 0)[:, None]
        has_channel_U = channel_U != NO_CHANNEL
        reward_U = np.where(has_channel_U, np.take_along_axis(self._reward_UA, index_U1, axis=1)[:, 0], 0.0)
        cost_U = np.where(has_channel_U, np.take_along_axis(self._cost_UA, index_U1, axis=1)[:, 0], 0)
        return reward_U, cost_U


def _bracket_price(market: _Market, budget: int, unlimited: _Demand) -> tuple[_Demand, _Demand]:
    """Two prices close together: at the lower one users spend more than the budget, at the higher one they do not."""
    low, high = unlimited, market.demand_without_spending()
    # Prices span orders of magnitude: first find the right one, then bisect within it.
    while low is unlimited and high.price > 0:
        lower = market.demand(high.price / 16)
        if lower.spend > budget:
            low = lower
        else:
            high = lower
    for _ in range(_MAX_HALVINGS):
        middle = (low.price + high.price) / 2
        if high.price - low.price <= _TOLERANCE * high.price or not low.price < middle < high.price:
            break
        demand = market.demand(middle)
        low, high = (demand, high) if demand.spend > budget else (low, demand)
    return low, high


def _spend_remainder(
    market: _Market, costly_U: npt.NDArray[np.int64], cheap_U: npt.NDArray[np.int64], remainder: int
) -> npt.NDArray[np.int64]:
    """The cheap choices, some of them replaced by the costly ones as far as the remainder (nano) allows."""
    channel_U = cheap_U.copy()
    (costly_reward_U, costly_cost_U) = market.rewards_and_costs(costly_U)
    (cheap_reward_U, cheap_cost_U) = market.rewards_and_costs(cheap_U)
    extra_reward_U, extra_cost_U = costly_reward_U - cheap_reward_U, costly_cost_U - cheap_cost_U
    candidates = np.flatnonzero((costly_U != cheap_U) & (extra_reward_U > 0) & (extra_cost_U >= 0))
    reward_per_cost = extra_reward_U[candidates] / np.maximum(extra_cost_U[candidates], 1)
    candidates = candidates[np.argsort(-reward_per_cost, kind="stable")]
    while len(candidates := candidates[extra_cost_U[candidates] <= remainder]):
        bought = candidates[: affordable(extra_cost_U[candidates], remainder)]
        channel_U[bought] = costly_U[bought]
        remainder -= total_nano(extra_cost_U[bought])
        candidates = candidates[len(bought) :]
    return channel_U
