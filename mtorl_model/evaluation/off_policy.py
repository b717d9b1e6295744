"""What a channel policy would have earned, estimated from the log of another policy.

Only where the log identifies it: the channel was drawn at random, with a known or countable chance. With weights
w = pi(a | x) / p(a), a the channel shown and p its chance:

    replay  mean reward of the labels whose shown channel is the one the policy recommends
    snips   sum w r / sum w                                         (Swaminathan and Joachims 2015)
    dr      mean of sum_a pi(a | x) q(x, a) + w (r - q(x, a_shown)) (Dudik et al. 2011)

q predicts the reward of every channel; it is fitted on other users than those it is asked about.
What is estimated is a change of one step: the policy is asked at the moments the log has, with the histories it has.
Shapes: N labels, A channels, F features, R replicates of a bootstrap over users.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, chi2_contingency
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from mtorl_model.evaluation.bootstrap import FEWEST_USERS, UserBootstrap, estimate, quotient

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FOLDS = 5
FEWEST_LABELS = 200  # below this an interval would say nothing
_PSEUDO_LABELS = 100  # a day's shares are pulled towards the log's by so many labels: few labels make no share
_MOST_OUTSIDE = 0.01  # share of a policy's wishes that may fall on channels which were never drawn
_SAME_CHANCE = 0.05  # a chance that differs by more (relative) from its channel's and day's usual one is odd
_MOST_ODD = 0.01  # share of odd chances that may be slips of the log; with more of them the chances depend on something
_NO_NUMBER: dict[str, float | None] = {"value": None, "low": None, "high": None}
# A draw is doubted where both fail: in a large log a trace of dependence is significant and does no harm.
_LEAST_P, _LARGEST_DEPENDENCE = 1e-3, 0.02


def daily_propensities(action_N: Ints, day_N: npt.NDArray[Any], actions: int) -> Floats:
    """[N]: the share of the channel shown among the labels of the same day, pulled towards its share in the log.

    An estimated propensity serves better than the pool's share: it corrects for the luck of the draw, and for a
    pool that changes from day to day.
    """
    _, day = np.unique(day_N, return_inverse=True)
    counts_DA = np.zeros((day.max() + 1, actions))
    np.add.at(counts_DA, (day, action_N), 1)
    prior_A = _PSEUDO_LABELS * counts_DA.sum(axis=0) / counts_DA.sum()
    shares_DA: Floats = (counts_DA + prior_A) / (counts_DA.sum(axis=1, keepdims=True) + _PSEUDO_LABELS)
    return shares_DA[day, action_N]


def depends_on_context(action_N: Ints, day_N: npt.NDArray[Any], logged_N: Floats) -> bool:
    """Whether the logged chances of one channel differ within a day: then they are used as they are."""
    _, group_N = np.unique(np.stack([np.unique(day_N, return_inverse=True)[1], action_N]), axis=1, return_inverse=True)
    usual_G = np.array([np.median(logged_N[group_N == group]) for group in range(group_N.max() + 1)])
    odd_N = np.abs(logged_N / usual_G[group_N] - 1) > _SAME_CHANCE
    return bool(odd_N.mean() > _MOST_ODD)


def uniformity(action_N: Ints, context_N: Ints, day_N: npt.NDArray[Any]) -> tuple[float, float]:
    """p-value that within a day the channel does not depend on a context known before it, and how strongly it does.

    A chi-square test of independence, summed over the days; the strength is Cramer's V less what chance alone
    makes of it, 0 to 1.
    """
    statistic, freedom, scale = 0.0, 0, 0
    for day in np.unique(day_N):
        of_day = day_N == day
        table = np.zeros((int(context_N.max()) + 1, int(action_N.max()) + 1))
        np.add.at(table, (context_N[of_day], action_N[of_day]), 1)
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
        if min(table.shape) > 1:
            found = chi2_contingency(table, correction=False)
            statistic, freedom = statistic + found.statistic, freedom + found.dof
            scale += int(table.sum()) * (min(table.shape) - 1)
    if not freedom:
        return 1.0, 0.0
    return float(chi2.sf(statistic, freedom)), float(np.sqrt(max(statistic - freedom, 0.0) / scale))


def cross_fitted_rewards(
    features_NF: npt.NDArray[Any],
    action_N: Ints,
    reward_N: Floats,
    user_N: npt.NDArray[Any],
    actions: int,
    *,
    seed: int = 0,
) -> Floats:
    """[N, A]: the predicted reward of each channel at each label, from a model fitted on other users."""
    predicted_NA = np.full((len(action_N), actions), reward_N.mean())
    users = len(np.unique(user_N))
    if users < FOLDS:
        return predicted_NA
    shown_NA = np.eye(actions)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, asked in folds.split(features_NF, groups=user_N):
        if len(np.unique(reward_N[fitted])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=50, l2_regularization=10.0,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        model.fit(np.hstack([features_NF[fitted], shown_NA[action_N[fitted]]]), reward_N[fitted])
        for a in range(actions):
            shown = np.broadcast_to(shown_NA[a], (len(asked), actions))
            predicted_NA[asked, a] = model.predict_proba(np.hstack([features_NF[asked], shown]))[:, 1]
    return predicted_NA


class OffPolicy:
    """The estimates of any policy on one log; all share the bootstrap's draws, so that differences are paired."""

    def __init__(
        self, action_N: Ints, reward_N: Floats, propensity_N: Floats, predicted_NA: Floats, users: UserBootstrap
    ) -> None:
        """propensity_N: the chance of the channel shown, > 0. predicted_NA: q, see cross_fitted_rewards."""
        self._action_N, self._reward_N, self._users = action_N, reward_N, users
        self._propensity_N, self._predicted_NA = propensity_N, predicted_NA
        self._never_drawn_A = np.bincount(action_N, minlength=predicted_NA.shape[1]) == 0
        self.logging_R = self._mean(reward_N)

    def outside(self, policy_NA: Floats) -> float:
        """The share of a policy that falls on channels which were never drawn: of these the log knows nothing."""
        return float(policy_NA[:, self._never_drawn_A].sum(axis=1).mean())

    def _mean(self, value_N: Floats) -> Floats:
        total, count = self._users.sums(np.stack([value_N, np.ones_like(value_N)], axis=1)).T
        mean_R: Floats = total / count
        return mean_R

    def _weights(self, policy_NA: Floats) -> Floats:
        wanted_N: Floats = np.take_along_axis(policy_NA, self._action_N[:, None], axis=1)[:, 0]
        return wanted_N / self._propensity_N

    def always(self, channel: int) -> Floats:
        """[N, A]: the policy that shows one channel."""
        policy_NA = np.zeros_like(self._predicted_NA)
        policy_NA[:, channel] = 1.0
        return policy_NA

    def snips(self, policy_NA: Floats) -> Floats:
        """[1 + R]: the self-normalised value; NaN where nothing matches."""
        weight_N = self._weights(policy_NA)
        earned, weight = self._users.sums(np.stack([weight_N * self._reward_N, weight_N], axis=1)).T
        return quotient(earned, weight)

    def doubly_robust(self, policy_NA: Floats) -> Floats:
        """[1 + R]."""
        shown_N = np.take_along_axis(self._predicted_NA, self._action_N[:, None], axis=1)[:, 0]
        direct_N = (policy_NA * self._predicted_NA).sum(axis=1)
        return self._mean(direct_N + self._weights(policy_NA) * (self._reward_N - shown_N))

    def replay(self, policy_NA: Floats) -> Floats:
        """[1 + R]: of the policy's recommendation, its most probable channel."""
        matched_N = (policy_NA.argmax(axis=1) == self._action_N).astype(float)
        earned, matches = self._users.sums(np.stack([matched_N * self._reward_N, matched_N], axis=1)).T
        return quotient(earned, matches)

    def report(self, policy_NA: Floats, fixed: int, *, deterministic: bool) -> dict[str, Any]:
        """All estimates of a policy, and its doubly robust gain over the log and over one fixed channel.

        fixed: the channel that did best on training users. deterministic: whether policy_NA is one-hot. Without a
        number, but with a reason, where the policy or the fixed channel falls on what was never drawn.
        """
        if (outside := self.outside(policy_NA)) > _MOST_OUTSIDE:
            names = ("snips", "dr", "minus_logging", "minus_best_fixed", *(("replay",) if deterministic else ()))
            return {
                "why": f"{outside:.0%} of it falls on channels that were never drawn",
                **dict.fromkeys(names, _NO_NUMBER),
            }
        weight_N = self._weights(policy_NA)
        dr_R, fixed_NA = self.doubly_robust(policy_NA), self.always(fixed)
        compared = self.outside(fixed_NA) <= _MOST_OUTSIDE
        found: dict[str, Any] = {
            "snips": estimate(self.snips(policy_NA)),
            "dr": estimate(dr_R),
            "minus_logging": estimate(dr_R - self.logging_R),
            "minus_best_fixed": estimate(dr_R - self.doubly_robust(fixed_NA)) if compared else _NO_NUMBER,
            "ess": float(weight_N.sum() ** 2 / (weight_N**2).sum()) if weight_N.any() else 0.0,
        }
        if deterministic:
            found["replay"] = estimate(self.replay(policy_NA))
            found["matches"] = int((policy_NA.argmax(axis=1) == self._action_N).sum())
        return found


