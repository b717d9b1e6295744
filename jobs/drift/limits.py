"""The limit of a drift figure: fixed by the dataset, or learned from the values of the same figure on earlier days."""

from collections.abc import Sequence
from statistics import median

from jobs.drift.results import FIXED
from schemas.quality import Quality

_MAD = 1.4826  # median absolute deviations in a standard deviation of a normal distribution
# Bounds of a learned limit, relative to the distance of the fixed limit from no difference. After quiet days a small
# change must not raise an alarm; after noisy days a large change still must.
_LOWEST, _HIGHEST = 0.5, 4.0


def limit_of(
    fixed: float,
    earlier_values: Sequence[float],
    quality: Quality,
    *,
    no_difference: float = 0.0,
    maximum: float = float("inf"),
    may_rise: bool = True,
) -> tuple[float, str]:
    """The limit and its origin, without the margin for chance.

    earlier_values: the figure's values on the trailing days. no_difference: the value that means no difference.
    maximum: the largest limit. may_rise: whether a learned limit may be above the fixed one.
    A learned limit is the median plus `limit_deviations` robust standard deviations. Both change little if some of the
    trailing days were unusual themselves.
    """
    fixed = min(fixed, maximum)
    if len(earlier_values) < quality.min_measured_days:
        return fixed, FIXED
    middle = median(earlier_values)
    spread = _MAD * median(abs(value - middle) for value in earlier_values)
    low, high = (
        no_difference + factor * (fixed - no_difference) for factor in (_LOWEST, _HIGHEST if may_rise else 1.0)
    )
    limit = min(max(middle + quality.limit_deviations * spread, low), high, maximum)
    return limit, f"learned from {len(earlier_values)} days"
