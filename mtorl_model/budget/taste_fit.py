"""Fits the constants of the taste filter (taste_filter.py) on the exposures of many users, by maximum likelihood.

The likelihood is the product, over the exposures in order of time, of the probability of the outcome given the user's
earlier exposures (the prediction error decomposition of state-space models; Durbin and Koopman, Time Series Analysis by
State Space Methods, 2012, section 7.2). Gradients are PyTorch's, through the filter. Weak normal priors keep the
constants finite in a small log.

A log whose policy knows the users shows a channel to those who like it. Then the click rate of a channel in the log is
above its rate for all users, and rare channels are overestimated most. The likelihood therefore has a second factor,
for the channel of each exposure:

    P(channel a) = s [a = previous channel] + (1 - s) softmax_a(l_a + g (theta_a - b_a)),

where s is the share of repetitions, l are the log shares and g is how far the policy follows the user's taste. g is
fitted: it is near 0 if channels were drawn at random. Its softmax updates the mean of the filter as the click does; the
covariance keeps its value, since a single choice carries little information. Only the fit uses the channels: the filter
learns about a user from clicks alone, because a campaign's own offers carry no information about the user's taste.

Shapes: N users, T remembered exposures, A actions (channels), D dimensions, S = 2 D, P constants.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord
from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.data.money import Ints

if TYPE_CHECKING:
    from torch import Tensor

MOST_USERS = 3000
DIMENSIONS = 5  # at most; more channels than this share dimensions
_ITERATIONS = 40
_USERS_AT_ONCE = 1024
_HOUR_MS = 3_600_000.0
_DRIFT_MS, _FATIGUE_MS = 72 * _HOUR_MS, 24 * _HOUR_MS  # where the search begins; their priors are a factor e around it
_PRIOR_CLICKS, _PRIOR_EXPOSURES = 1.0, 4.0


def fit_tastes(record: ClickRecord, actions: int, *, most_users: int = MOST_USERS) -> Tastes:
    """The constants that fit the users' remembered exposures best. The same record gives the same constants.

    At most most_users users are read, evenly from the whole record. Without exposures they are those of the prior.
    """
    import torch

    users = np.flatnonzero((record.channel_NT != NO_EXPOSURE).any(axis=1))
    if len(users) > most_users:
        users = users[np.linspace(0, len(users) - 1, most_users).astype(np.int64)]
    parts = _Steps.parts(record.take(users))
    start_P = torch.tensor(_start(record, actions), requires_grad=True)
    prior_mean_P, prior_std_P = map(torch.tensor, _prior(actions))
    search = torch.optim.LBFGS(
        [start_P], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )
    exposures = max(sum(part.exposures for part in parts), 1)

    def loss() -> "Tensor":
        search.zero_grad()
        total = (((start_P - prior_mean_P) / prior_std_P) ** 2).sum() / 2 / exposures
        total.backward()  # type: ignore[no-untyped-call]
        for part in parts:  # one after another, so that the tensors of a part fit into the processor's cache
            value = -log_likelihood(_Constants.from_vector(start_P, actions), part) / exposures
            value.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + value.detach()
        return total

    search.step(loss)  # type: ignore[no-untyped-call]
    return _Constants.from_vector(start_P.detach(), actions).tastes()


class _Steps(NamedTuple):
    """A record as tensors, without gaps: users with more exposures come later, and each user's are at the end."""

    channel_NT: "Tensor"
    click_NT: "Tensor"
    elapsed_NT: "Tensor"  # ms since the user's previous exposure; 0 without one
    is_repeated_NT: "Tensor"  # 1.0 if the channel is that of the user's previous exposure
    is_first_NT: "Tensor"  # 1.0 without a previous exposure
    first_user_T: list[int]  # all users from this one on have an exposure at the step

    @property
    def exposures(self) -> int:
        return sum(len(self.channel_NT) - first for first in self.first_user_T)

    @classmethod
    def parts(cls, record: ClickRecord) -> list["_Steps"]:
        """The record in parts of _USERS_AT_ONCE users with about as many exposures."""
        packed, count_N = record.packed()
        order_N = np.argsort(count_N, kind="stable")
        starts = range(0, len(record), _USERS_AT_ONCE)
        return [cls._from_users(packed, count_N, order_N[start : start + _USERS_AT_ONCE]) for start in starts]

    @classmethod
    def _from_users(cls, packed: ClickRecord, count_N: Ints, users: Ints) -> "_Steps":
        """users: with ascending numbers of exposures."""
        import torch

        steps, count_N = packed.take(users), count_N[users]
        length, room = int(count_N[-1]), steps.channel_NT.shape[1]
        at_ms_NT, channel_NT, click_NT = (
            array[:, room - length :] for array in (steps.at_ms_NT, steps.channel_NT, steps.click_NT)
        )
        has_previous_NT = np.arange(length) > length - count_N[:, None]
        elapsed_NT = np.where(has_previous_NT, np.diff(at_ms_NT, axis=1, prepend=0), 0).astype(np.float64)
        is_repeated_NT = has_previous_NT & (np.diff(channel_NT, axis=1, prepend=NO_EXPOSURE) == 0)
        first_user_T = np.searchsorted(count_N, length - np.arange(length)).tolist()
        click, elapsed, is_repeated, is_first = (
            torch.tensor(array_NT.astype(np.float64))
            for array_NT in (click_NT, elapsed_NT, is_repeated_NT, ~has_previous_NT)
        )
        return cls(torch.tensor(channel_NT), click, elapsed, is_repeated, is_first, first_user_T)