def policy_report(
    policy_NA: Floats,
    action_N: Ints,
    reward_N: Floats,
    features_NF: npt.NDArray[Any],
    previous_N: Ints,
    day_N: npt.NDArray[Any],
    logged_N: Floats,
    user_N: npt.NDArray[Any],
    best_fixed: int,
    channels: tuple[str, ...],
    seed: int = 0,
) -> dict[str, Any]:
    """`policy` of metrics.json, on the labels that were drawn at random (all of the arguments hold only these).

    previous_N: the user's channel before, -1 for none: what the uniformity test conditions on. logged_N: the log's own
    chance of the channel shown; where it is one for each channel and day, the day's shares serve better. best_fixed:
    the channel with the highest rate among training users. The headline value is the recommended channel's (equation
    10), the stochastic policy's (equation 11) stands beside it.
    """
    users = UserBootstrap(user_N, seed=seed)
    if len(action_N) < FEWEST_LABELS or users.users < FEWEST_USERS:
        return not_identified(
            f"only {len(action_N)} exposures of {users.users} users whose channel was drawn at random: too few"
        )
    actions = policy_NA.shape[1]
    recommended_NA = np.eye(actions)[policy_NA.argmax(axis=1)]
    never_drawn_A = np.bincount(action_N, minlength=actions) == 0
    outside = float(recommended_NA[:, never_drawn_A].sum(axis=1).mean())
    if outside > _MOST_OUTSIDE:
        return not_identified(f"{outside:.0%} of the recommendations are channels that were never drawn")
    contextual = depends_on_context(action_N, day_N, logged_N)
    # Chances that depend on something cannot be held against the shares. But 1 / chance has the mean of at most the
    # number of channels, whatever they depend on.
    p, strength = (None, None) if contextual else uniformity(action_N, previous_N + 1, day_N)
    counted = estimate(users.sums(1 / logged_N[:, None])[:, 0] / users.sums(np.ones((len(action_N), 1)))[:, 0])
    if contextual and counted["low"] is not None and counted["low"] > actions:
        return not_identified(
            f"the logged chances are too small: 1 / chance has the mean {counted['value']:.2f} with {actions} channels"
        ) | {"labels": len(action_N)}
    if p is not None and strength is not None and p < _LEAST_P and strength > _LARGEST_DEPENDENCE:
        return not_identified(
            f"the channel depends on the one before (p = {p:.1g}, V = {strength:.2f}): it was not drawn at random"
        ) | {"labels": len(action_N)}
    propensity_N = logged_N if contextual else daily_propensities(action_N, day_N, actions)
    predicted_NA = cross_fitted_rewards(features_NF, action_N, reward_N, user_N, actions, seed=seed)
    log = OffPolicy(action_N, reward_N, propensity_N, predicted_NA, users)
    deterministic = log.report(recommended_NA, best_fixed, deterministic=True)
    fixed = {channel: estimate(log.snips(log.always(a))) for a, channel in enumerate(channels)}
    return {
        "identified": True,
        "why": "the channel was drawn at random, with the "
        + ("chances that the log names" if contextual else "shares of each day"),
        "labels": len(action_N),
        "users": users.users,
        "value": {
            "snips": deterministic["snips"]["value"],
            "low": deterministic["snips"]["low"],
            "high": deterministic["snips"]["high"],
        },
        "logging_value": float(log.logging_R[0]),
        "best_fixed": fixed[channels[best_fixed]]["value"],
        "best_fixed_channel": channels[best_fixed],
        "ess": deterministic["ess"],
        "uniformity_p": p,
        "dependence": strength,
        "logging": estimate(log.logging_R),
        "fixed": fixed,
        "deterministic": deterministic,
        "stochastic": log.report(policy_NA, best_fixed, deterministic=False),
    }  # fmt: skip


def not_identified(why: str) -> dict[str, Any]:
    """No number: the log does not say what another policy would have earned."""
    return {"identified": False, "why": why, "value": None, "logging_value": None, "best_fixed": None, "ess": None}
