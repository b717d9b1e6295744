"""The click probability of every (user, channel) pair by a Bayesian filter over the user's own exposures and clicks.

A user's taste for the channels is Gaussian, and part of it drifts. With home and mood two vectors of D standard normal
numbers, w_a the loading of channel a, and F_a the user's recent exposures in it:

    taste     theta_a(t) = b_a + w_a . (sqrt(h) home + sqrt(1 - h) mood(t)),  covariance of the channels W W^T
    drift     mood <- rho mood + sqrt(1 - rho^2) N(0, I),  rho = exp(-dt / tau)       (Ornstein-Uhlenbeck)
    fatigue   F_a falls by exp(-dt / tau_F), and grows by 1 with an exposure in a
    click     P(click in a) = sigmoid(theta_a - phi F_a)

All constants are fitted on the exposures of many users (taste_fit.py). For each user the filter keeps mean m and
covariance C of the state z = (home, mood). An exposure in channel a, with x = (sqrt(h) w_a, sqrt(1 - h) w_a) and click
y, updates them by one Newton step on its log-likelihood, p being the probability at m:

    v = p (1 - p),  k = C x / (1 + v x.C x),  m <- m + k (y - p),  C <- C - v k (C x)^T

The value of a pair is the mean of the click probability over what is not known of the user, so a pair of few exposures
is shrunk towards the user's other channels and all users. This is what a composition of rates cannot do: it has no
measure of how much a record is worth, and the best of many uncertain pairs is overestimated (the winner's curse).

Exposures before the remembered ones are known as totals by channel. They update the lasting part, home, alone: as
binomial counts at theta's mean over the mood, which multiplies the logit by 1 / sqrt(1 + pi / 8 (1 - h) |w_a|^2)
(MacKay, The evidence framework applied to classification networks, 1992). Their fatigue has faded.

Shapes: N users, T remembered exposures, A actions (channels), D dimensions, S = 2 D.
"""

from dataclasses import dataclass

import numpy as np

from features.logistic import sigmoid
from mtorl_model.budget.click_record import ClickRecord
from mtorl_model.data.money import Floats, Ints

_USERS_AT_ONCE = 1024  # their covariances fit into a core's cache
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_NEWTON_STEPS = 6
_LARGEST_STEP = 2.0  # of a Newton step over many earlier exposures


@dataclass(frozen=True, slots=True, eq=False)
class Tastes:
    """The constants of the equations above."""

    bias_A: Floats  # b
    loading_AD: Floats  # W
    lasting_share: float  # h, 0 to 1
    drift_ms: float  # tau
    fatigue: float  # phi
    fatigue_ms: float  # tau_F

    def click(self, record: ClickRecord, at_ms_N: Ints) -> Floats:
        """[N, A]: the probability of a click at these times, which are not before any exposure of the record."""
        record, count_N = record.packed()
        order_N = np.argsort(count_N, kind="stable")  # users of a block have about as many exposures
        click_NA = np.empty((len(record), len(self.bias_A)))
        for start in range(0, len(record), _USERS_AT_ONCE):
            rows = order_N[start : start + _USERS_AT_ONCE]
            click_NA[rows] = self._click(record.take(rows), count_N[rows], at_ms_N[rows])
        return click_NA

    def _click(self, record: ClickRecord, count_N: Ints, at_ms_N: Ints) -> Floats:
        """record: packed, count_N: its numbers of exposures, ascending. So the users with a step are the last ones."""
        state = _Filter(self, record)
        room = record.channel_NT.shape[1]
        for k in range(room - int(count_N[-1]), room):
            users = slice(int(np.searchsorted(count_N, room - k)), None)
            state.advance(users, record.at_ms_NT[users, k])
            state.update(users, record.channel_NT[users, k], record.click_NT[users, k])
        state.advance(slice(None), at_ms_N)
        return state.click()