class _Constants(NamedTuple):
    """All that is fitted: the constants of the filter, and those of the log's policy."""

    bias_A: "Tensor"
    loading_AD: "Tensor"
    log_share_A: "Tensor"  # l
    lasting_share: "Tensor"
    drift_ms: "Tensor"
    fatigue: "Tensor"
    fatigue_ms: "Tensor"
    greed: "Tensor"  # g
    repetition: "Tensor"  # s

    @classmethod
    def from_vector(cls, constant_P: "Tensor", actions: int) -> "_Constants":
        import torch

        bias_A, log_share_A, loadings = torch.split(
            constant_P[:-6], [actions, actions, len(constant_P) - 6 - 2 * actions]
        )
        lasting, drift, fatigue, fatigue_time, greed, repetition = constant_P[-6:]
        return cls(
            bias_A,
            loadings.reshape(actions, -1),
            log_share_A,
            torch.sigmoid(lasting),
            _DRIFT_MS * torch.exp(drift),
            fatigue,
            _FATIGUE_MS * torch.exp(fatigue_time),
            greed,
            torch.sigmoid(repetition),
        )

    def tastes(self) -> Tastes:
        return Tastes(
            self.bias_A.numpy().copy(),
            self.loading_AD.numpy().copy(),
            float(self.lasting_share),
            float(self.drift_ms),
            float(self.fatigue),
            float(self.fatigue_ms),
        )


def _start(record: ClickRecord, actions: int) -> np.ndarray:
    """[P]: smoothed rates and shares; the first dimension is shared by all channels, the others are nearly 0."""
    known_NT = record.channel_NT != NO_EXPOSURE
    channel_K, click_K = record.channel_NT[known_NT], record.click_NT[known_NT]
    exposures_A = np.bincount(channel_K, minlength=actions) + _PRIOR_EXPOSURES
    rate_A = (np.bincount(channel_K, click_K, actions) + _PRIOR_CLICKS) / exposures_A
    log_share_A = np.log(exposures_A) - np.log(exposures_A).mean()
    loading_AD = np.random.default_rng(0).normal(0.0, 0.2, (actions, min(DIMENSIONS, actions)))
    loading_AD[:, 0] = 0.7
    bias_A = np.log(rate_A / (1 - rate_A))
    return np.concatenate([bias_A, log_share_A, loading_AD.ravel(), [0.0, 0.0, 0.05, 0.0, 0.1, 0.0]])


def _prior(actions: int) -> tuple[np.ndarray, np.ndarray]:
    """[P] each: mean and standard deviation of the priors."""
    loadings = actions * min(DIMENSIONS, actions)
    deviations = [*[3.0] * actions, *[5.0] * actions, *[1.0] * loadings, 1.5, 1.0, 0.3, 1.0, 1.0, 2.0]
    return np.zeros(len(deviations)), np.array(deviations)


