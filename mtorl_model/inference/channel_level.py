"""Channel-level allocation (section 3.7.2): each channel's share of the budget, and its costs.

    explicit   p_j  = CTR_j / sum_i CTR_i,    CTR_j  = clicks of channel j / N_j
    implicit   p^_j = CTR^_j / sum_i CTR^_i,  CTR^_j = exposures of channel j with a predicted click above tau / N_j
    initial    (1 - alpha) p + alpha p^                                            (equation 17)

"Click" stands for the first gain that is known with its exposure. Departures from the paper: its filter is a predicted
reward above tau; here it is the predicted click, so that both rates count clicks. Rates of channels with few exposures
are shrunk towards the overall rate, so that one lucky click does not give the budget to a rare channel. The paper does
not define tau; here it is the click rate of the champion's training users, so the filter counts exposures with a
better chance than usual. alpha is one half.

Shapes: U users, L steps, A actions (channels), G gains.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mtorl_model.data.initial_policy import PRIOR_EXPOSURES
from mtorl_model.data.money import NANO, Floats, Ints, require_sums_below_limit
from schemas.dataset import Dataset

if TYPE_CHECKING:  # a plan from published tables does not have to import torch
    from mtorl_model.data.encoding import Encoded

ALPHA = 0.5


def click_gain(dataset: Dataset) -> int:
    """The index of the gain that stands for the click: the first that is known with its exposure, else the first.

    If all gains are late, the first is predicted, and remembered once it is known, but channels are not judged by it,
    since a gain that is not known yet would count as missing.
    """
    return next((k for k, gain in enumerate(dataset.gain_names) if gain not in dataset.late_gains), 0)


@dataclass(frozen=True, slots=True)
class ChannelCounts:
    """Sums over exposures by channel, costs in nano. The counts of the parts of a log add up."""

    exposures_A: Ints
    gained_A: Ints  # with a click
    reliable_A: Ints  # with a predicted click above tau
    cost_A: Ints  # of the exposures without a click
    cost_gained_A: Ints  # of the exposures with a click

    def __add__(self, other: "ChannelCounts") -> "ChannelCounts":
        return ChannelCounts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__)).checked()

    def checked(self) -> "ChannelCounts":
        """Raises UserError if costs have become so large that a further sum of two would not fit into 64 bits."""
        for cost_A in (self.cost_A, self.cost_gained_A):
            require_sums_below_limit(cost_A.astype(np.float64), "a channel")
        return self

    @classmethod
    def zeros(cls, actions: int) -> "ChannelCounts":
        return cls(*(np.zeros(actions, dtype=np.int64) for _ in cls.__slots__))

    @classmethod
    def count(
        cls, action_N: Ints, gained_N: Ints, reliable_N: Ints, cost_nano_N: Ints, actions: int
    ) -> "ChannelCounts":
        """Count N exposures. action_N: the channel; exposures with an unknown channel, -1, are ignored."""
        counts = cls.zeros(actions)
        known_N = action_N >= 0
        action_N, gained_N, cost_nano_N = action_N[known_N], gained_N[known_N], cost_nano_N[known_N]
        # The sums below could overflow: what they are about decides first.
        approximate_A = np.bincount(action_N, weights=cost_nano_N, minlength=actions).astype(np.float64)
        require_sums_below_limit(approximate_A, "a channel")
        for sums_A, value_N in (
            (counts.exposures_A, np.ones_like(action_N)),
            (counts.gained_A, gained_N),
            (counts.reliable_A, reliable_N[known_N]),
            (counts.cost_A, np.where(gained_N > 0, 0, cost_nano_N)),
            (counts.cost_gained_A, np.where(gained_N > 0, cost_nano_N, 0)),
        ):
            np.add.at(sums_A, action_N, value_N)  # whole numbers: exact in any order
        return counts


def reliable_steps(gains_NLG: Floats, tau: float, dataset: Dataset) -> npt.NDArray[np.bool_]:
    """[N, L]: steps with a predicted click above tau. gains_NLG: the predictions for each step."""
    reliable_NL: npt.NDArray[np.bool_] = gains_NLG[..., click_gain(dataset)] > tau
    return reliable_NL


def count_steps(
    steps_NL: npt.NDArray[np.bool_],
    encoded: "Encoded",
    gains_NLG: Floats | None,
    tau: float,
    cost_nano_NL: Ints,
    dataset: Dataset,
) -> ChannelCounts:
    """Count the marked steps of N windows. gains_NLG: the predictions for each; None if the model predicts no gains."""
    reliable_NL = np.zeros_like(steps_NL) if gains_NLG is None else reliable_steps(gains_NLG, tau, dataset)
    return _count(steps_NL, encoded, reliable_NL, cost_nano_NL, dataset)


def count_remembered(
    windows: pa.Table, encoded: "Encoded", reliable_NL: npt.NDArray[np.bool_], dataset: Dataset
) -> ChannelCounts:
    """Count the remembered steps of scoring windows (journeys_to_windows). reliable_NL: see reliable_steps."""
    cost_N = np.nan_to_num(windows.column("cost").combine_chunks().flatten().to_numpy(zero_copy_only=False))
    cost_nano_NL = np.rint(cost_N * NANO).astype(np.int64).reshape(encoded.valid_NL.shape)
    return _count(encoded.valid_NL, encoded, reliable_NL, cost_nano_NL, dataset)


def _count(
    steps_NL: npt.NDArray[np.bool_],
    encoded: "Encoded",
    reliable_NL: npt.NDArray[np.bool_],
    cost_nano_NL: Ints,
    dataset: Dataset,
) -> ChannelCounts:
    gain = click_gain(dataset)
    is_late = dataset.gain_names[gain] in dataset.late_gains
    gained_NL = np.zeros(steps_NL.shape) if is_late else encoded.gains_NLG[..., gain]
    return ChannelCounts.count(
        encoded.action_NL[steps_NL].astype(np.int64),
        gained_NL[steps_NL].astype(np.int64),
        reliable_NL[steps_NL].astype(np.int64),
        cost_nano_NL[steps_NL],
        encoded.action_in_NLA.shape[-1],
    )


@dataclass(frozen=True, slots=True)
class ChannelLevel:
    """The channel level of one day. All [A]; the three policies sum to 1, costs are means in nano."""

    channels: tuple[str, ...]
    counts: ChannelCounts
    explicit_A: Floats
    implicit_A: Floats
    initial_A: Floats
    cost_A: Floats  # of an exposure without a click
    cost_gained_A: Floats  # of an exposure with a click

    @property
    def lift_A(self) -> Floats:
        """The value of an exposure in each channel relative to the average exposure of the log."""
        share_A = self.counts.exposures_A / max(int(self.counts.exposures_A.sum()), 1)
        mean = float(share_A @ self.initial_A)
        return self.initial_A / mean if mean > 0 else np.ones(len(self.channels))

    @property
    def mean_cost_A(self) -> Ints:
        """The mean cost of an exposure, in nano."""
        rate_A = _smoothed(self.counts.gained_A, self.counts.exposures_A)
        mean_A: Ints = np.rint((1 - rate_A) * self.cost_A + rate_A * self.cost_gained_A).astype(np.int64)
        return mean_A

    def without_policy(self) -> "ChannelLevel":
        """The ablation "w/o channel-level allocation": all channels have the same share; their costs stay."""
        equal_A = np.full(len(self.channels), 1 / len(self.channels))
        return replace(self, explicit_A=equal_A, implicit_A=equal_A, initial_A=equal_A)


def channel_level(channels: Iterable[str], counts: ChannelCounts, alpha: float = ALPHA) -> ChannelLevel:
    """Equation 17 with smoothed rates; alpha in [0, 1]. Without exposures all channels have the same share."""
    explicit_A = _shares(_smoothed(counts.gained_A, counts.exposures_A))
    implicit_A = _shares(_smoothed(counts.reliable_A, counts.exposures_A))
    return ChannelLevel(
        tuple(channels),
        counts,
        explicit_A,
        implicit_A,
        (1 - alpha) * explicit_A + alpha * implicit_A,
        _smoothed(counts.cost_A, counts.exposures_A - counts.gained_A),
        _smoothed(counts.cost_gained_A, counts.gained_A),
    )


def _smoothed(sums_A: Ints, exposures_A: Ints) -> Floats:
    """The mean of each channel, shrunk towards the overall mean by PRIOR_EXPOSURES exposures; 0 without exposures."""
    overall = sums_A.sum() / max(int(exposures_A.sum()), 1)
    smoothed_A: Floats = (sums_A + PRIOR_EXPOSURES * overall) / (exposures_A + PRIOR_EXPOSURES)
    return smoothed_A


def _shares(rate_A: Floats) -> Floats:
    total = float(rate_A.sum())
    return rate_A / total if total > 0 else np.full(len(rate_A), 1 / len(rate_A))
