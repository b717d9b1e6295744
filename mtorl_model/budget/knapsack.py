"""User level, our own step beyond the paper: the best set of (user, channel) pairs for a budget.

Top N (section 3.7.2) knows one price. Where channels cost differently, the question is a multiple-choice knapsack:

    maximise sum r_uc x_uc   with   sum w_uc x_uc <= W,   sum_c x_uc <= 1 for each user,   x_uc in {0, 1}

Its Lagrangian relaxation puts a price lambda on money: each user takes the channel of greatest r - lambda w, or none
where that is not above 0. For every lambda >= 0

    g(lambda) = lambda W + sum_u max(0, max_c r_uc - lambda w_uc)   >=   the reward of every plan within the budget,

so the least g is a certificate. Spending falls as lambda rises: a bisection finds the price at which it crosses the
budget, and what is left buys the steps between the two sides of the crossing. What is lost against the bound is less
than the reward of one pair. Kellerer, Pferschy, Pisinger: Knapsack Problems (2004), chapter 11.

Shapes: U users, A actions (channels).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mtorl_model.data.money import MOST_NANO, Floats, Ints, affordable, total_nano
from schemas.errors import UserError

NOTHING = -1  # in place of a channel: this user is not shown anything
_USERS_AT_ONCE = 32_768  # the rows of a block stay in the processor's cache
_HALVINGS = 200
_CLOSE = 1e-12  # relative width of the price's bracket at which halving ends


@dataclass(frozen=True, slots=True)
class Plan:
    """Pairs within a budget. channel_U: index of the channel, or NOTHING."""

    channel_U: npt.NDArray[np.int64]
    reward: float  # of the pairs chosen
    spend_nano: int  # their cost; never above the budget
    bound: float  # no plan within the budget earns more than this
    price: float  # lambda, reward that one more nano would buy

    @property
    def gap(self) -> float:
        """The certificate: the reward that a better plan can have beyond this one's, at most."""
        return max(self.bound - self.reward, 0.0)


