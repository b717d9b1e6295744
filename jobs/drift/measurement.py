"""Measure the drift of a day: its features, channels, gains, calibration and policies compared with other days.

By its profile, a day is compared with the day before and with the training period: those days before it that the
feature spec of its model was fitted on. Its policies and fusions are compared with those of the day before.
"""

from collections.abc import Sequence

from jobs.drift.measured_figure import MeasuredFigure
from jobs.drift.profile_figures import profile_figures, vocabulary_figures
from jobs.drift.results import DAY_BEFORE, TRAINING, Drift
from jobs.drift.score_figures import calibration_figures, fusion_figures, policy_figures
from jobs.quality.day_profile import DayProfile, day_profile, sum_of_profiles
from lakehouse.feature_specs import spec_of_version
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.days import day_before, days_between
from schemas.errors import NothingToDo, UserError
from schemas.tables import CHANNEL_POLICIES, EXPOSURES, FEATURE_SPEC, FUSION_WEIGHTS, PREQUENTIAL
from schemas.tables.feature_spec import FeatureSpec


def measure_drift(lake: Lake, dataset: Dataset, day: str, stored: Sequence[Drift]) -> Drift:
    """All figures of a published day. stored: the drifts of any days; limits are learned from those before this day.

    Raises NothingToDo if the day has no exposures, UserError if its exposures are not published.
    """
    today = day_profile(lake, dataset, day)
    if today is None:
        if lake[EXPOSURES, dataset, day].is_published:
            raise NothingToDo("the day has no exposures to compare")
        raise UserError(f"no exposures for {dataset.name} on {day} in {lake.root} to compare")
    spec = _model_spec(lake, dataset, day)
    training_days = _training_days(lake, dataset, day, spec)
    profiles = (day_profile(lake, dataset, training_day) for training_day in training_days)
    training = sum_of_profiles(profile for profile in profiles if profile is not None)
    figures = [
        *_exposure_figures(lake, dataset, day, today, training, spec),
        *calibration_figures(lake, dataset, day),
        *policy_figures(lake, dataset, day),
        *fusion_figures(lake, dataset, day),
    ]
    earlier = sorted((d for d in stored if d.ds < day), key=lambda d: d.ds)[-dataset.quality.max_measured_days :]
    final = tuple(figure.with_limit(earlier, dataset.quality) for figure in figures)
    inputs = _input_fingerprints(lake, dataset, day, training_days, spec)
    return Drift(dataset.name, day, tuple(training_days) if training else (), final, inputs)


def _exposure_figures(
    lake: Lake, dataset: Dataset, day: str, today: DayProfile, training: DayProfile | None, spec: FeatureSpec | None
) -> list[MeasuredFigure]:
    figures: list[MeasuredFigure] = []
    yesterday = day_profile(lake, dataset, day_before(day))
    if yesterday is not None:
        figures += profile_figures(dataset, today, yesterday, DAY_BEFORE)
    if training is not None:
        figures += profile_figures(dataset, today, training, TRAINING)
        if spec is not None:
            figures += vocabulary_figures(dataset, today, training, spec)
    return figures


def _input_fingerprints(
    lake: Lake, dataset: Dataset, day: str, training_days: list[str], spec: FeatureSpec | None
) -> dict[str, str]:
    """The fingerprint of every partition that is read, by its key."""
    days_read = {
        EXPOSURES: [*training_days, day_before(day), day],
        CHANNEL_POLICIES: [day_before(day), day],
        FUSION_WEIGHTS: [day_before(day), day],
        PREQUENTIAL: [day],
        FEATURE_SPEC: [spec.last_day] if spec else [],
    }
    inputs: dict[str, str] = {}
    for table, days in days_read.items():
        inputs |= lake.fingerprints(table, dataset, days)
    return inputs


def _model_spec(lake: Lake, dataset: Dataset, day: str) -> FeatureSpec | None:
    """The feature spec of the day's policies, or the newest one; None before the first."""
    if not lake.days(FEATURE_SPEC, dataset):
        return None
    policies = lake[CHANNEL_POLICIES, dataset, day].manifest
    return spec_of_version(lake, dataset, policies.spec_version if policies else None)


def _training_days(lake: Lake, dataset: Dataset, day: str, spec: FeatureSpec | None) -> list[str]:
    """The published days before this day on which the feature spec was fitted."""
    if spec is None:
        return []
    published = set(lake.days(EXPOSURES, dataset))
    return [d for d in days_between(spec.first_day, spec.last_day) if d < day and d in published]
