"""The value of a channel policy, estimated from a log of another policy.

Possible only if the log identifies it: the channel was drawn at random, with a probability that is known or can be
estimated by counting. With weights w = pi(a | x) / p(a), a being the channel of the log and p its probability:

    replay  mean reward of the labels whose channel the policy recommends
    snips   sum w r / sum w                                         (Swaminathan and Joachims 2015)
    dr      mean of sum_a pi(a | x) q(x, a) + w (r - q(x, a_log))   (Dudik et al. 2011)

q predicts the reward of every channel; it predicts only for users on which it was not fitted. The estimates are for a
change of one step: the policy chooses at the moments of the log, given the histories of the log.
Shapes: N labels, A channels, F features, R replicates of a bootstrap over users.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2, chi2_contingency
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from mtorl_model.evaluation.bootstrap import FEWEST_USERS, UserBootstrap, estimate, quotient

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FOLDS = 5
FEWEST_LABELS = 200  # with fewer labels an interval would be too wide to be useful
_PSEUDO_LABELS = 100  # number of labels with the log's shares that are added to each day, which may have few labels
MAX_NEVER_DRAWN = 0.01  # share of a policy's probability that may be on channels which were never drawn
_SAME_CHANCE = 0.05  # a chance is unusual if it differs by more (relative) from the median of its channel and day
_MAX_UNUSUAL = 0.01  # share of unusual chances that may be errors of the log; with more, chances depend on the context
_NO_NUMBER: dict[str, float | None] = {"value": None, "low": None, "high": None}
# Randomness is rejected only if both limits are exceeded: in a large log a harmless dependence can be significant.
_LEAST_P, _LARGEST_DEPENDENCE = 1e-3, 0.02


def daily_propensities(action_N: Ints, day_N: npt.NDArray[Any], actions: int) -> Floats:
    """[N]: for each label, the share of its channel on the same day, shrunk towards the channel's share in the log.

    These estimates are better than the constant shares from which channels were drawn, because they correct for chance
    and for shares that change from day to day.
    """
    _, day = np.unique(day_N, return_inverse=True)
    counts_DA = np.zeros((day.max() + 1, actions))
    np.add.at(counts_DA, (day, action_N), 1)
    prior_A = _PSEUDO_LABELS * counts_DA.sum(axis=0) / counts_DA.sum()
    shares_DA: Floats = (counts_DA + prior_A) / (counts_DA.sum(axis=1, keepdims=True) + _PSEUDO_LABELS)
    return shares_DA[day, action_N]


def depends_on_context(action_N: Ints, day_N: npt.NDArray[Any], logged_N: Floats) -> bool:
    """Whether the logged chances of a channel differ within a day. If so, they are used directly as propensities."""
    _, group_N = np.unique(np.stack([np.unique(day_N, return_inverse=True)[1], action_N]), axis=1, return_inverse=True)
    median_G = np.array([np.median(logged_N[group_N == group]) for group in range(group_N.max() + 1)])
    is_unusual_N = np.abs(logged_N / median_G[group_N] - 1) > _SAME_CHANCE
    return bool(is_unusual_N.mean() > _MAX_UNUSUAL)


def uniformity(action_N: Ints, context_N: Ints, day_N: npt.NDArray[Any]) -> tuple[float, float]:
    """Test whether the channel is independent of an earlier context: the p-value, and the strength of the dependence.

    context_N: from 0. A chi-square test within each day, summed over the days. The strength is Cramer's V with its
    expected value under independence removed, 0 to 1.
    """
    statistic, freedom, scale = 0.0, 0, 0
    for day in np.unique(day_N):
        is_day_N = day_N == day
        table = np.zeros((int(context_N.max()) + 1, int(action_N.max()) + 1))
        np.add.at(table, (context_N[is_day_N], action_N[is_day_N]), 1)
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
        if min(table.shape) > 1:
            test = chi2_contingency(table, correction=False)
            statistic, freedom = statistic + test.statistic, freedom + test.dof
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
    """[N, A]: the predicted reward of each channel at each label, by a model that was fitted on other users.

    With fewer users than FOLDS it is the mean reward.
    """
    predicted_NA = np.full((len(action_N), actions), reward_N.mean())
    users = len(np.unique(user_N))
    if users < FOLDS:
        return predicted_NA
    one_hot_AA = np.eye(actions)
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted_rows, predicted_rows in folds.split(features_NF, groups=user_N):
        if len(np.unique(reward_N[fitted_rows])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, min_samples_leaf=50, l2_regularization=10.0,
            early_stopping=False, random_state=seed,
        )  # fmt: skip
        model.fit(np.hstack([features_NF[fitted_rows], one_hot_AA[action_N[fitted_rows]]]), reward_N[fitted_rows])
        for a in range(actions):
            channel_XA = np.broadcast_to(one_hot_AA[a], (len(predicted_rows), actions))
            inputs = np.hstack([features_NF[predicted_rows], channel_XA])
            predicted_NA[predicted_rows, a] = model.predict_proba(inputs)[:, 1]
    return predicted_NA


class OffPolicy:
    """Estimates of any policy on one log. All use the same bootstrap draws, so that differences are paired."""

    def __init__(
        self, action_N: Ints, reward_N: Floats, propensity_N: Floats, predicted_NA: Floats, users: UserBootstrap
    ) -> None:
        """propensity_N: the probability of the label's channel, > 0. predicted_NA: q, see cross_fitted_rewards."""
        self._action_N, self._reward_N, self._users = action_N, reward_N, users
        self._propensity_N, self._predicted_NA = propensity_N, predicted_NA
        self.users = users.users
        self._never_drawn_A = np.bincount(action_N, minlength=predicted_NA.shape[1]) == 0
        self.logging_R = self._mean(reward_N)

    def never_drawn_share(self, policy_NA: Floats) -> float:
        """The share of a policy's probability on channels that were never drawn, for which the log has no reward."""
        return float(policy_NA[:, self._never_drawn_A].sum(axis=1).mean())

    def _mean(self, value_N: Floats) -> Floats:
        total, count = self._users.sums(np.stack([value_N, np.ones_like(value_N)], axis=1)).T
        mean_R: Floats = total / count
        return mean_R

    def _weights(self, policy_NA: Floats) -> Floats:
        probability_N: Floats = np.take_along_axis(policy_NA, self._action_N[:, None], axis=1)[:, 0]
        return probability_N / self._propensity_N

    def fixed_policy(self, channel: int) -> Floats:
        """[N, A]: the policy that always chooses one channel."""
        policy_NA = np.zeros_like(self._predicted_NA)
        policy_NA[:, channel] = 1.0
        return policy_NA

    def snips(self, policy_NA: Floats) -> Floats:
        """[1 + R]: the self-normalised value; NaN if all weights are 0."""
        weight_N = self._weights(policy_NA)
        earned, weight = self._users.sums(np.stack([weight_N * self._reward_N, weight_N], axis=1)).T
        return quotient(earned, weight)

    def doubly_robust(self, policy_NA: Floats) -> Floats:
        """[1 + R]: the doubly robust value."""
        predicted_N = np.take_along_axis(self._predicted_NA, self._action_N[:, None], axis=1)[:, 0]
        direct_N = (policy_NA * self._predicted_NA).sum(axis=1)
        return self._mean(direct_N + self._weights(policy_NA) * (self._reward_N - predicted_N))

    def replay(self, policy_NA: Floats) -> Floats:
        """[1 + R]: the replay value of the policy's recommendation, which is its most probable channel."""
        matched_N = (policy_NA.argmax(axis=1) == self._action_N).astype(float)
        earned, matches = self._users.sums(np.stack([matched_N * self._reward_N, matched_N], axis=1)).T
        return quotient(earned, matches)

    def report(self, policy_NA: Floats, fixed: int, *, deterministic: bool) -> dict[str, Any]:
        """All estimates of a policy, and its doubly robust gain over the log and over one fixed channel.

        fixed: the best channel on training users. deterministic: whether policy_NA is one-hot. If the policy or the
        fixed channel has probability on channels that were never drawn, the numbers are None.
        """
        if (never_drawn := self.never_drawn_share(policy_NA)) > MAX_NEVER_DRAWN:
            names = ("snips", "dr", "minus_logging", "minus_best_fixed", *(("replay",) if deterministic else ()))
            return {
                "why": f"{never_drawn:.0%} of it falls on channels that were never drawn",
                **dict.fromkeys(names, _NO_NUMBER),
            }
        weight_N = self._weights(policy_NA)
        dr_R, fixed_NA = self.doubly_robust(policy_NA), self.fixed_policy(fixed)
        is_comparable = self.never_drawn_share(fixed_NA) <= MAX_NEVER_DRAWN
        estimates: dict[str, Any] = {
            "snips": estimate(self.snips(policy_NA)),
            "dr": estimate(dr_R),
            "minus_logging": estimate(dr_R - self.logging_R),
            "minus_best_fixed": estimate(dr_R - self.doubly_robust(fixed_NA)) if is_comparable else _NO_NUMBER,
            "ess": float(weight_N.sum() ** 2 / (weight_N**2).sum()) if weight_N.any() else 0.0,
        }
        if deterministic:
            estimates["replay"] = estimate(self.replay(policy_NA))
            estimates["matches"] = int((policy_NA.argmax(axis=1) == self._action_N).sum())
        return estimates


