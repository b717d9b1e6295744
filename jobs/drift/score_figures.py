"""Drift of a day's predictions: their calibration, policies and fusions compared with the day before."""

from collections.abc import Iterator
from functools import partial
from math import exp, sqrt
from operator import mul

from jobs.drift.distances import js_distance
from jobs.drift.measured_figure import MeasuredFigure, factor_between
from jobs.drift.results import CALIBRATION, DAY_BEFORE, POLICY
from jobs.drift.score_queries import gain_rates, mean_policy, policy_change, power_change
from jobs.quality.chance import STANDARD_ERRORS
from lakehouse.lake import Lake
from lakehouse.models.versions import model_name
from schemas.dataset import Dataset
from schemas.days import day_before
from schemas.tables import CHANNEL_POLICIES, FUSION_WEIGHTS, PREQUENTIAL
from schemas.tables.candidates.fusion_weights import power_column


def calibration_figures(lake: Lake, dataset: Dataset, day: str) -> Iterator[MeasuredFigure]:
    """The predicted rate of each gain compared with the observed one; none without a `prequential` of the day.

    The champion of each method has its own figures; those of another method than the default one name the model.
    """
    limit = dataset.quality.calibration
    for model, gain, predicted, observed, labels in gain_rates(lake[PREQUENTIAL, dataset, day]):
        predicted_count, observed_count = predicted * labels, observed * labels
        model_suffix = "" if model == model_name(dataset.name) else f", {model}"
        yield MeasuredFigure(
            f"calibration({gain}{model_suffix})", CALIBRATION, "",
            factor_between(predicted_count + 0.5, observed_count + 0.5),
            limit.value, limit,
            f"The champion of the day before{model_suffix} predicted a {gain} rate of {predicted:.2%}, and the "
            f"observed rate is {observed:.2%}: a factor of {{value}}, the limit is {{limit}}.",
            same=1.0, with_margin=partial(mul, exp(STANDARD_ERRORS / sqrt(observed_count + 1))),
        )  # fmt: skip


def policy_figures(lake: Lake, dataset: Dataset, day: str) -> Iterator[MeasuredFigure]:
    """How far users' policies have moved since the day before, and their mean; none if a day has no policies.

    No margin for chance is added: both days have the same users.
    """
    change_limit, mix_limit = dataset.quality.policy_change, dataset.quality.channel_mix
    yesterday, today = (lake[CHANNEL_POLICIES, dataset, d] for d in (day_before(day), day))
    changed = policy_change(yesterday, today)
    if changed is None:
        return
    change, users = changed
    yield MeasuredFigure(
        "policy_change", POLICY, DAY_BEFORE, change, change_limit.value, change_limit,
        "{value} of the probability in a user's policy moved to other channels overnight, on average over the "
        f"{users:,} users of both days; the limit is {{limit}}.",
        ".1%", is_share=True,
    )  # fmt: skip
    means = (mean_policy(yesterday), mean_policy(today))
    channels = sorted(means[0].keys() | means[1].keys())
    # The distance takes counts: probabilities times the number of users.
    counts = ([users * mean.get(channel, 0.0) for channel in channels] for mean in means)
    yield MeasuredFigure(
        "js(policy)", POLICY, DAY_BEFORE, js_distance(*counts), mix_limit.value, mix_limit,
        "The distribution of the policies' probability over the channels is {like} that of the day before: "
        "Jensen-Shannon distance {value}, the limit is {limit}.",
        is_share=True,
    )  # fmt: skip


def fusion_figures(lake: Lake, dataset: Dataset, day: str) -> Iterator[MeasuredFigure]:
    """How far the powers of users' fusions have moved since the day before; none if a day has no fusion weights."""
    limit, powers = dataset.quality.fusion_change, [power_column(objective.name) for objective in dataset.objectives]
    changed = power_change(*(lake[FUSION_WEIGHTS, dataset, d] for d in (day_before(day), day)), powers)
    if changed is None:
        return
    change, users = changed
    yield MeasuredFigure(
        "fusion_change", POLICY, DAY_BEFORE, change, limit.value, limit,
        f"The power that moved most in a user's fusion moved by {{value}} overnight, on average over the {users:,} "
        "users of both days; the limit is {limit}.",
        ".2f",
    )  # fmt: skip
