"""Which candidate inputs the model sees, and how they are encoded; fitted on training users only.

Vocabularies, shares, means and variances come from all training steps (feature_statistics.py). Correlation and mutual
information are measured on a bounded sample of steps, drawn by a hash of the exposure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy.stats import chi2
from sklearn.metrics import mutual_info_score

from jobs.history.feature_statistics import (
    RAREST_CATEGORY,
    describe_categories,
    describe_numbers,
    reward_span,
    round_to_12_digits,
)
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


def fit_spec(
    steps: DataFrame, dataset: Dataset, channels: Sequence[str], first_day: str, last_day: str, penalty: float
) -> FeatureSpec:
    """The spec of these steps.

    steps: exposure steps of training users only, as jobs.history.steps returns them. penalty: s of equation 3. Raises
    UserError without any step.
    """
    steps = steps.persist()
    total = steps.count()
    if total == 0:
        raise UserError(
            f"{dataset.name} has no exposure of a training user from {first_day} to {last_day}: choose more days, or a "
            "log of more users"
        )
    features = [
        *describe_numbers(steps, _candidates(dataset, Role.NUMERIC), total),
        *describe_categories(steps, _candidates(dataset, Role.CATEGORICAL), total),
    ]
    sample = _sample(steps, dataset, total)
    features = _drop_uninformative([_drop_degenerate(f) for f in features], sample, dataset)
    features = _drop_correlated(features, sample)
    low, high = reward_span(steps, dataset, penalty)
    steps.unpersist()
    return FeatureSpec(
        dataset=dataset.name, first_day=first_day, last_day=last_day, channels=tuple(channels),
        gains=dataset.gain_names, gain_weights=tuple(g.weight for g in dataset.gains),
        reward=RewardScale(penalty, low, high), features=tuple(features),
    )  # fmt: skip


def _candidates(dataset: Dataset, role: Role) -> list[Input]:
    return [c for c in (*profile_inputs(dataset), *feature_inputs(dataset)) if c.role is role]


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


def _sample(steps: DataFrame, dataset: Dataset, total: int) -> pd.DataFrame:
    """About sample_rows steps at most, the same ones in every run."""
    names = [c.name for role in (Role.NUMERIC, Role.CATEGORICAL) for c in _candidates(dataset, role)]
    share = min(1.0, RULES.sample_rows / max(total, 1))
    buckets = 1_000_000
    chosen = steps.where(F.pmod(F.xxhash64("exposure_id"), F.lit(buckets)) < int(share * buckets))
    return chosen.select("exposure_id", "channel", *dataset.gain_names, *names).orderBy("exposure_id").toPandas()


def _drop_uninformative(features: Sequence[Feature], sample: pd.DataFrame, dataset: Dataset) -> list[Feature]:
    """Drop features that are independent of the channel and of all gains."""
    has_channel = sample["channel"].notna().to_numpy()
    all_rows = np.ones(len(sample), dtype=bool)
    targets = [(has_channel, pd.factorize(sample["channel"][has_channel])[0])]
    targets += [(all_rows, sample[gain].to_numpy()) for gain in dataset.gain_names]

    def judge(feature: Feature) -> Feature:
        codes = _codes(feature, sample[feature.name])
        information, p_values = zip(*(_dependence(codes[rows], target) for rows, target in targets), strict=True)
        feature = replace(
            feature,
            mutual_information_action=round_to_12_digits(information[0]),
            mutual_information_reward=round_to_12_digits(information[1]),
        )
        if feature.kept and min(p_values) > RULES.least_significance:
            return replace(feature, kept=False, reason=f"independent of channel and gains (p = {min(p_values):.2f})")
        return feature

    return [judge(feature) for feature in features]


def _codes(feature: Feature, values: pd.Series) -> np.ndarray:
    """Integer codes of a feature as the model will see it: vocabulary codes or quantile bins; missing has its own."""
    if feature.role == "categorical":
        index = {value: code for code, value in enumerate(feature.vocabulary, start=1)}
        return values.map(_text).map(index).fillna(OUT_OF_VOCABULARY).to_numpy(dtype=np.int64)
    bins = pd.qcut(values.astype("float64"), RULES.bins, labels=False, duplicates="drop")
    return np.asarray(pd.Series(bins).fillna(-1).to_numpy(dtype=np.int64) + 1)


def _text(value: object) -> str | None:
    """As Spark's cast to string writes it: pandas turns an integer column with gaps into floats."""
    if pd.isna(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _dependence(codes: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Mutual information in nats, and the p-value of the G-test that it is zero (G = 2 N MI)."""
    freedom = (len(np.unique(codes)) - 1) * (len(np.unique(target)) - 1)
    if freedom <= 0:
        return 0.0, 1.0
    information = float(mutual_info_score(codes, target))
    return information, float(chi2.sf(2 * len(codes) * information, freedom))


def _drop_correlated(features: Sequence[Feature], sample: pd.DataFrame) -> list[Feature]:
    """Drop the one of two correlated numbers that has less information on the reward."""
    numeric = [f for f in features if f.kept and f.role == "numeric"]
    numeric.sort(key=lambda f: (-(f.mutual_information_reward or 0.0), f.name))
    values = pd.DataFrame({f.name: _transformed(f, sample[f.name]) for f in numeric})
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


def _transformed(feature: Feature, values: pd.Series) -> pd.Series:
    values = values.astype("float64")
    return np.log1p(values.clip(lower=0) / feature.unit) if feature.unit else values