class _Filter:
    """Mean and covariance of the state of N users, and their fatigue, as of at_ms_N.

    Users are the last axis of every array, so that all arithmetic runs over contiguous numbers. `users` are slices.
    """

    def __init__(self, tastes: Tastes, record: ClickRecord) -> None:
        """The state before the first remembered exposure."""
        self._tastes = tastes
        lasting = tastes.lasting_share
        self._observation_AS = np.hstack([
            np.sqrt(lasting) * tastes.loading_AD, np.sqrt(1 - lasting) * tastes.loading_AD
        ])  # fmt: skip
        self._dimensions = tastes.loading_AD.shape[1]
        states = 2 * self._dimensions
        self._mean_SN = np.zeros((states, len(record)))
        self._cov_SSN = np.repeat(np.eye(states)[:, :, None], len(record), axis=2)
        self._fatigue_AN = np.zeros((len(tastes.bias_A), len(record)))
        self._at_ms_N = np.full(len(record), -1, np.int64)  # -1: the state is stationary, so any time is as good
        rows = np.flatnonzero(record.earlier_exposures_NA.any(axis=1))
        if len(rows):
            self._add_earlier(rows, record.earlier_exposures_NA[rows], record.earlier_clicks_NA[rows])

    def advance(self, users: slice, at_ms_N: Ints) -> None:
        """Tastes drift and fatigue fades until these times."""
        last_ms_N = self._at_ms_N[users]
        elapsed_ms_N = np.where(last_ms_N < 0, 0, np.maximum(at_ms_N - last_ms_N, 0))
        self._at_ms_N[users] = at_ms_N
        rho_N = np.exp(-elapsed_ms_N / self._tastes.drift_ms)
        mood = slice(self._dimensions, None)
        self._mean_SN[mood, users] *= rho_N
        cov_SSN = self._cov_SSN[:, :, users]
        cov_SSN[mood] *= rho_N
        cov_SSN[:, mood] *= rho_N
        diagonal = np.arange(self._dimensions, 2 * self._dimensions)
        cov_SSN[diagonal, diagonal] += 1 - rho_N**2
        self._fatigue_AN[:, users] *= np.exp(-elapsed_ms_N / self._tastes.fatigue_ms)

    def update(self, users: slice, channel_N: Ints, click_N: Ints) -> None:
        """One exposure of each of these users."""
        mean_SN, cov_SSN = self._mean_SN[:, users], self._cov_SSN[:, :, users]
        fatigue_AN, column_N = self._fatigue_AN[:, users], np.arange(len(channel_N))
        x_SN = self._observation_AS.T[:, channel_N]
        logit_N = self._tastes.bias_A[channel_N] + (mean_SN * x_SN).sum(axis=0)
        p_N = sigmoid(logit_N - self._tastes.fatigue * fatigue_AN[channel_N, column_N])
        v_N = p_N * (1 - p_N)
        direction_SN = (cov_SSN * x_SN).sum(axis=1)
        gain_SN = direction_SN / (1 + v_N * (direction_SN * x_SN).sum(axis=0))
        mean_SN += gain_SN * (click_N - p_N)
        cov_SSN -= (v_N * gain_SN)[:, None] * direction_SN
        fatigue_AN[channel_N, column_N] += 1.0

    def click(self) -> Floats:
        """[N, A]: the mean of the click probability over the state."""
        logit_AN = self._tastes.bias_A[:, None] + self._observation_AS @ self._mean_SN
        logit_AN -= self._tastes.fatigue * self._fatigue_AN
        direction_ASN = np.tensordot(self._observation_AS, self._cov_SSN, axes=1)
        variance_AN = (direction_ASN * self._observation_AS[:, :, None]).sum(axis=1)
        spread_AN = np.sqrt(np.maximum(variance_AN, 0.0))
        click_AN: Floats = np.zeros_like(logit_AN)
        for node, weight in zip(_NODES, _NODE_WEIGHTS / _NODE_WEIGHTS.sum(), strict=True):
            click_AN += weight * sigmoid(logit_AN + node * spread_AN)
        return click_AN.T

    def _add_earlier(self, rows: Ints, exposures_NA: Ints, clicks_NA: Ints) -> None:
        """Newton's method for home, given the totals of the earlier exposures; then the Laplace approximation."""
        tastes, home = self._tastes, slice(0, self._dimensions)
        mood_variance_A = (1 - tastes.lasting_share) * (tastes.loading_AD**2).sum(axis=1)
        scale_A = 1 / np.sqrt(1 + np.pi / 8 * mood_variance_A)
        x_AD = scale_A[:, None] * self._observation_AS[:, home]
        product_AE = (x_AD[:, :, None] * x_AD[:, None, :]).reshape(len(x_AD), -1)  # E = D * D
        mean_ND, identity_DD = np.zeros((len(rows), self._dimensions)), np.eye(self._dimensions)
        for _ in range(_NEWTON_STEPS):
            p_NA = sigmoid(scale_A * tastes.bias_A + mean_ND @ x_AD.T)
            slope_ND = (clicks_NA - exposures_NA * p_NA) @ x_AD - mean_ND
            weighted_NE = (exposures_NA * p_NA * (1 - p_NA)) @ product_AE
            curvature_NDD = identity_DD + weighted_NE.reshape(-1, self._dimensions, self._dimensions)
            step_ND = np.linalg.solve(curvature_NDD, slope_ND[:, :, None])[:, :, 0]
            mean_ND += np.clip(step_ND, -_LARGEST_STEP, _LARGEST_STEP)
        self._mean_SN[home, rows] = mean_ND.T
        self._cov_SSN[home, home, rows] = np.moveaxis(np.linalg.inv(curvature_NDD), 0, 2)
