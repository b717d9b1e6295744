"""Money as whole billionths (nano) of the log's unit: sums are exact in any order, as the journeys' costs are."""

from decimal import ROUND_FLOOR, Context, Decimal, InvalidOperation

import numpy as np
import numpy.typing as npt

from schemas.errors import UserError

NANO = 1_000_000_000
MOST_NANO = 2**62  # a larger amount would not leave room to add two of them
_FLOATS_ARE_WHOLE = 2.0**53

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def cost_nano(cost_N: Floats, what: str = "cost") -> Ints:
    """Amounts in the log's unit as nano, to the nearest; raises UserError where one is NaN, infinite or negative."""
    cost_N = np.asarray(cost_N, dtype=np.float64)
    for problem, broken_N in (
        ("no number", np.isnan(cost_N)),
        ("negative", cost_N < 0),
        ("too large", cost_N * NANO > MOST_NANO),
    ):
        if broken_N.any():
            at = tuple(np.argwhere(broken_N)[0].tolist())
            raise UserError(f"{what}: {cost_N[at]} (entry {', '.join(map(str, at))}) is {problem}: correct the amount")
    nano_N: Ints = np.rint(cost_N * NANO).astype(np.int64)
    return nano_N


def budget_nano(budget: str | float) -> int:
    """A budget in the log's unit as nano, rounded down; raises UserError where it is no amount.

    Read as it is written: the number nearest to 2.01 is a little less, and 2.01 was meant.
    """
    try:
        amount = Decimal(str(budget))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= Decimal(MOST_NANO).scaleb(-9):
        raise UserError(f"a budget of {budget}: give an amount from 0 to {MOST_NANO // NANO:,}, in the log's unit")
    return int(Context(prec=30, rounding=ROUND_FLOOR).multiply(amount, Decimal(NANO)))


def in_units(nano: int) -> str:
    """An amount in the log's unit, to the last digit."""
    return f"{Decimal(nano).scaleb(-9).normalize():f}"


def total_nano(cost_nano_N: Ints) -> int:
    """The exact sum of amounts >= 0, also where it is beyond 64 bits."""
    if float(np.sum(cost_nano_N, dtype=np.float64)) < MOST_NANO:
        return int(np.sum(cost_nano_N, dtype=np.int64))
    return sum(map(int, cost_nano_N.ravel().tolist()))


def affordable(cost_nano_N: Ints, budget: int) -> int:
    """How many of these amounts, from the first on, fit into the budget together."""
    if len(cost_nano_N) and float(np.sum(cost_nano_N, dtype=np.float64)) >= MOST_NANO:
        # Amounts beyond the budget stop the row anyway: cut there, the sums below stay in 64 bits or in floats.
        total = 0
        for k, cost in enumerate(cost_nano_N.tolist()):
            total += cost
            if total > budget:
                return k
        return len(cost_nano_N)
    return int(np.searchsorted(np.cumsum(cost_nano_N, dtype=np.int64), budget, side="right"))