class DrawnLabels(NamedTuple):
    """N labels whose channel was drawn at random.

    previous_N: the user's previous channel, -1 without one; the context of the uniformity test. logged_N: the chance of
    the label's channel in the log; it is not used if it is constant for each channel and day, because the day's shares
    are better estimates.
    """

    action_N: Ints
    reward_N: Floats
    feature_NF: npt.NDArray[Any]
    previous_N: Ints
    day_N: npt.NDArray[Any]
    logged_N: Floats
    user_N: npt.NDArray[Any]


class Identified(NamedTuple):
    """A log that identifies the value of another policy; p and strength: of the test of randomness, None without it."""

    log: OffPolicy
    reason: str
    p: float | None
    strength: float | None


def identify(labels: DrawnLabels, actions: int, seed: int = 0) -> Identified | dict[str, Any]:
    """The log for off-policy estimates; not_identified(reason) if there are too few labels or they were not random."""
    users = UserBootstrap(labels.user_N, seed=seed)
    action_N, day_N, logged_N = labels.action_N, labels.day_N, labels.logged_N
    if len(action_N) < FEWEST_LABELS or users.users < FEWEST_USERS:
        return not_identified(
            f"only {len(action_N)} exposures of {users.users} users whose channel was drawn at random: too few"
        )
    contextual = depends_on_context(action_N, day_N, logged_N)
    # Contextual chances cannot be checked against the shares. But the mean of 1 / chance is at most the number of
    # channels, whatever the chances depend on.
    p, strength = (None, None) if contextual else uniformity(action_N, labels.previous_N + 1, day_N)
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
    predicted_NA = cross_fitted_rewards(labels.feature_NF, action_N, labels.reward_N, labels.user_N, actions, seed=seed)
    chances = "chances that the log names" if contextual else "shares of each day"
    log = OffPolicy(action_N, labels.reward_N, propensity_N, predicted_NA, users)
    return Identified(log, f"the channel was drawn at random, with the {chances}", p, strength)