def best_pairs(reward_UA: Floats, cost_nano_UA: Ints, budget: int) -> Plan:
    """At most one channel a user, within the budget (nano).

    cost_nano_UA: [U, A], or anything that broadcasts to it. Raises UserError where a reward is no finite number or a
    cost is negative. Deterministic: equal prices are settled in the order of users and channels.
    """
    users, actions = reward_UA.shape
    cost_nano_UA = np.broadcast_to(cost_nano_UA, (users, actions))
    if budget < 0 or budget > MOST_NANO:
        raise UserError(f"a budget of {budget} nano: give one from 0 to {MOST_NANO}")
    if not np.isfinite(reward_UA).all():
        raise UserError("a predicted reward is no finite number: nothing can be planned with it; train the model again")
    if users and int(cost_nano_UA.min(initial=0)) < 0:
        raise UserError("an expected cost is negative: correct the costs")
    market = _Market(reward_UA, cost_nano_UA, budget)

    free = market.at(0.0)
    if free.spend <= budget:
        return Plan(free.channel_U, free.surplus, free.spend, free.surplus, 0.0)
    low, high = _crossing(market, budget, free)
    assert high.spend <= budget < low.spend
    channel_U = _fill(market, low.channel_U, high.channel_U, budget - high.spend)
    reward_U, cost_U = market.of(channel_U)
    reward = float(reward_U.sum())
    bound = min(answer.surplus + answer.price * budget for answer in (low, high))
    return Plan(channel_U, reward, total_nano(cost_U), max(bound, reward), high.price)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What users take at a price."""

    price: float
    channel_U: npt.NDArray[np.int64]
    spend: int
    surplus: float  # sum of r - lambda w over the pairs taken


class _Market:
    """All pairs that the budget covers one by one; dearer ones are in no plan. Kept by channel, in blocks of users."""

    def __init__(self, reward_UA: Floats, cost_nano_UA: Ints, budget: int) -> None:
        self._reward_UA, self._cost_UA = reward_UA, cost_nano_UA
        self._blocks: list[tuple[slice, Floats, Ints]] = []
        for start in range(0, len(reward_UA), _USERS_AT_ONCE):
            block = slice(start, start + _USERS_AT_ONCE)
            cost_AB = np.ascontiguousarray(cost_nano_UA[block].T)
            reward_AB = np.where(cost_AB <= budget, reward_UA[block].T, -np.inf)
            self._blocks.append((block, reward_AB, cost_AB))

    def only_free(self) -> _Answer:
        """At a price at which nobody takes anything that costs.

        That holds for the choices themselves: where reward by cost is below the least number there is, floats know no
        such price. The surplus is the one at the price that they do know, so the bound holds.
        """
        price = self._highest_price()
        channel_U = np.full(len(self._reward_UA), NOTHING, dtype=np.int64)
        for block, reward_AB, cost_AB in self._blocks:
            free_AB = np.where(cost_AB == 0, reward_AB, 0.0)
            channel_U[block] = np.where(free_AB.max(axis=0) > 0, free_AB.argmax(axis=0), NOTHING)
        return _Answer(price, channel_U, 0, self.at(price).surplus)

    def _highest_price(self) -> float:
        highest = 0.0
        for _, reward_AB, cost_AB in self._blocks:
            costs = (cost_AB > 0) & (reward_AB > 0)
            highest = max(highest, float(np.max(reward_AB[costs] / cost_AB[costs], initial=0.0)))
        return highest * (1 + 1e-9)

    def at(self, price: float) -> _Answer:
        channel_U = np.full(len(self._reward_UA), NOTHING, dtype=np.int64)
        spend, surplus = 0, 0.0
        for block, reward_AB, cost_AB in self._blocks:
            best_B, paid_B = np.zeros(reward_AB.shape[1]), np.zeros(reward_AB.shape[1], dtype=np.int64)
            choice_B = channel_U[block]  # a view
            for a, (reward_B, cost_B) in enumerate(zip(reward_AB, cost_AB, strict=True)):
                value_B = reward_B - price * cost_B
                better_B = value_B > best_B
                np.copyto(best_B, value_B, where=better_B)
                np.copyto(paid_B, cost_B, where=better_B)
                np.copyto(choice_B, a, where=better_B)
            spend += total_nano(paid_B)
            surplus += float(best_B.sum())
        return _Answer(price, channel_U, spend, surplus)

    def of(self, channel_U: npt.NDArray[np.int64]) -> tuple[Floats, Ints]:
        """[U]: reward and cost of these choices."""
        return _taken(self._reward_UA, self._cost_UA, channel_U)


def _taken(reward_UA: Floats, cost_UA: Ints, channel_U: npt.NDArray[np.int64]) -> tuple[Floats, Ints]:
    index_U1 = np.maximum(channel_U, 0)[:, None]
    takes_U = channel_U != NOTHING
    reward_U = np.where(takes_U, np.take_along_axis(reward_UA, index_U1, axis=1)[:, 0], 0.0)
    cost_U = np.where(takes_U, np.take_along_axis(cost_UA, index_U1, axis=1)[:, 0], 0)
    return reward_U, cost_U


def _crossing(market: _Market, budget: int, free: _Answer) -> tuple[_Answer, _Answer]:
    """Two prices close together: at the lower one users spend more than the budget, at the higher one no more."""
    low, high = free, market.only_free()
    # Prices span orders of magnitude: first find the right one, then halve within it.
    while low is free and high.price > 0:
        nearer = market.at(high.price / 16)
        if nearer.spend > budget:
            low = nearer
        else:
            high = nearer
    for _ in range(_HALVINGS):
        middle = (low.price + high.price) / 2
        if high.price - low.price <= _CLOSE * high.price or not low.price < middle < high.price:
            break
        answer = market.at(middle)
        low, high = (answer, high) if answer.spend > budget else (low, answer)
    return low, high


def _fill(
    market: _Market, dear_U: npt.NDArray[np.int64], cheap_U: npt.NDArray[np.int64], left: int
) -> npt.NDArray[np.int64]:
    """The cheap choices, and as many of the dear ones in their place as what is left can pay."""
    channel_U = cheap_U.copy()
    (dear_reward_U, dear_cost_U), (reward_U, cost_U) = market.of(dear_U), market.of(cheap_U)
    more_U, extra_U = dear_reward_U - reward_U, dear_cost_U - cost_U
    candidates = np.flatnonzero((dear_U != cheap_U) & (more_U > 0) & (extra_U >= 0))
    yields = more_U[candidates] / np.maximum(extra_U[candidates], 1)
    candidates = candidates[np.argsort(-yields, kind="stable")]
    while len(candidates := candidates[extra_U[candidates] <= left]):
        taken = candidates[: affordable(extra_U[candidates], left)]
        channel_U[taken] = dear_U[taken]
        left -= total_nano(extra_U[taken])
        candidates = candidates[len(taken) :]
    return channel_U
