"""The policy for users whose journey is too short for the model: channels by click-through rate (equation 17)."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from schemas.tables.feature_spec import FeatureSpec

if TYPE_CHECKING:  # imports torch and pyarrow.dataset, which programs that only read the policy do not need
    from mtorl_model.data.windows.store import WindowStore

# Each channel's rate gets this many additional exposures at the overall rate. Otherwise one lucky click on a rare
# channel could give it most of the budget.
PRIOR_EXPOSURES = 10.0
_WINDOWS_AT_ONCE = 65_536

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class InitialPolicy:
    """The explicit policy P of equation 17, and the base rate of each gain."""

    channels: tuple[str, ...]
    probabilities: tuple[float, ...]  # for each channel, its click-through rate divided by the sum of all; sums to 1
    gain_rates: dict[str, float]  # by gain: the share of the labels that have it
    channel_shares: tuple[float, ...]  # for each channel, its share of the exposures; sums to 1

    @property
    def most_popular(self) -> int:
        """Index of the channel with the most exposures."""
        return int(np.argmax(self.channel_shares))

    @property
    def best_fixed(self) -> int:
        """Index of the channel with the highest click-through rate."""
        return int(np.argmax(self.probabilities))

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "InitialPolicy":
        raw: dict[str, Any] = json.loads(text)
        shares = tuple(raw["channel_shares"])
        return cls(tuple(raw["channels"]), tuple(raw["probabilities"]), raw["gain_rates"], shares)


def fit_initial_policy(store: "WindowStore", spec: FeatureSpec) -> InitialPolicy:
    """The initial policy from the labels of a store, which must contain training users only.

    The click-through rate of a channel is the rate of the spec's first gain. Without any gain all channels are equal.
    """
    width = len(spec.channels)
    exposures_A = np.zeros(width)
    gained_AG = np.zeros((width, len(spec.gains)))
    labels, gained_G = 0, np.zeros(len(spec.gains))  # those of channels that the spec does not know, too
    for start in range(0, len(store), _WINDOWS_AT_ONCE):
        windows = store.windows.labels(slice(start, start + _WINDOWS_AT_ONCE))
        action, gains = windows.action_NL[windows.label_NL], windows.gains_NLG[windows.label_NL]
        labels += len(action)
        gained_G += gains.sum(axis=0, dtype=np.float64)
        known = action >= 0
        exposures_A += np.bincount(action[known], minlength=width)
        np.add.at(gained_AG, action[known], gains[known])
    return policy_of_counts(exposures_A, gained_AG[:, 0], gained_G / labels, spec)


def policy_of_counts(exposures_A: Floats, gained_A: Floats, rate_G: Floats, spec: FeatureSpec) -> InitialPolicy:
    """The initial policy of counts by channel. gained_A: of the first gain. rate_G: the rate of each gain."""
    width = len(spec.channels)
    ctr_A = (gained_A + PRIOR_EXPOSURES * rate_G[0]) / (exposures_A + PRIOR_EXPOSURES)
    probability_A = ctr_A / ctr_A.sum() if ctr_A.any() else np.full(width, 1 / width)
    gain_rates = dict(zip(spec.gains, rate_G.tolist(), strict=True))
    # A channel without exposures counts as one exposure, because other code divides by these shares.
    share_A = np.maximum(exposures_A, 1) / np.maximum(exposures_A, 1).sum()
    return InitialPolicy(spec.channels, tuple(probability_A.tolist()), gain_rates, tuple(share_A.tolist()))