def policy_report(
    labels: DrawnLabels,
    recommended: Mapping[str, Ints],
    basis: str,
    policy_NA: Floats,
    best_fixed: int,
    channels: tuple[str, ...],
    seed: int = 0,
) -> dict[str, Any]:
    """`policy` of metrics.json.

    recommended: for each basis the channel that it recommends at the labels, [N]. basis: that of the published policy,
    whose value is the headline. best_fixed: the channel with the highest effect among training users. The value of the
    stochastic policy that imitates the log, policy_NA (equation 11), is reported as well.
    """
    actions = len(channels)
    never_drawn_A = np.bincount(labels.action_N, minlength=actions) == 0
    if (
        never_drawn := float(never_drawn_A[recommended[basis]].mean()) if len(labels.action_N) else 0
    ) > MAX_NEVER_DRAWN:
        return not_identified(f"{never_drawn:.0%} of the recommendations are channels that were never drawn")
    identified = identify(labels, actions, seed)
    if not isinstance(identified, Identified):
        return identified
    log = identified.log
    bases = {
        name: log.report(np.eye(actions)[channel_N], best_fixed, deterministic=True)
        for name, channel_N in recommended.items()
    }
    published = bases[basis]
    fixed = {channel: estimate(log.snips(log.fixed_policy(a))) for a, channel in enumerate(channels)}
    return {
        "identified": True,
        "why": identified.reason,
        "labels": len(labels.action_N),
        "users": log.users,
        "basis": basis,
        "value": {
            "snips": published["snips"]["value"],
            "low": published["snips"]["low"],
            "high": published["snips"]["high"],
        },
        "logging_value": float(log.logging_R[0]),
        "best_fixed": fixed[channels[best_fixed]]["value"],
        "best_fixed_channel": channels[best_fixed],
        "ess": published["ess"],
        "uniformity_p": identified.p,
        "dependence": identified.strength,
        "logging": estimate(log.logging_R),
        "fixed": fixed,
        "deterministic": published,
        "bases": bases,
        "stochastic": log.report(policy_NA, best_fixed, deterministic=False),
    }  # fmt: skip


def not_identified(reason: str) -> dict[str, Any]:
    """`policy` of metrics.json without values, because the log does not identify the value of another policy."""
    return {"identified": False, "why": reason, "value": None, "logging_value": None, "best_fixed": None, "ess": None}
