"""Which candidate inputs the model sees, and how they are encoded; fitted on training users only.

Vocabularies, shares, means and variances come from all training steps (feature_statistics.py). Correlation and mutual
information are measured on a bounded sample of steps, drawn by a hash of the exposure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import chdtrc

from features.columns import Floats, Ints, distinct_codes, filled_ints, to_floats
from jobs.history.feature_statistics import (
    RAREST_CATEGORY,
    ReadSteps,
    StepFigures,
    describe_categories,
    describe_numbers,
    log_moments,
    round_to_12_digits,
)
from jobs.history.moments import Moments
from schemas.contract import Column as Input
from schemas.contract import Role
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import feature_inputs, profile_inputs
from schemas.tables.feature_spec import OUT_OF_VOCABULARY, Feature, FeatureSpec, RewardScale


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """When a candidate is dropped, and on how many steps that is measured."""

    most_missing: float = 0.95  # share of missing values among training steps
    most_correlated: float = 0.98  # absolute Pearson correlation with a kept number
    least_significance: float = 0.01  # p of the G-test of independence, against channel and gains
    sample_rows: int = 50_000  # for correlation and mutual information
    bins: int = 32  # quantile bins of a number for its mutual information


RULES = SelectionRules()
_BUCKETS = 1_000_000  # of steps, by exposure_id, from which the sample is drawn


def fit_spec(
    read: ReadSteps, dataset: Dataset, channels: Sequence[str], first_day: str, last_day: str, penalty: float
) -> FeatureSpec:
    """The spec of these steps.

    read: the steps of training users only. penalty: s of equation 3. Raises UserError without any step.
    """
    candidates = (*profile_inputs(dataset), *feature_inputs(dataset))
    figures = StepFigures.from_steps(read, dataset, candidates, penalty)
    if figures.total == 0:
        raise UserError(
            f"{dataset.name} has no exposure of a training user from {first_day} to {last_day}: choose more days, or a "
            "log of more users"
        )
    units = figures.numbers.units()
    logs, sample = _logs_and_sample(read, dataset, candidates, units, figures.total)
    features = [
        *describe_numbers(_with_role(candidates, Role.NUMERIC), figures, units, logs),
        *describe_categories(_with_role(candidates, Role.CATEGORICAL), figures),
    ]
    features = _drop_uninformative([_drop_degenerate(f) for f in features], sample, dataset)
    features = _drop_correlated(features, sample)
    return FeatureSpec(
        dataset=dataset.name, first_day=first_day, last_day=last_day, channels=tuple(channels),
        gains=dataset.gain_names, gain_weights=tuple(g.weight for g in dataset.gains),
        reward=RewardScale(penalty, *figures.reward_span), features=tuple(features),
    )  # fmt: skip


def _with_role(candidates: Sequence[Input], role: Role) -> list[Input]:
    return [c for c in candidates if c.role is role]


def _drop_degenerate(feature: Feature) -> Feature:
    if not feature.kept:
        return feature
    if feature.missing_share is not None and feature.missing_share > RULES.most_missing:
        return replace(feature, kept=False, reason=f"missing in {feature.missing_share:.1%} of the training steps")
    if feature.role == "numeric" and not feature.std:
        return replace(feature, kept=False, reason="constant: zero variance")
    if feature.role == "categorical" and not feature.vocabulary:
        return replace(feature, kept=False, reason=f"no value occurs {RAREST_CATEGORY} times")
    return feature


def _logs_and_sample(
    read: ReadSteps, dataset: Dataset, candidates: Sequence[Input], units: Mapping[str, float], total: int
) -> tuple[Moments, pa.Table]:
    """The moments of the logarithms of the numbers with a unit, and about sample_rows steps at most.

    Exposure ids are hashes, so their remainders draw the same steps in every run, whatever the order of the files.
    """
    share = min(1.0, RULES.sample_rows / total)
    columns = ["exposure_id", "channel", *dataset.gain_names, *(c.name for c in candidates)]
    logs, chosen = Moments.from_columns(np.empty((0, len(units)))), []
    for rows in read(columns):
        logs += log_moments(rows, units)
        is_chosen_N = rows.column("exposure_id").to_numpy() % _BUCKETS < int(share * _BUCKETS)
        chosen.append(rows.filter(pa.array(is_chosen_N)))
    return logs, pa.concat_tables(chosen).sort_by("exposure_id").combine_chunks()


def _drop_uninformative(features: Sequence[Feature], sample: pa.Table, dataset: Dataset) -> list[Feature]:
    """Drop features that are independent of the channel and of all gains."""
    channel = sample.column("channel")
    has_channel = np.asarray(pc.is_valid(channel))
    targets = [(has_channel, distinct_codes(channel.drop_null()))]
    targets += [(np.ones(len(sample), dtype=bool), sample.column(gain).to_numpy()) for gain in dataset.gain_names]

    def judge(feature: Feature) -> Feature:
        code_N = _codes(feature, sample.column(feature.name))
        information, p_values = zip(*(_dependence(code_N[rows], target) for rows, target in targets), strict=True)
        feature = replace(
            feature,
            mutual_information_action=round_to_12_digits(information[0]),
            mutual_information_reward=round_to_12_digits(information[1]),
        )
        if feature.kept and min(p_values) > RULES.least_significance:
            return replace(feature, kept=False, reason=f"independent of channel and gains (p = {min(p_values):.2f})")
        return feature

    return [judge(feature) for feature in features]


def _codes(feature: Feature, values: pa.ChunkedArray) -> Ints:
    """Integer codes of a feature as the model will see it: vocabulary codes or quantile bins; missing has its own."""
    if feature.role == "categorical":
        code_or_null = pc.index_in(values.cast(pa.string()), value_set=pa.array(feature.vocabulary, pa.string()))
        return filled_ints(code_or_null, OUT_OF_VOCABULARY - 1) + 1
    bins = pd.qcut(to_floats(values), RULES.bins, labels=False, duplicates="drop")
    return np.nan_to_num(bins, nan=-1).astype(np.int64) + 1


def _dependence(code_N: Ints, target_N: Ints) -> tuple[float, float]:
    """Mutual information in nats, and the p-value of the G-test that it is zero (G = 2 N MI)."""
    (codes, code_N, size_C), (targets, target_N, size_T) = (
        np.unique(values_N, return_inverse=True, return_counts=True) for values_N in (code_N, target_N)
    )
    freedom = (len(codes) - 1) * (len(targets) - 1)
    if freedom <= 0:
        return 0.0, 1.0
    pairs, size = np.unique(target_N * len(codes) + code_N, return_counts=True)
    share, log_total = size / len(code_N), math.log(len(code_N))
    log_product = np.log(size_C[pairs % len(codes)] * size_T[pairs // len(codes)])
    terms = share * (np.log(size) - log_total) + share * (-log_product + log_total + log_total)
    information = max(float(terms.sum()), 0.0)
    return information, float(chdtrc(freedom, 2 * len(code_N) * information))


def _drop_correlated(features: Sequence[Feature], sample: pa.Table) -> list[Feature]:
    """Drop the one of two correlated numbers that has less information on the reward."""
    numeric = [f for f in features if f.kept and f.role == "numeric"]
    numeric.sort(key=lambda f: (-(f.mutual_information_reward or 0.0), f.name))
    values = pd.DataFrame({f.name: _transformed(f, to_floats(sample.column(f.name))) for f in numeric})
    correlation = values.corr().abs().fillna(0.0)
    decided: dict[str, Feature] = {}
    kept_names: list[str] = []
    for feature in numeric:
        strongest = max(((float(correlation.at[feature.name, k]), k) for k in kept_names), default=(0.0, ""))
        feature = replace(feature, correlation=round_to_12_digits(strongest[0]))
        if strongest[0] > RULES.most_correlated:
            feature = replace(feature, kept=False, reason=f"correlation {strongest[0]:.3f} with {strongest[1]}")
        else:
            kept_names.append(feature.name)
        decided[feature.name] = feature
    return [decided.get(f.name, f) for f in features]


def _transformed(feature: Feature, values_N: Floats) -> Floats:
    return np.log1p(np.maximum(values_N, 0) / feature.unit) if feature.unit else values_N
