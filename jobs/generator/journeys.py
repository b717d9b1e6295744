"""Journeys of simulated users: the times of their exposures, the channels that the policy chooses, the outcomes.

Shape suffixes: U users, R rows (exposures, ordered by user and time), C channels, D dimensions of interest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.generator.behaviour import BehaviourModel, Floats
from jobs.generator.policy import LoggingPolicy

Ints = NDArray[np.int64]
DAY_MS = 86_400_000
HOUR_MS = 3_600_000

# Share of the exposures by local hour: a dip before dawn, a peak in the evening.
_HOUR_SHARES = np.array([
    .0365, .0224, .0132, .0093, .0094, .0137, .0228, .0323, .0407, .0427, .0469, .0473,
    .0516, .0481, .0454, .0480, .0509, .0531, .0546, .0591, .0666, .0675, .0675, .0504,
])  # fmt: skip
_ACTIVITY_SPREAD = 0.8  # of the log-normal number of exposures a user
_NEW_SESSION = 0.3  # probability that an exposure starts a new session
_SAME_BATCH = 0.15  # probability that an exposure within a session has the time stamp of the previous one


@dataclass(frozen=True, slots=True)
class Visits:
    """The times of the exposures, ordered by (user, time)."""

    user_R: Ints  # 0 .. users - 1, each at least once
    time_ms_R: Ints


@dataclass(frozen=True, slots=True)
class Journeys:
    """The channel and the outcomes of each visit, and the probabilities behind them, in the order of the visits."""

    home_UD: Floats
    channel_R: Ints
    click_R: NDArray[np.bool_]
    conversion_R: NDArray[np.bool_]
    delay_s_R: Floats
    cost_R: Floats
    click_chance_RC: NDArray[np.float32]
    conversion_chance_RC: NDArray[np.float32]
    propensity_RC: NDArray[np.float32]


def draw_visits(
    users: int, rows_per_user: float, first_ms: int, days: int, mean_gap_s: float, rng: np.random.Generator
) -> Visits:
    """Sessions at random times of the days; exposures within a session may share a time stamp.

    rows_per_user: the mean, at least 1. first_ms: local midnight of the first day, ms. mean_gap_s: within a session.
    """
    level = np.log(rows_per_user) - _ACTIVITY_SPREAD**2 / 2
    counts_U = np.maximum(1, np.rint(rng.lognormal(level, _ACTIVITY_SPREAD, users))).astype(np.int64)
    user_R = np.repeat(np.arange(users), counts_U)
    rows = len(user_R)

    starts_session_R = rng.random(rows) < _NEW_SESSION
    starts_session_R[np.cumsum(counts_U) - counts_U] = True
    session_R = np.cumsum(starts_session_R) - 1
    sessions = session_R[-1] + 1
    hour = rng.choice(24, sessions, p=_HOUR_SHARES / _HOUR_SHARES.sum())
    start_ms = rng.integers(days, size=sessions) * DAY_MS + hour * HOUR_MS + rng.integers(HOUR_MS, size=sessions)

    gap_ms_R = 1 + rng.exponential(mean_gap_s * 1000, rows).astype(np.int64)
    gap_ms_R[starts_session_R | (rng.random(rows) < _SAME_BATCH)] = 0
    since_start_R = np.cumsum(gap_ms_R)
    since_start_R -= since_start_R[starts_session_R][session_R]
    # A session that runs past the last midnight continues at the first one, so that the log keeps to its days.
    time_ms_R = first_ms + (start_ms[session_R] + since_start_R) % (days * DAY_MS)
    order = np.lexsort((time_ms_R, user_R))
    return Visits(user_R, time_ms_R[order])


def simulate(
    model: BehaviourModel,
    visits: Visits,
    policies: Sequence[LoggingPolicy],
    policy_R: Ints,
    rng: np.random.Generator,
) -> Journeys:
    """Simulate all users' visits in parallel. policies[policy_R[r]] chooses the channel of row r."""
    counts_U = np.bincount(visits.user_R)
    # Users with the most visits first: the users with a k-th visit are then always a prefix.
    busy_U = np.argsort(-counts_U, kind="stable")
    first_row_U = (np.cumsum(counts_U) - counts_U)[busy_U]
    users_by_step = np.searchsorted(-counts_U[busy_U], -np.arange(counts_U.max()), side="left")

    rows, channels = len(visits.user_R), len(model.channels)
    state = model.initial_state(len(counts_U), rng)
    home_UD = np.empty_like(state.home_UD)
    home_UD[busy_U] = state.home_UD
    result = Journeys(
        home_UD=home_UD,
        channel_R=np.empty(rows, np.int64),
        click_R=np.empty(rows, np.bool_),
        conversion_R=np.empty(rows, np.bool_),
        delay_s_R=np.empty(rows),
        cost_R=np.empty(rows),
        click_chance_RC=np.empty((rows, channels), np.float32),
        conversion_chance_RC=np.empty((rows, channels), np.float32),
        propensity_RC=np.empty((rows, channels), np.float32),
    )
    for k, users in enumerate(users_by_step):
        current, row = state.head(users), first_row_U[:users] + k
        if k > 0:
            model.advance(current, (visits.time_ms_R[row] - visits.time_ms_R[row - 1]) / 1000, rng)
        propensity_UC = np.empty((users, channels))
        for i, policy in enumerate(policies):
            chosen_U1 = (policy_R[row] == i)[:, None]
            np.copyto(propensity_UC, policy.probabilities(model, current), where=chosen_U1)
        result.propensity_RC[row] = propensity_UC
        result.click_chance_RC[row] = model.click_probability(current)
        result.conversion_chance_RC[row] = model.conversion_probability(current)
        channel_U = _draw(propensity_UC, rng)
        outcomes = model.step(current, channel_U, rng)
        result.channel_R[row] = channel_U
        result.click_R[row] = outcomes.click_U
        result.conversion_R[row] = outcomes.conversion_U
        result.delay_s_R[row] = outcomes.delay_s_U
        result.cost_R[row] = outcomes.cost_U
    return result


def _draw(probability_UC: Floats, rng: np.random.Generator) -> Ints:
    """One channel for each user. The last channel takes the rounding error of the sum."""
    reached_UC = np.cumsum(probability_UC[:, :-1], axis=1) <= rng.random(len(probability_UC))[:, None]
    return reached_UC.sum(axis=1)