def log_likelihood(constants: _Constants, steps: _Steps) -> "Tensor":
    """The log-likelihood of the channels and clicks of all steps."""
    import torch

    dimensions, actions = constants.loading_AD.shape[1], len(constants.bias_A)
    lasting = constants.lasting_share
    observation_AS = torch.cat([torch.sqrt(lasting) * constants.loading_AD,
                                torch.sqrt(1 - lasting) * constants.loading_AD], dim=1)  # fmt: skip
    is_mood_S = torch.cat([torch.zeros(dimensions), torch.ones(dimensions)]).double()
    follow_AS = constants.greed * observation_AS
    product_AE = (follow_AS[:, :, None] * follow_AS[:, None, :]).reshape(actions, -1)  # E = S * S
    variance_A = (follow_AS**2).sum(dim=1)
    # The state of the users who have had an exposure, the last ones. change_NSS is their covariance minus that of the
    # prior, which is the identity and does not drift.
    mean_NS = torch.zeros(0, 2 * dimensions, dtype=torch.float64)
    change_NSS = torch.zeros(0, 2 * dimensions, 2 * dimensions, dtype=torch.float64)
    fatigue_NA = torch.zeros(0, actions, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for k, first_user in enumerate(steps.first_user_T):
        channel_N, click_N, elapsed_N, is_repeated_N, is_first_N = (tensor[first_user:, k] for tensor in steps[:5])
        new = len(channel_N) - len(mean_NS)
        if new:
            mean_NS = torch.cat([mean_NS.new_zeros(new, 2 * dimensions), mean_NS])
            change_NSS = torch.cat([change_NSS.new_zeros(new, 2 * dimensions, 2 * dimensions), change_NSS])
            fatigue_NA = torch.cat([fatigue_NA.new_zeros(new, actions), fatigue_NA])
        decay_NS = torch.exp(-(elapsed_N / constants.drift_ms)[:, None] * is_mood_S)
        mean_NS = mean_NS * decay_NS
        change_NSS = change_NSS * (decay_NS[:, :, None] * decay_NS[:, None, :])
        fatigue_NA = fatigue_NA * torch.exp(-elapsed_N / constants.fatigue_ms)[:, None]
        # The channel, at the mean of the taste. The mean then moves along the slope: a Newton step whose curvature is
        # replaced by its trace, so that it needs no inverse.
        choice_NA = torch.softmax(constants.log_share_A + mean_NS @ follow_AS.T, dim=1)
        expected_NS = choice_NA @ follow_AS
        slope_NS = follow_AS[channel_N] - expected_NS
        x_NS = observation_AS[channel_N]
        vectors_NS3 = torch.stack([slope_NS, expected_NS, x_NS], dim=2)
        products_NS3 = vectors_NS3 + change_NSS @ vectors_NS3  # with the covariance
        moved_NS, mean_product_NS, direction_NS = products_NS3.unbind(dim=2)
        fresh_N = choice_NA.gather(1, channel_N[:, None])[:, 0]
        repetition_N = constants.repetition * (1 - is_first_N)
        chosen_N = (1 - repetition_N) * fresh_N + repetition_N * is_repeated_N
        is_fresh_N = (1 - repetition_N) * fresh_N / chosen_N  # probability that it is not a repetition
        # The variance of the followed taste over the channels' choice: of its square, minus the square of its mean.
        square_N = choice_NA @ variance_A + ((choice_NA @ product_AE) * change_NSS.flatten(1)).sum(dim=1)
        spread_N = square_N - (mean_product_NS * expected_NS).sum(dim=1)
        mean_NS = mean_NS + (is_fresh_N / (1 + spread_N))[:, None] * moved_NS
        # The click: as _Filter.update; the mean of the probability by MacKay's approximation.
        variance_N = (direction_NS * x_NS).sum(dim=1)
        logit_N = constants.bias_A[channel_N] + (mean_NS * x_NS).sum(dim=1)
        logit_N = logit_N - constants.fatigue * fatigue_NA.gather(1, channel_N[:, None])[:, 0]
        mean_logit_N = logit_N / torch.sqrt(1 + np.pi / 8 * variance_N)
        log_click_N = click_N * mean_logit_N - torch.nn.functional.softplus(mean_logit_N)
        total = total + (torch.log(chosen_N) + log_click_N).sum()
        p_N = torch.sigmoid(logit_N)
        v_N = p_N * (1 - p_N)
        gain_NS = direction_NS / (1 + v_N * variance_N)[:, None]
        mean_NS = mean_NS + gain_NS * (click_N - p_N)[:, None]
        change_NSS = change_NSS - (v_N[:, None] * gain_NS)[:, :, None] * direction_NS[:, None, :]
        fatigue_NA = fatigue_NA.scatter_add(1, channel_N[:, None], torch.ones_like(fatigue_NA[:, :1]))
    return total
