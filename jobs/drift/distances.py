"""Distances between two distributions, given as counts per group. Pure arithmetic.

psi: the population stability index, the sum of (q - p) ln(q / p) over groups; 0.1 is called a small and 0.25 a large
change. js_distance: the square root of the Jensen-Shannon divergence to base 2, a metric from 0 (the same shares) to 1
(no group in common); Lin, "Divergence measures based on the Shannon entropy", 1991.
Half a count is added to every group on both sides, so that the share of an empty group is above 0.
"""

from collections.abc import Mapping, Sequence
from math import log, log2, sqrt

from jobs.quality.day_profile import MISSING, REMAINING

NUMBER_GROUPS = 10  # of about equal weight in the reference; numbers below and above the reference are two more groups
CATEGORY_GROUPS = 20  # the most frequent values in the reference; all others are one more group
Counts = Mapping[str, int]


def in_groups(reference: Counts, day: Counts, *, numeric: bool) -> tuple[list[int], list[int]]:
    """The counts of both sides in the same groups, which follow from the reference alone. Missing values are a group.

    Groups that are empty on both sides are left out.
    """
    keys = [key for key in {**reference, **day} if key not in (MISSING, REMAINING)]
    groups = _number_groups(sorted(keys, key=int), reference) if numeric else _category_groups(keys, reference)
    groups.append([MISSING])
    reference_sums, day_sums = (
        [sum(counts.get(key, 0) for key in group) for group in groups] for counts in (reference, day)
    )
    non_empty = [k for k in range(len(groups)) if reference_sums[k] or day_sums[k]]
    return [reference_sums[k] for k in non_empty], [day_sums[k] for k in non_empty]


def _category_groups(keys: list[str], reference: Counts) -> list[list[str]]:
    frequent = sorted(keys, key=lambda key: (-reference.get(key, 0), key))[:CATEGORY_GROUPS]
    frequent = [key for key in frequent if reference.get(key, 0)]
    return [[key] for key in frequent] + [[*(set(keys) - set(frequent)), REMAINING]]


def _number_groups(buckets: list[str], reference: Counts) -> list[list[str]]:
    """Neighbouring buckets together until each group has its part of the reference.

    The buckets below the reference are one more group, those above it another one: numbers that the reference does not
    contain must not count as its smallest or largest numbers.
    """
    filled = [k for k, bucket in enumerate(buckets) if reference.get(bucket, 0)]
    if not filled:
        return [buckets]
    lowest, highest = filled[0], filled[-1]
    group_weight = sum(reference.get(bucket, 0) for bucket in buckets) / NUMBER_GROUPS
    groups: list[list[str]] = [[]]
    weight = 0
    for bucket in buckets[lowest : highest + 1]:
        if weight >= group_weight * len(groups):
            groups.append([])
        groups[-1].append(bucket)
        weight += reference.get(bucket, 0)
    return [buckets[:lowest], *groups, buckets[highest + 1 :]]


def psi(reference: Sequence[float], day: Sequence[float]) -> float:
    """The population stability index of two lists of counts in the same groups."""
    return sum((q - p) * log(q / p) for p, q in zip(_shares(reference), _shares(day), strict=True))


def js_distance(reference: Sequence[float], day: Sequence[float]) -> float:
    """The Jensen-Shannon distance of two lists of counts in the same groups."""
    divergence = 0.0
    for p, q in zip(_shares(reference), _shares(day), strict=True):
        middle = (p + q) / 2
        divergence += (p * log2(p / middle) + q * log2(q / middle)) / 2
    return sqrt(max(divergence, 0.0))


def psi_by_chance(groups: int, reference: float, day: float, standard_errors: float) -> float:
    """A value that the psi of two samples of these sizes from one distribution seldom exceeds.

    It follows about a chi-square distribution of groups - 1 degrees of freedom, times (1 / reference + 1 / day).
    """
    degrees = max(groups - 1, 0)
    return (degrees + standard_errors * sqrt(2 * degrees)) * (1 / max(reference, 1) + 1 / max(day, 1))


def js_by_chance(groups: int, reference: float, day: float, standard_errors: float) -> float:
    """The same for the Jensen-Shannon distance, whose square is psi / (8 ln 2) near equality."""
    return sqrt(psi_by_chance(groups, reference, day, standard_errors) / (8 * log(2)))


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]
