"""How far a figure moves by chance alone: the margin that audits and drift add to their limits."""

from math import sqrt

STANDARD_ERRORS = 3.0  # a difference of up to this many standard errors counts as chance


def share_margin(share: float, users: float) -> float:
    """The margin of a share that is measured on this number of independent users."""
    return STANDARD_ERRORS * sqrt(share * (1 - share) / max(users, 1))
