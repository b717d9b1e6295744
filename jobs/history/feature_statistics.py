"""Statistics of the training steps: missing values, scale and vocabulary of each candidate feature, reward span.

They are added up over all training steps, a table of some rows at a time.

Shapes: N rows of a table, F numbers.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.columns import Floats, to_floats
from jobs.history.moments import Moments
from schemas.contract import Column as Input
from schemas.contract import Role
from schemas.dataset import Dataset
from schemas.tables.feature_spec import Feature

# Reads the rows again at each call, with these columns, in tables that are not larger than memory allows.
ReadSteps = Callable[[Sequence[str]], Iterable[pa.Table]]

# Skewness of a number >= 0 beyond which its logarithm is taken.
_HEAVY_TAIL = 2.0
# A category that is seen less often shares the out-of-vocabulary code.
RAREST_CATEGORY = 10
_LARGEST_VOCABULARY = 20_000


def round_to_12_digits(value: float) -> float:
    """Twelve significant digits: sums that are added up in another order must not make another spec."""
    return float(f"{value:.12g}")


class NumberFigures:
    """Moments, smallest value and mean logarithm of the positive values of each number."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.moments = Moments.from_columns(np.empty((0, len(names))))
        self._min_F = np.full(len(names), np.inf)
        self._logs = self.moments

    def add(self, rows: pa.Table) -> None:
        values_NF = numbers(rows, self.names)
        self.moments += Moments.from_columns(values_NF)
        self._min_F = np.fmin(self._min_F, np.fmin.reduce(values_NF, axis=0, initial=np.inf))
        self._logs += Moments.from_columns(np.log(values_NF, where=values_NF > 0, out=np.full_like(values_NF, np.nan)))

    def units(self) -> dict[str, float]:
        """The typical size of each number >= 0 with a heavy tail.

        The model reads such a number by its order of magnitude, relative to the number's own typical size.
        """
        is_heavy_F = (self._min_F >= 0) & (self._logs.count_F > 0) & (self.moments.skewness_F > _HEAVY_TAIL)
        return {
            name: round_to_12_digits(math.exp(self._logs.mean_F[f]))
            for f, name in enumerate(self.names)
            if is_heavy_F[f]
        }


def numbers(rows: pa.Table, names: Sequence[str]) -> Floats:
    """[N, F]: columns of rows as numbers; NaN is a missing value."""
    values_NF = np.empty((len(rows), len(names)))
    for f, name in enumerate(names):
        values_NF[:, f] = to_floats(rows.column(name))
    return values_NF


class ValueCounts:
    """How often each value of a column occurs, as text; null is not counted."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self._rows = self._distinct = 0

    def add(self, values: pa.ChunkedArray) -> None:
        counts = pc.value_counts(values.cast(pa.string()).drop_null())
        self._parts.append(pa.table({"value": counts.field("values"), "count": counts.field("counts")}))
        self._rows += len(counts)
        if self._rows > 2 * self._distinct:
            self._add_up()

    def _add_up(self) -> None:
        total = pa.concat_tables(self._parts).group_by("value").aggregate([("count", "sum")])
        self._parts = [pa.table({"value": total.column("value"), "count": total.column("count_sum")})]
        self._rows = self._distinct = len(total)

    def totals(self) -> pa.Table:
        """Columns value and count, the most frequent value first, equal counts by the value."""
        self._add_up()
        return self._parts[0].sort_by([("count", "descending"), ("value", "ascending")])


@dataclass
class StepFigures:
    """The figures of all training steps, as far as they have been added."""

    dataset: Dataset
    penalty: float
    numbers: NumberFigures
    categories: dict[str, ValueCounts]
    total: int = 0
    low: float = math.inf  # the smallest and the largest g - s w
    high: float = -math.inf

    @classmethod
    def from_steps(cls, read: ReadSteps, dataset: Dataset, inputs: Sequence[Input], penalty: float) -> "StepFigures":
        """The figures of these inputs. penalty: s of equation 3."""
        names = {role: [c.name for c in inputs if c.role is role] for role in (Role.NUMERIC, Role.CATEGORICAL)}
        figures = cls(
            dataset,
            penalty,
            NumberFigures(names[Role.NUMERIC]),
            {name: ValueCounts() for name in names[Role.CATEGORICAL]},
        )
        columns = (*names[Role.NUMERIC], *names[Role.CATEGORICAL], "cost", *dataset.gain_names)
        for rows in read(list(dict.fromkeys(columns))):
            figures.add(rows)
        return figures

    def add(self, rows: pa.Table) -> None:
        if not len(rows):
            return
        self.total += len(rows)
        self.numbers.add(rows)
        for name, counts in self.categories.items():
            counts.add(rows.column(name))
        # Equation 3, gains fused by weight as in equation 18.
        gain_N = sum((to_floats(rows.column(g.name)) * g.weight for g in self.dataset.gains), np.zeros(len(rows)))
        reward_N = gain_N - self.penalty * to_floats(rows.column("cost"))
        self.low = float(np.fmin.reduce(reward_N, initial=self.low))
        self.high = float(np.fmax.reduce(reward_N, initial=self.high))

    @property
    def reward_span(self) -> tuple[float, float]:
        """Smallest and largest g - s w of a step."""
        return self.low, self.high if self.high > self.low else self.low + 1.0


def log_moments(rows: pa.Table, units: Mapping[str, float]) -> Moments:
    """The moments of log1p(value / unit) of the numbers with a unit; a missing number counts as 0."""
    values_NF = np.nan_to_num(numbers(rows, list(units)))
    return Moments.from_columns(np.log1p(np.maximum(values_NF, 0.0) / np.array(list(units.values()))))


def describe_numbers(
    inputs: Sequence[Input], figures: StepFigures, units: Mapping[str, float], logs: Moments
) -> list[Feature]:
    """Features with missing share, mean and variance; for heavy tails also the unit of the logarithm.

    logs: the moments of log1p(value / unit), in the order of `units`.
    """

    def describe(c: Input) -> Feature:
        f = figures.numbers.names.index(c.name)
        scale, k = (logs, list(units).index(c.name)) if c.name in units else (figures.numbers.moments, f)
        count = int(figures.numbers.moments.count_F[f])
        feature = Feature(
            name=c.name, role="numeric", static=c.static, kept=True,
            missing_share=1 - count / max(figures.total, 1), unit=units.get(c.name),
        )  # fmt: skip
        if not count:
            return feature
        std = float(scale.std_F[k])
        return replace(
            feature,
            variance=round_to_12_digits(std**2),
            mean=round_to_12_digits(float(scale.mean_F[k])),
            std=round_to_12_digits(std),
        )

    return [describe(c) for c in inputs]


def describe_categories(inputs: Sequence[Input], figures: StepFigures) -> list[Feature]:
    """Features with missing share and vocabulary, the most frequent value first."""

    def describe(c: Input) -> Feature:
        totals = figures.categories[c.name].totals()
        counts = totals.column("count").to_numpy()
        known = int((counts >= RAREST_CATEGORY).sum())  # the first ones
        feature = Feature(
            name=c.name, role="categorical", static=c.static, kept=True,
            missing_share=1 - int(counts.sum()) / max(figures.total, 1),
            vocabulary=tuple(totals.column("value").slice(0, min(known, _LARGEST_VOCABULARY)).to_pylist()),
        )  # fmt: skip
        if counts.max(initial=0) == figures.total:
            return replace(feature, kept=False, reason="constant: one value only")
        return feature

    return [describe(c) for c in inputs]
