"""How far a day has drifted: its features, channels, gains, calibration and policies beside other days.

A day is compared with the day before and with the training period (the days that its model's feature spec was fitted
on, as far as they lie before it), by their profiles; its policies with the policies of the day before.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, hypot, inf, sqrt
from operator import add, mul

from jobs.drift.distances import in_groups, js_by_chance, js_distance, psi, psi_by_chance
from jobs.drift.limits import limit_of
from jobs.drift.results import (
    CALIBRATION,
    CHANNELS,
    DAY_BEFORE,
    FEATURES,
    POLICY,
    REWARDS,
    TRAINING,
    VOCABULARY,
    Drift,
    DriftFigure,
)
from jobs.drift.score_figures import judged_gains, mean_policy, policy_change
from jobs.quality.day_profile import MISSING, DayProfile, profile_of, profiled_columns, together
from jobs.quality.trailing_baseline import LUCK
from lakehouse.feature_specs import spec_of_version
from lakehouse.lake import Lake
from schemas.contract import Known, Role
from schemas.dataset import Dataset
from schemas.days import day_before, days_between
from schemas.errors import NothingToDo, UserError
from schemas.quality import Limit, Quality
from schemas.steps import last_column
from schemas.tables import (
    CHANNEL_POLICIES,
    EXPOSURES,
    FEATURE_SPEC,
    PREQUENTIAL,
)
from schemas.tables.feature_spec import FeatureSpec

MOST_SHARE = 0.95  # of the way to 1: a share whose limit is 1 would always be usual
_WHEN = {DAY_BEFORE: "on the day before", TRAINING: "in the training period"}


@dataclass(frozen=True, slots=True)
class _Measured:
    """A figure before its limit is known. fixed: the limit where none is learned; widened: adds to a limit what chance
    does on so few users.

    sentence has {value}, {limit} and {like} (as, or unlike) where they go; shown: how both numbers are written.
    """

    name: str
    about: str
    against: str
    value: float
    fixed: float
    limit: Limit
    sentence: str
    shown: str = ".3f"
    same: float = 0.0  # the value of no difference
    is_share: bool = False  # 1 is the most that it can be
    widened: Callable[[float], float] = lambda limit: limit

    def figure(self, earlier: Iterable[Drift], quality: Quality) -> DriftFigure:
        """With its limit, learned from the same figure on earlier days where there are enough.

        Each day's chance is added to what was learned, so a small day after large ones is not accused of being small.
        Only beside the day before may the limit rise: the distance from the training period grows day by day with a
        creeping fault, and a champion that is never calibrated would teach that this is usual.
        """
        values = [f.value for d in earlier for f in d.figures if (f.name, f.against) == (self.name, self.against)]
        most = self.same + MOST_SHARE * (1 - self.same) if self.is_share else inf
        learned, limit_from = limit_of(
            self.fixed, values, quality, same=self.same, most=most, may_rise=self.against == DAY_BEFORE
        )
        limit = self.widened(learned)
        words = {
            "{value}": format(self.value, self.shown),
            "{limit}": format(limit, self.shown),
            "{like}": "as" if self.value <= limit else "unlike",
        }
        sentence = re.sub("|".join(map(re.escape, words)), lambda word: words[word[0]], self.sentence)
        return DriftFigure(
            self.name, self.about, self.against, self.value, limit, limit_from, self.limit.severity.value, sentence,
            self.limit.why, self.same,
        )  # fmt: skip


def measure_drift(lake: Lake, dataset: Dataset, ds: str, earlier: Sequence[Drift]) -> Drift:
    """All figures of a published day. earlier: the drifts stored so far, of any day; those before this one teach.

    Raises NothingToDo where the day holds no row, UserError where its exposures are not published.
    """
    today = profile_of(lake, dataset, ds)
    if today is None:
        if lake[EXPOSURES, dataset, ds].manifest is not None:
            raise NothingToDo("the day holds no exposure: there is nothing to compare")
        raise UserError(f"no exposures for {dataset.name} on {ds} in {lake.root}: there is nothing to compare")
    spec = _spec(lake, dataset, ds)
    before = day_before(ds)
    reference = _reference_days(lake, dataset, ds, spec)
    figures: list[_Measured] = []
    yesterday = profile_of(lake, dataset, before)
    if yesterday is not None:
        figures += _beside(dataset, today, yesterday, DAY_BEFORE)
    past = together(found for day in reference if (found := profile_of(lake, dataset, day)) is not None)
    if past is not None:
        figures += _beside(dataset, today, past, TRAINING)
        if spec is not None:
            figures += _unknown_categories(dataset, today, past, spec)
    figures += _calibration(lake, dataset, ds)
    figures += _policies(lake, dataset, ds)
    known = sorted((d for d in earlier if d.ds < ds), key=lambda d: d.ds)[-dataset.quality.max_measured_days :]
    read = {
        EXPOSURES: [*reference, before, ds],
        CHANNEL_POLICIES: [before, ds],
        PREQUENTIAL: [ds],
        FEATURE_SPEC: [spec.last_day] if spec else [],
    }
    inputs: dict[str, str] = {}
    for table, days in read.items():
        inputs |= lake.fingerprints(table, dataset, days)
    final = tuple(measured.figure(known, dataset.quality) for measured in figures)
    return Drift(dataset.name, ds, tuple(reference) if past else (), final, inputs)


def _spec(lake: Lake, dataset: Dataset, ds: str) -> FeatureSpec | None:
    """The feature spec of the day's policies, or the newest; None before the first."""
    if not lake.days(FEATURE_SPEC, dataset):
        return None
    policies = lake[CHANNEL_POLICIES, dataset, ds].manifest
    return spec_of_version(lake, dataset.name, policies.spec_version if policies else None)


