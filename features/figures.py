"""Figures of a step's history that do not depend on how the history is stored.

The nightly build (features/point_in_time.py) sums over all exposures together, a running campaign
(mtorl_model/budget/memory.py) adds one exposure after another. Both sum whole numbers, which are exact in any order,
and turn the sums into inputs here.
"""

import numpy as np
import pyarrow as pa

from features.columns import Floats, Ints, Mask
from schemas.errors import UserError
from schemas.steps import LARGEST_SUMMAND

NEVER = int(np.iinfo(np.int64).min)  # the time of an event that has not happened

_NANO = 1_000_000_000
LARGEST_NANO = 2**62  # the sum of two such amounts still fits into 64 bits
_MICRO = 1_000_000


def to_nano(amount: Floats) -> Ints:
    """Amounts as whole billionths; NaN counts as 0."""
    return np.rint(np.nan_to_num(amount) * _NANO).astype(np.int64)


def from_nano(amount_nano: Ints) -> Floats:
    return amount_nano / _NANO


def require_sums_below_limit(sum_nano: Floats, owner: str) -> None:
    """Raises UserError if sums of costs need more than 64 bits. sum_nano: approximate sums, as floats do not overflow.

    owner: whose costs they are, for the error.
    """
    if float(np.max(sum_nano, initial=0.0)) >= LARGEST_NANO:
        raise UserError(
            f"the costs of {owner} add up to more than {LARGEST_NANO // _NANO:,}: let the contract state the cost in a "
            "larger unit, such as thousands"
        )


def to_summands(value: Floats) -> tuple[Ints, Mask]:
    """The value in whole millionths and whether it is a number: the summands of a running mean's sum and count.

    A value beyond LARGEST_SUMMAND counts as that.
    """
    is_number = ~np.isnan(value)
    bounded = np.clip(np.where(is_number, value, 0.0), -LARGEST_SUMMAND, LARGEST_SUMMAND)
    return np.rint(bounded * _MICRO).astype(np.int64), is_number


def mean_of_sums(sum_micro: Ints, count: Ints) -> pa.Array:
    """The mean of `count` numbers whose sum is given in millionths; null for a count of 0."""
    return pa.array(sum_micro / _MICRO / np.maximum(count, 1), mask=count == 0)


def gap_s(at_ms: Ints, previous_ms: Ints) -> Floats:
    """Seconds since the previous step; 0.0 at a user's first, whose previous_ms is NEVER."""
    return np.where(previous_ms == NEVER, 0.0, (at_ms - previous_ms) / 1000)


def since_s(at_ms: Ints, known_at_ms: Ints) -> pa.Array:
    """Seconds since an event became known; null for NEVER."""
    return pa.array((at_ms - known_at_ms) / 1000, mask=known_at_ms == NEVER)
