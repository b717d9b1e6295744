"""Money as whole billionths (nano) of the log's unit: sums are exact in any order, like the costs in the journeys."""

from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

from features.figures import LARGEST_NANO
from features.figures import require_sums_below_limit as require_sums_below_limit
from schemas.errors import UserError

NANO = 1_000_000_000
MAX_NANO = LARGEST_NANO

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def cost_nano(cost_N: Floats, name: str = "cost") -> Ints:
    """Amounts in the log's unit as nano, rounded. Raises UserError if one is NaN, infinite or negative."""
    cost_N = np.asarray(cost_N, dtype=np.float64)
    for problem, is_wrong_N in (
        ("not a number", np.isnan(cost_N)),
        ("negative", cost_N < 0),
        ("too large", cost_N * NANO > MAX_NANO),
    ):
        if is_wrong_N.any():
            index = tuple(np.argwhere(is_wrong_N)[0].tolist())
            entry = ", ".join(map(str, index))
            raise UserError(f"{name}: {cost_N[index]} (entry {entry}) is {problem}: correct the amount")
    nano_N: Ints = np.rint(cost_N * NANO).astype(np.int64)
    return nano_N


def budget_nano(budget: str | float) -> int:
    """A budget in the log's unit as nano, rounded down. Raises UserError if it is not an amount in the valid range.

    It is read as decimal digits: the float nearest to 2.01 is slightly smaller, but 2.01 is meant.
    """
    try:
        amount = Decimal(str(budget))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= Decimal(MAX_NANO).scaleb(-9):
        raise UserError(f"a budget of {budget}: give an amount from 0 to {MAX_NANO // NANO:,}, in the log's unit")
    return int(Context(prec=30, rounding=ROUND_FLOOR).multiply(amount, Decimal(NANO)))


def in_units(nano: int) -> str:
    """An amount in the log's unit, to the last digit."""
    return f"{Decimal(nano).scaleb(-9).normalize():f}"


def total_nano(cost_nano_N: Ints) -> int:
    """The exact sum of amounts >= 0, even if it needs more than 64 bits."""
    if float(np.sum(cost_nano_N, dtype=np.float64)) < MAX_NANO:
        return int(np.sum(cost_nano_N, dtype=np.int64))
    return sum(map(int, cost_nano_N.ravel().tolist()))


def affordable(cost_nano_N: Ints, budget: int) -> int:
    """How many amounts, counted from the first, fit into the budget together."""
    if len(cost_nano_N) and float(np.sum(cost_nano_N, dtype=np.float64)) >= MAX_NANO:
        # The sums below could overflow 64 bits, so count one by one until the budget is exceeded.
        total = 0
        for k, cost in enumerate(cost_nano_N.tolist()):
            total += cost
            if total > budget:
                return k
        return len(cost_nano_N)
    return int(np.searchsorted(np.cumsum(cost_nano_N, dtype=np.int64), budget, side="right"))
