"""A drift figure before its limit is known, and how it gets its limit."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from jobs.drift.limits import limit_of
from jobs.drift.results import DAY_BEFORE, Drift, DriftFigure
from schemas.quality import Limit, Quality

# The largest limit of a share, as a part of the way to 1: no share would ever exceed a limit of 1.
LARGEST_SHARE_LIMIT = 0.95


@dataclass(frozen=True, slots=True)
class MeasuredFigure:
    """A figure of a day, with everything that its limit follows from.

    fixed: the limit if none is learned. limit: its severity and why it matters.
    sentence: the figure in words, with the placeholders {value}, {limit} and {like} ("similar to" or "different from").
    number_format: how the sentence writes both numbers. same: the value of no difference.
    is_share: whether 1 is the largest possible value. with_margin: adds the margin for chance to a limit.
    """

    name: str
    about: str
    against: str
    value: float
    fixed: float
    limit: Limit
    sentence: str
    number_format: str = ".3f"
    same: float = 0.0
    is_share: bool = False
    with_margin: Callable[[float], float] = lambda limit: limit

    def with_limit(self, earlier_days: Iterable[Drift], quality: Quality) -> DriftFigure:
        """The figure with its limit, which is learned from the same figure on earlier days if there are enough.

        Each day's margin for chance is added to the learned limit, so that a small day after large ones does not
        exceed it for being small. Only against the day before may a learned limit rise above the fixed one. Against the
        training period a slow fault increases the distance day by day, and it must not become normal; nor must a
        champion that is never calibrated.
        """
        key = (self.name, self.against)
        values = [f.value for drift in earlier_days for f in drift.figures if (f.name, f.against) == key]
        maximum = self.same + LARGEST_SHARE_LIMIT * (1 - self.same) if self.is_share else inf
        learned, limit_from = limit_of(
            self.fixed, values, quality, no_difference=self.same, maximum=maximum, may_rise=self.against == DAY_BEFORE
        )
        limit = self.with_margin(learned)
        words = {
            "{value}": format(self.value, self.number_format),
            "{limit}": format(limit, self.number_format),
            "{like}": "similar to" if self.value <= limit else "different from",
        }
        # Replaced in one step: a text that was put in may contain braces itself.
        sentence = re.sub("|".join(map(re.escape, words)), lambda match: words[match[0]], self.sentence)
        return DriftFigure(
            self.name, self.about, self.against, self.value, limit, limit_from, self.limit.severity.value, sentence,
            self.limit.rationale, self.same,
        )  # fmt: skip


def factor_between(first: float, second: float) -> float:
    """The larger of two positive values over the smaller one: 1 or more."""
    return max(first / second, second / first)