def _reference_days(lake: Lake, dataset: Dataset, ds: str, spec: FeatureSpec | None) -> list[str]:
    if spec is None:
        return []
    published = set(lake.days(EXPOSURES, dataset))
    return [day for day in days_between(spec.first_day, spec.last_day) if day < ds and day in published]


def _beside(dataset: Dataset, today: DayProfile, other: DayProfile, against: str) -> Iterator[_Measured]:
    quality, when = dataset.quality, _WHEN[against]
    for column in profiled_columns(dataset):
        name = column.name
        if name in quality.not_compared or name not in other.columns or name not in today.columns:
            continue
        was, now = in_groups(other.columns[name], today.columns[name], numeric=column.role is Role.NUMERIC)
        whose = "users" if column.static else "exposures"
        spread = f"{name} ({column.doc}) is spread over the {whose} {{like}} {when}"
        size = (len(was), other.users, today.users, LUCK)
        yield _Measured(
            f"psi({name})", FEATURES, against, psi(was, now), quality.psi.value, quality.psi,
            f"{spread}: population stability index {{value}}, where up to {{limit}} is usual.",
            widened=partial(add, psi_by_chance(*size)),
        )  # fmt: skip
        yield _Measured(
            f"js({name})", FEATURES, against, js_distance(was, now), quality.js_distance.value, quality.js_distance,
            f"{spread}: Jensen-Shannon distance {{value}}, where up to {{limit}} is usual.",
            is_share=True, widened=partial(hypot, js_by_chance(*size)),
        )  # fmt: skip
    was, now = in_groups(other.channels, today.channels, numeric=False)
    yield _Measured(
        "js(channel)", CHANNELS, against, js_distance(was, now), quality.channel_mix.value, quality.channel_mix,
        f"The exposures are spread over the channels {{like}} {when}: Jensen-Shannon distance {{value}} (0: the same"
        " shares, 1: no channel in common), where up to {limit} is usual.",
        is_share=True, widened=partial(hypot, js_by_chance(len(was), other.users, today.users, LUCK)),
    )  # fmt: skip
    for gain in dataset.gain_names:
        # As many users with the gain as this day should have had, or has: a few tell no rate.
        expected = other.gain_users[gain] * today.users / other.users
        if max(expected, today.gain_users[gain]) >= quality.min_users_with_gain:
            yield _rate(gain, today, other, against, quality.rate)


