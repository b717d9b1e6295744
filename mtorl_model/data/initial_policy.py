"""What to do for a user the model cannot judge yet: channels by their click-through rates (equation 17)."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.tables.feature_spec import FeatureSpec

if TYPE_CHECKING:  # who only reads the file, as the daily steps do, waits neither for torch nor for pyarrow.dataset
    from mtorl_model.data.window_store import WindowStore

# A channel's rate is pulled towards the overall rate as by this many exposures: one lucky click on a rare
# channel must not win it the budget.
PRIOR_EXPOSURES = 10.0
_WINDOWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class InitialPolicy:
    """The explicit policy P of equation 17, and how often each gain comes."""

    channels: tuple[str, ...]
    probabilities: tuple[float, ...]  # one a channel, sum 1: the channel's share of the click-through rates
    gain_rates: dict[str, float]  # by gain: its share of all labels
    channel_shares: tuple[float, ...]  # one a channel, sum 1: how often the log shows it

    @property
    def most_popular(self) -> int:
        """Index of the channel shown most often."""
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
    """From the labels of a store, which are to be those of training users.

    The click-through rate of a channel is that of the spec's first gain; without any gain all channels are equal.
    """
    width = len(spec.channels)
    shown_A = np.zeros(width)
    gained_AG = np.zeros((width, len(spec.gains)))
    windows = store.windows
    for start in range(0, len(store), _WINDOWS_AT_ONCE):
        part = slice(start, start + _WINDOWS_AT_ONCE)
        label = windows.label_NL[part]
        action, gains = windows.action_NL[part][label], windows.gains_NLG[part][label]
        shown_A += np.bincount(action, minlength=width)
        np.add.at(gained_AG, action, gains)
    rate_G = gained_AG.sum(axis=0) / shown_A.sum()
    ctr_A = (gained_AG[:, 0] + PRIOR_EXPOSURES * rate_G[0]) / (shown_A + PRIOR_EXPOSURES)
    probability_A = ctr_A / ctr_A.sum() if ctr_A.any() else np.full(width, 1 / width)
    gain_rates = dict(zip(spec.gains, rate_G.tolist(), strict=True))
    # A channel that training never shows counts as shown once: nothing is divided by 0.
    share_A = np.maximum(shown_A, 1) / np.maximum(shown_A, 1).sum()
    return InitialPolicy(spec.channels, tuple(probability_A.tolist()), gain_rates, tuple(share_A.tolist()))
