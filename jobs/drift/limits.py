"""When a distance is too large: a fixed limit, or one learned from what is usual for the same figure."""

from collections.abc import Sequence
from statistics import median

from jobs.drift.results import FIXED
from schemas.quality import Quality

_MAD = 1.4826  # median absolute deviations in a standard deviation, where the spread is normal
# A quiet fortnight must not make an alarm of a trifle, a noisy one must not make everything usual.
_LEAST, _MOST = 0.5, 4.0


def limit_of(
    fixed: float,
    earlier: Sequence[float],
    quality: Quality,
    *,
    same: float = 0.0,
    most: float = float("inf"),
    may_rise: bool = True,
) -> tuple[float, str]:
    """The limit, before what chance adds on this day, and where it is from.

    earlier: the figure's values on the trailing days; same: the value of no difference; most: where no limit may reach.
    Learned: median + `spreads` robust standard deviations, from half to four times as far from `same` as the fixed
    limit, or only up to it where it may not rise. Being a median, it does not mind that some of the trailing days were
    odd themselves.
    """
    fixed = min(fixed, most)
    if len(earlier) < quality.min_measured_days:
        return fixed, FIXED
    middle = median(earlier)
    spread = _MAD * median(abs(value - middle) for value in earlier)
    low, high = (same + times * (fixed - same) for times in (_LEAST, _MOST if may_rise else 1.0))
    limit = min(max(middle + quality.limit_deviations * spread, low), high, most)
    return limit, f"learned from {len(earlier)} days"
