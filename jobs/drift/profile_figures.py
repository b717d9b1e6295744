"""Drift of a day's exposures: its profile compared with the profile of the day before, or of the training period."""

from collections.abc import Iterator
from functools import partial
from math import exp, hypot, sqrt
from operator import add, mul

from jobs.drift.distances import in_groups, js_by_chance, js_distance, psi, psi_by_chance
from jobs.drift.measured_figure import MeasuredFigure, factor_between
from jobs.drift.results import CHANNELS, DAY_BEFORE, FEATURES, REWARDS, TRAINING, VOCABULARY
from jobs.quality.chance import STANDARD_ERRORS, share_margin
from jobs.quality.day_profile import MISSING, DayProfile, profiled_columns
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset
from schemas.quality import Limit, Quality
from schemas.steps import last_column
from schemas.tables.feature_spec import FeatureSpec

_PERIOD_PHRASE = {DAY_BEFORE: "on the day before", TRAINING: "in the training period"}


def profile_figures(
    dataset: Dataset, today: DayProfile, reference: DayProfile, period: str
) -> Iterator[MeasuredFigure]:
    """Distances of the feature columns and channels, and ratios of the reward rates."""
    quality = dataset.quality
    for column in profiled_columns(dataset):
        name = column.name
        if name not in quality.not_compared and name in reference.columns and name in today.columns:
            yield from _column_figures(column, today, reference, period, quality)
    yield _channel_figure(today, reference, period, quality.channel_mix)
    for gain in dataset.gain_names:
        # A rate is mostly chance if only few users have the gain, and only few were expected to have it.
        expected = reference.gain_users[gain] * today.users / reference.users
        if max(expected, today.gain_users[gain]) >= quality.min_users_with_gain:
            yield _rate_figure(gain, today, reference, period, quality.rate)


def vocabulary_figures(
    dataset: Dataset, today: DayProfile, training: DayProfile, spec: FeatureSpec
) -> Iterator[MeasuredFigure]:
    """The share of exposures (or users, for a profile column) whose category is not in the model's vocabulary."""
    limit = dataset.quality.unknown_categories
    features = {feature.name: feature for feature in spec.kept_features}
    for column in profiled_columns(dataset):
        feature = features.get(column.name if column.known is Known.BEFORE else last_column(column.name))
        if feature is None or feature.role != "categorical" or column.name in dataset.quality.not_compared:
            continue
        vocabulary = set(feature.vocabulary)
        share, training_share = (_unknown_share(day.columns[column.name], vocabulary) for day in (today, training))
        yield MeasuredFigure(
            f"unknown_categories({column.name})", VOCABULARY, TRAINING, share, training_share + limit.value, limit,
            f"{{value}} of the {_counted(column)} have a {column.name} that is not in the model's vocabulary, compared "
            f"with {training_share:.1%} {_PERIOD_PHRASE[TRAINING]}; the limit is {{limit}}.",
            ".1%", same=training_share, is_share=True,
            with_margin=partial(add, share_margin(training_share, today.users)),
        )  # fmt: skip


def _column_figures(
    column: Column, today: DayProfile, reference: DayProfile, period: str, quality: Quality
) -> Iterator[MeasuredFigure]:
    name = column.name
    counts = in_groups(reference.columns[name], today.columns[name], numeric=column.role is Role.NUMERIC)
    distribution = f"The distribution of {name} ({column.doc}) over the {_counted(column)} is {{like}} that of "
    sample_sizes = (len(counts[0]), reference.users, today.users, STANDARD_ERRORS)
    yield MeasuredFigure(
        f"psi({name})", FEATURES, period, psi(*counts), quality.psi.value, quality.psi,
        f"{distribution}the {period}: population stability index {{value}}, the limit is {{limit}}.",
        with_margin=partial(add, psi_by_chance(*sample_sizes)),
    )  # fmt: skip
    yield MeasuredFigure(
        f"js({name})", FEATURES, period, js_distance(*counts), quality.js_distance.value, quality.js_distance,
        f"{distribution}the {period}: Jensen-Shannon distance {{value}}, the limit is {{limit}}.",
        is_share=True, with_margin=partial(hypot, js_by_chance(*sample_sizes)),
    )  # fmt: skip


def _channel_figure(today: DayProfile, reference: DayProfile, period: str, limit: Limit) -> MeasuredFigure:
    counts = in_groups(reference.channels, today.channels, numeric=False)
    margin = js_by_chance(len(counts[0]), reference.users, today.users, STANDARD_ERRORS)
    return MeasuredFigure(
        "js(channel)", CHANNELS, period, js_distance(*counts), limit.value, limit,
        f"The distribution of the exposures over the channels is {{like}} that of the {period}: Jensen-Shannon "
        "distance {value} (0: the same shares, 1: no channel in common), the limit is {limit}.",
        is_share=True, with_margin=partial(hypot, margin),
    )  # fmt: skip


def _rate_figure(gain: str, today: DayProfile, reference: DayProfile, period: str, limit: Limit) -> MeasuredFigure:
    """The ratio of two rates, 1 or more. A rate is the share of exposures with the gain by the end of their day."""
    gained, reference_gained = today.gains[gain], reference.gains[gain]
    ratio = factor_between((gained + 0.5) / (today.exposures + 1), (reference_gained + 0.5) / (reference.exposures + 1))
    margin = exp(STANDARD_ERRORS * sqrt(sum(1 / (day.gain_users[gain] + 1) for day in (today, reference))))
    return MeasuredFigure(
        f"rate({gain})", REWARDS, period, ratio, limit.value, limit,
        f"{gained / today.exposures:.2%} of the exposures had a {gain} by the end of the day, compared with "
        f"{reference_gained / reference.exposures:.2%} {_PERIOD_PHRASE[period]}: a factor of {{value}}, the limit is "
        "{limit}.",
        same=1.0, with_margin=partial(mul, margin),
    )  # fmt: skip


def _counted(column: Column) -> str:
    """The unit in which the profile counts a column."""
    return "users" if column.static else "exposures"


def _unknown_share(counts: dict[str, int], vocabulary: set[str]) -> float:
    present = {value: n for value, n in counts.items() if value != MISSING}
    return sum(n for value, n in present.items() if value not in vocabulary) / max(sum(present.values()), 1)
