"""Distances between two spreads of the same thing, given as counts by group. Pure arithmetic.

psi: the population stability index, sum of (q - p) ln(q / p) over groups; 0.1 is called a small and 0.25 a large
change. js_distance: the square root of the Jensen-Shannon divergence to base 2, a metric from 0 (the same) to 1
(nothing in common); Lin, "Divergence measures based on the Shannon entropy", 1991.
Half a count is added to every group of both, so that a group that is empty on one side has a finite share.
"""

from collections.abc import Mapping, Sequence
from math import log, log2, sqrt

from jobs.quality.day_profile import MISSING, REST

NUMBER_GROUPS = 10  # of about equal weight in the reference, and one below and one above all of it
CATEGORY_GROUPS = 20  # the commonest in the reference; all others are one group more
Counts = Mapping[str, int]


def in_groups(reference: Counts, day: Counts, *, numeric: bool) -> tuple[list[int], list[int]]:
    """Both counts over the same groups, chosen by the reference alone; missing values are a group of their own."""
    keys = [key for key in {**reference, **day} if key not in (MISSING, REST)]
    if numeric:
        groups = _quantiles(sorted(keys, key=int), reference)
    else:
        common = sorted(keys, key=lambda key: (-reference.get(key, 0), key))[:CATEGORY_GROUPS]
        common = [key for key in common if reference.get(key, 0)]
        groups = [[key] for key in common] + [[*(set(keys) - set(common)), REST]]
    groups.append([MISSING])
    sums = [[sum(counts.get(key, 0) for key in group) for group in groups] for counts in (reference, day)]
    held = [k for k in range(len(groups)) if sums[0][k] or sums[1][k]]
    return [sums[0][k] for k in held], [sums[1][k] for k in held]


def _quantiles(buckets: list[str], reference: Counts) -> list[list[str]]:
    """Neighbouring buckets put together until each group holds its part of the reference.

    What lies below the reference's least bucket and above its greatest are groups of their own: numbers that the
    reference has never seen may not pass for those at its edge.
    """
    held_at = [k for k, bucket in enumerate(buckets) if reference.get(bucket, 0)]
    if not held_at:
        return [buckets]
    least, greatest = held_at[0], held_at[-1]
    part = sum(reference.get(bucket, 0) for bucket in buckets) / NUMBER_GROUPS
    groups: list[list[str]] = [[]]
    held = 0
    for bucket in buckets[least : greatest + 1]:
        if held >= part * len(groups):
            groups.append([])
        groups[-1].append(bucket)
        held += reference.get(bucket, 0)
    return [buckets[:least], *groups, buckets[greatest + 1 :]]


def psi(reference: Sequence[float], day: Sequence[float]) -> float:
    return sum((q - p) * log(q / p) for p, q in zip(_shares(reference), _shares(day), strict=True))


def js_distance(reference: Sequence[float], day: Sequence[float]) -> float:
    divergence = 0.0
    for p, q in zip(_shares(reference), _shares(day), strict=True):
        middle = (p + q) / 2
        divergence += (p * log2(p / middle) + q * log2(q / middle)) / 2
    return sqrt(max(divergence, 0.0))


def psi_by_chance(groups: int, reference: float, day: float, spreads: float) -> float:
    """What the psi of two samples of these sizes from one source seldom exceeds.

    It is about a chi-square of groups - 1 degrees of freedom, times (1 / reference + 1 / day).
    """
    degrees = max(groups - 1, 0)
    return (degrees + spreads * sqrt(2 * degrees)) * (1 / max(reference, 1) + 1 / max(day, 1))


def js_by_chance(groups: int, reference: float, day: float, spreads: float) -> float:
    """The same of the Jensen-Shannon distance: near equality its square is psi / (8 ln 2)."""
    return sqrt(psi_by_chance(groups, reference, day, spreads) / (8 * log(2)))


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]