def _rate(gain: str, today: DayProfile, other: DayProfile, against: str, limit: Limit) -> _Measured:
    """Gains known by the end of their own day, over exposures: the ratio of the two rates, 1 or more."""
    hits, was = today.gains[gain], other.gains[gain]
    ratio = _ratio((hits + 0.5) / (today.exposures + 1), (was + 0.5) / (other.exposures + 1))
    return _Measured(
        f"rate({gain})", REWARDS, against, ratio, limit.value, limit,
        f"{hits / today.exposures:.2%} of the exposures had a {gain} by the end of the day, against "
        f"{was / other.exposures:.2%} {_WHEN[against]}: {{value}} times, where up to {{limit}} either way is usual.",
        same=1.0,
        widened=partial(mul, exp(LUCK * sqrt(sum(1 / (day.gain_users[gain] + 1) for day in (today, other))))),
    )  # fmt: skip


def _unknown_categories(
    dataset: Dataset, today: DayProfile, past: DayProfile, spec: FeatureSpec
) -> Iterator[_Measured]:
    """Exposures (of a profile: users) whose category the model does not know."""
    limit = dataset.quality.unknown_categories
    kept = {feature.name: feature for feature in spec.kept_features}
    for column in profiled_columns(dataset):
        feature = kept.get(column.name if column.known is Known.BEFORE else last_column(column.name))
        if feature is None or feature.role != "categorical" or column.name in dataset.quality.not_compared:
            continue
        now, was = (_unknown_share(day.columns[column.name], set(feature.vocabulary)) for day in (today, past))
        luck = LUCK * sqrt(was * (1 - was) / max(today.users, 1))
        yield _Measured(
            f"unknown_categories({column.name})", VOCABULARY, TRAINING, now, was + limit.value, limit,
            f"{{value}} of the {'users' if column.static else 'exposures'} have a {column.name} that is not in the "
            f"model's vocabulary, against {was:.1%} in the training period, where up to {{limit}} is usual.",
            ".1%", same=was, is_share=True, widened=partial(add, luck),
        )  # fmt: skip


def _unknown_share(counts: dict[str, int], vocabulary: set[str]) -> float:
    filled = {value: n for value, n in counts.items() if value != MISSING}
    return sum(n for value, n in filled.items() if value not in vocabulary) / max(sum(filled.values()), 1)


def _calibration(lake: Lake, dataset: Dataset, ds: str) -> Iterator[_Measured]:
    limit = dataset.quality.calibration
    for gain, predicted, observed, labels in judged_gains(lake, dataset, ds):
        expected, hits = predicted * labels, observed * labels
        yield _Measured(
            f"calibration({gain})", CALIBRATION, "", _ratio(expected + 0.5, hits + 0.5),
            limit.value, limit,
            f"The champion of the day before predicted {predicted:.2%} {gain}, and {observed:.2%} came: {{value}} "
            "times, where up to {limit} either way is usual.",
            same=1.0, widened=partial(mul, exp(LUCK / sqrt(hits + 1))),
        )  # fmt: skip


def _policies(lake: Lake, dataset: Dataset, ds: str) -> Iterator[_Measured]:
    change_limit, mix_limit = dataset.quality.policy_change, dataset.quality.channel_mix
    before, now = (lake[CHANNEL_POLICIES, dataset, day].path for day in (day_before(ds), ds))
    found = policy_change(before, now)
    if found is None:
        return
    change, users = found
    yield _Measured(
        "policy_change", POLICY, DAY_BEFORE, change, change_limit.value, change_limit,
        "{value} of the probability in a user's policy moved to other channels overnight, on average over the "
        f"{users:,} users of both days, where up to {{limit}} is usual.",
        ".1%", is_share=True,
    )  # fmt: skip
    was, mix = mean_policy(before), mean_policy(now)
    channels = sorted(was.keys() | mix.keys())
    # As if of so many users: counts are what the distance takes.
    both = ([users * side.get(channel, 0.0) for channel in channels] for side in (was, mix))
    yield _Measured(
        "js(policy)", POLICY, DAY_BEFORE, js_distance(*both), mix_limit.value, mix_limit,
        f"The policies' probability is spread over the channels {{like}} {_WHEN[DAY_BEFORE]}: Jensen-Shannon distance "
        "{value}, where up to {limit} is usual.",
        is_share=True,
    )  # fmt: skip


def _ratio(one: float, other: float) -> float:
    return max(one / other, other / one)
