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

if TYPE_CHECKING:
    from torch import Tensor

MOST_USERS = 3000
DIMENSIONS = 5  # at most; more channels than this share dimensions
_ITERATIONS = 40
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
    steps = _Steps.from_record(record.take(users))
    start_P = torch.tensor(_start(record, actions), requires_grad=True)
    prior_mean_P, prior_std_P = map(torch.tensor, _prior(actions))
    search = torch.optim.LBFGS(
        [start_P], max_iter=_ITERATIONS, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )
    exposures = max(float(steps.known_NT.sum()), 1.0)

    def loss() -> "Tensor":
        search.zero_grad()
        penalty = (((start_P - prior_mean_P) / prior_std_P) ** 2).sum() / 2
        value: Tensor = (penalty - log_likelihood(_Constants.from_vector(start_P, actions), steps)) / exposures
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return _Constants.from_vector(start_P.detach(), actions).tastes()


class _Steps(NamedTuple):
    """A record as tensors. known_NT: 1.0 for an exposure, 0.0 for padding."""

    channel_NT: "Tensor"
    click_NT: "Tensor"
    known_NT: "Tensor"
    elapsed_NT: "Tensor"  # ms since the user's previous exposure
    is_repeated_NT: "Tensor"  # 1.0 if the channel is that of the user's previous exposure
    is_first_NT: "Tensor"  # 1.0 without a previous exposure

    @classmethod
    def from_record(cls, record: ClickRecord) -> "_Steps":
        import torch

        known_NT = record.channel_NT != NO_EXPOSURE
        used_T = known_NT.any(axis=0)  # no user has as many exposures as a record has room for
        known_NT, at_ms_NT, click_NT = known_NT[:, used_T], record.at_ms_NT[:, used_T], record.click_NT[:, used_T]
        channel_NT = np.where(known_NT, record.channel_NT[:, used_T], 0)
        at_ms_N, channel_N = np.full(len(record), -1, np.int64), np.full(len(record), NO_EXPOSURE)
        elapsed_NT = np.zeros(known_NT.shape)
        is_repeated_NT, is_first_NT = np.zeros(known_NT.shape), np.zeros(known_NT.shape)
        for k in range(known_NT.shape[1]):
            known_N, first_N = known_NT[:, k], channel_N == NO_EXPOSURE
            elapsed_NT[:, k] = np.where(known_N & ~first_N, at_ms_NT[:, k] - at_ms_N, 0)
            is_first_NT[:, k] = first_N
            is_repeated_NT[:, k] = channel_NT[:, k] == channel_N
            at_ms_N = np.where(known_N, at_ms_NT[:, k], at_ms_N)
            channel_N = np.where(known_N, channel_NT[:, k], channel_N)
        floats = (click_NT.astype(np.float64), known_NT.astype(np.float64), elapsed_NT)
        return cls(*map(torch.tensor, (channel_NT, *floats, is_repeated_NT, is_first_NT)))


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

    (users, length), dimensions = steps.channel_NT.shape, constants.loading_AD.shape[1]
    lasting = constants.lasting_share
    observation_AS = torch.cat([torch.sqrt(lasting) * constants.loading_AD,
                                torch.sqrt(1 - lasting) * constants.loading_AD], dim=1)  # fmt: skip
    is_mood_S = torch.cat([torch.zeros(dimensions), torch.ones(dimensions)]).double()
    mean_NS = torch.zeros(users, 2 * dimensions, dtype=torch.float64)
    cov_NSS = torch.eye(2 * dimensions, dtype=torch.float64).repeat(users, 1, 1)
    fatigue_NA = torch.zeros(users, len(constants.bias_A), dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for k in range(length):
        channel_N, click_N, known_N, elapsed_N, is_repeated_N, is_first_N = (tensor[:, k] for tensor in steps)
        decay_NS = torch.exp(-(elapsed_N / constants.drift_ms)[:, None] * is_mood_S)
        mean_NS = mean_NS * decay_NS
        cov_NSS = cov_NSS * decay_NS[:, :, None] * decay_NS[:, None, :] + torch.diag_embed(1 - decay_NS**2)
        fatigue_NA = fatigue_NA * torch.exp(-elapsed_N / constants.fatigue_ms)[:, None]
        # The channel, at the mean of the taste. The mean then moves along the slope: a Newton step whose curvature is
        # replaced by its trace, so that it needs no inverse.
        follow_AS = constants.greed * observation_AS
        choice_NA = torch.softmax(constants.log_share_A + mean_NS @ follow_AS.T, dim=1)
        slope_NS = follow_AS[channel_N] - choice_NA @ follow_AS
        moved_NS = (cov_NSS @ slope_NS[:, :, None])[:, :, 0]
        fresh_N = choice_NA.gather(1, channel_N[:, None])[:, 0]
        repetition_N = constants.repetition * (1 - is_first_N)
        chosen_N = (1 - repetition_N) * fresh_N + repetition_N * is_repeated_N
        is_fresh_N = known_N * (1 - repetition_N) * fresh_N / chosen_N  # probability that it is not a repetition
        deviation_NAS = follow_AS - (choice_NA @ follow_AS)[:, None, :]
        spread_N = (choice_NA * ((deviation_NAS @ cov_NSS) * deviation_NAS).sum(dim=2)).sum(dim=1)
        mean_NS = mean_NS + (is_fresh_N / (1 + spread_N))[:, None] * moved_NS
        # The click: as _Filter.update; the mean of the probability by MacKay's approximation.
        x_NS = observation_AS[channel_N]
        direction_NS = (cov_NSS @ x_NS[:, :, None])[:, :, 0]
        variance_N = (direction_NS * x_NS).sum(dim=1)
        logit_N = constants.bias_A[channel_N] + (mean_NS * x_NS).sum(dim=1)
        logit_N = logit_N - constants.fatigue * fatigue_NA.gather(1, channel_N[:, None])[:, 0]
        mean_logit_N = logit_N / torch.sqrt(1 + np.pi / 8 * variance_N)
        log_click_N = click_N * mean_logit_N - torch.nn.functional.softplus(mean_logit_N)
        total = total + (known_N * (torch.log(chosen_N) + log_click_N)).sum()
        p_N = torch.sigmoid(logit_N)
        v_N = p_N * (1 - p_N) * known_N
        gain_NS = direction_NS / (1 + v_N * variance_N)[:, None]
        mean_NS = mean_NS + gain_NS * ((click_N - p_N) * known_N)[:, None]
        cov_NSS = cov_NSS - (v_N[:, None] * gain_NS)[:, :, None] * direction_NS[:, None, :]
        fatigue_NA = fatigue_NA.scatter_add(1, channel_N[:, None], known_N[:, None])
    return total
