"""The value of each channel for each user: the probability of a gain if that channel is chosen.

The reward decoder of the paper (equation 12) reads the state before the channel is chosen, so it cannot compare
channels. Here gradient boosting reads the inputs of a step together with a channel: its one-hot vector, and the user's
own record in that channel, so that the trees learn once for all channels what a record is worth. With m the trees'
log-odds and s_a the shares of the channels,

    base      b(x)     = sum_a s_a m(x, a)
    personal  e_a(x)   = m(x, a) - b(x) - mean over x of (m(x, a) - b(x))
    value     log-odds = log-odds of the predicted gain(x) + d_a - sum_a s_a d_a + lambda e_a(x)

The effect d_a of the channel and the shrinkage lambda are the coefficients of a logistic regression of the outcome on
b(x), the channel and e_a(x), with trees that were fitted on other users (cross-fitting). This is the calibration test
of Chernozhukov, Demirer, Duflo and Fernandez-Val (Generic machine learning inference on heterogeneous treatment
effects, 2018): lambda is near 1 if the personal part is right, and near 0 if nothing personal can be learned. Its
standard error, clustered by user, is subtracted before it is limited to [0, 1]. With lambda = 0, all users have the
same best channel.

If the log drew channels at random with known probabilities, only those labels are used, each weighted by the inverse of
its probability: then d and e are effects of the channel. Otherwise all labels are used (the direct method), and they
are effects only as far as the inputs explain the log's choice.

Shapes: N labels or rows, A channels, G gains, F features, K features of a channel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from mtorl_model.data.encoding import InputNames
from mtorl_model.methods.common.blend import log_odds, sigmoid
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import Features, gain_weights, state_part
from mtorl_model.methods.common.trees import Trees
from mtorl_model.methods.method import Floats, State
from schemas.json_config import JsonConfig

Ints = npt.NDArray[np.int64]

FEWEST_DRAWN = 200  # with fewer labels whose channel was drawn at random, all labels are used
_SMALLEST_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class ValueConfig(JsonConfig):
    """The settings of the values."""

    value_iterations: int = 80
    value_rate: float = 0.08  # learning rate
    value_leaf_nodes: int = 8
    value_min_samples_leaf: int = 50
    value_l2: float = 10.0
    value_folds: int = 5  # of users, for the cross-fitting
    value_caution: float = 1.0  # standard errors that are subtracted from lambda


@dataclass(frozen=True, slots=True, eq=False)
class GainValue:
    """One gain: what the fit of its values has learned. None in place of trees if all labels are equal."""

    trees: Trees | None
    effect_A: Floats  # d
    centre_A: Floats  # the mean that e is reduced by
    shrinkage: float  # lambda
    slope: float  # lambda before caution and limits
    slope_error: float  # its standard error


@dataclass(frozen=True, slots=True, eq=False)
class ChannelValues:
    """The fitted values of all gains. is_effect: whether they come from channels that were drawn at random."""

    gains: tuple[GainValue, ...]
    share_A: Floats  # s
    own_AK: Ints  # columns of the features that belong to each channel
    is_effect: bool
    labels: int  # number of labels they were fitted on

    @classmethod
    def fit(
        cls, labels: LabelRows, names: InputNames, channels: tuple[str, ...], config: ValueConfig
    ) -> "ChannelValues":
        """Fit on labels of training users."""
        drawn_N = labels.propensity_N > 0
        is_effect = int(drawn_N.sum()) >= FEWEST_DRAWN
        chosen_N = drawn_N if is_effect else np.ones_like(drawn_N)
        rows = labels.take(chosen_N)
        own_AK = channel_columns(names, channels)
        count_A = np.bincount(rows.action_N, minlength=len(channels))
        weight_N = inverse_propensities(rows, len(channels)) if is_effect else np.ones(len(rows.action_N))
        fitted = tuple(
            _fit_gain(rows, gain, weight_N, own_AK, count_A, config) for gain in range(rows.gain_NG.shape[1])
        )
        return cls(fitted, count_A / count_A.sum(), own_AK, is_effect, len(rows.action_N))

    def values(self, features_NF: Features, gains_NG: Floats) -> Floats:
        """[N, A, G]. gains_NG: the predicted gains, whose mean over channels the values keep (in log-odds)."""
        values = [self._gain_values(value, features_NF, gains_NG[:, k]) for k, value in enumerate(self.gains)]
        return np.stack(values, axis=2)

    def of_unknown(self, rate_G: Floats) -> Floats:
        """[A, G]: the values of a user of whom nothing is known, in place of whose gains are the base rates."""
        effects = [value.effect_A - self.share_A @ value.effect_A for value in self.gains]
        return sigmoid(np.stack([log_odds(rate) + e_A for rate, e_A in zip(rate_G, effects, strict=True)], axis=1))

    def _gain_values(self, value: GainValue, features_NF: Features, gain_N: Floats) -> Floats:
        odds_NA = log_odds(gain_N)[:, None] + value.effect_A - self.share_A @ value.effect_A
        if value.trees is not None and value.shrinkage > 0:
            trees_NA = _tree_odds(value.trees, features_NF, self.own_AK)
            odds_NA = odds_NA + value.shrinkage * _personal(trees_NA, self.share_A, value.centre_A)
        return sigmoid(odds_NA)

    @property
    def best_channel(self) -> int:
        """The channel with the highest effect on the first gain: the best constant policy."""
        return int(self.gains[0].effect_A.argmax())

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        arrays = {"shares": self.share_A, "own": self.own_AK, "is_effect": np.array(int(self.is_effect)),
                  "labels": np.array(self.labels)}  # fmt: skip
        for k, value in enumerate(self.gains):
            numbers = np.array([value.shrinkage, value.slope, value.slope_error])
            parts = {"effect": value.effect_A, "centre": value.centre_A, "shrinkage": numbers}
            trees = value.trees.arrays() if value.trees is not None else {}
            parts |= {f"trees.{name}": array for name, array in trees.items()}
            arrays |= {f"gain_{k}.{name}": array for name, array in parts.items()}
        return arrays

    @classmethod
    def from_state(cls, state: State, gains: int) -> "ChannelValues":
        """Undo `state`. Raises KeyError if an array is missing."""
        return cls(
            tuple(_gain_from_state(state_part(state, f"gain_{k}")) for k in range(gains)),
            state["shares"], state["own"], bool(state["is_effect"]), int(state["labels"]),
        )  # fmt: skip


def channel_columns(names: InputNames, channels: tuple[str, ...]) -> Ints:
    """[A, K]: for each channel, the columns of step_features with the user's record in it."""
    numeric = {name: column for column, name in enumerate(names.numeric)}
    gains = [name.removeprefix("rate_") for name in names.numeric if f"{name}_{channels[0]}" in numeric]
    records = [(f"log_seen_{c}", f"share_{c}", *(f"rate_{gain}_{c}" for gain in gains)) for c in channels]
    return np.array(
        [[*(numeric[name] for name in record), len(numeric) + a] for a, record in enumerate(records)]
    )  # the last is a_{t-1}, behind the numeric inputs


def inverse_propensities(labels: LabelRows, channels: int) -> Floats:
    """[N]: one over the probability of the label's channel, with mean 1.

    Probabilities that depend on the channel alone are replaced by the channel's share of the labels, which is the
    better estimate (Hirano, Imbens and Ridder, 2003).
    """
    share_A = np.bincount(labels.action_N, minlength=channels) / len(labels.action_N)
    logged_N = labels.propensity_N.astype(np.float64)
    means_A = np.bincount(labels.action_N, logged_N, channels) / np.maximum(share_A * len(logged_N), 1)
    depends_on_context = np.mean(np.abs(logged_N / means_A[labels.action_N] - 1) > 0.05) > 0.01
    weight_N: Floats = 1 / (logged_N if depends_on_context else share_A[labels.action_N])
    return weight_N / float(weight_N.mean())


def _fit_gain(
    labels: LabelRows, gain: int, weight_N: Floats, own_AK: Ints, count_A: Ints, config: ValueConfig
) -> GainValue:
    maturity_N = gain_weights(labels, gain)
    if maturity_N is not None:
        weight_N = weight_N * maturity_N
    gained_N = labels.gain_NG[:, gain].astype(np.float64)
    share_A, rate = count_A / count_A.sum(), float(np.average(gained_N, weights=weight_N))
    no_effect = GainValue(None, np.zeros(len(count_A)), np.zeros(len(count_A)), 0.0, 0.0, 0.0)
    if not 0 < rate < 1:
        return no_effect
    odds_NA = np.full((len(gained_N), len(count_A)), float(log_odds(np.array(rate))))
    folds = min(config.value_folds, len(np.unique(labels.user_N)))
    splits = GroupKFold(folds, shuffle=True, random_state=0).split(gained_N, groups=labels.user_N) if folds > 1 else ()
    for fitted_rows, predicted_rows in splits:
        trees = _fit_trees(labels, gained_N, maturity_N, fitted_rows, own_AK, config)
        if trees is not None:
            odds_NA[predicted_rows] = _tree_odds(trees, labels.feature_NF[predicted_rows], own_AK)
    centre_A = (odds_NA - (odds_NA @ share_A)[:, None]).mean(axis=0)
    personal_N = np.take_along_axis(_personal(odds_NA, share_A, centre_A), labels.action_N[:, None], axis=1)[:, 0]
    effect_A, slope, error = _calibrate(
        odds_NA @ share_A, labels.action_N, personal_N, gained_N, weight_N, labels.user_N, len(count_A)
    )
    trees = _fit_trees(labels, gained_N, maturity_N, np.arange(len(gained_N)), own_AK, config)
    shrinkage = float(np.clip(slope - config.value_caution * error, 0.0, 1.0)) if np.isfinite(error) else 0.0
    return GainValue(trees, effect_A, centre_A, shrinkage, slope, error)


def _fit_trees(
    labels: LabelRows, gained_N: Floats, weight_N: Floats | None, rows: Ints, own_AK: Ints, config: ValueConfig
) -> Trees | None:
    gained = gained_N[rows]
    if gained.min() == gained.max():
        return None
    model = HistGradientBoostingClassifier(
        max_iter=config.value_iterations, learning_rate=config.value_rate, max_leaf_nodes=config.value_leaf_nodes,
        min_samples_leaf=config.value_min_samples_leaf, l2_regularization=config.value_l2, early_stopping=False,
        random_state=0,
    )  # fmt: skip
    inputs = with_channel(labels.feature_NF[rows], labels.action_N[rows], own_AK)
    return Trees.from_classifier(model.fit(inputs, gained, None if weight_N is None else weight_N[rows]))


def with_channel(features_NF: Features, action_N: Ints, own_AK: Ints) -> Features:
    """[N, F + A + K]: the features, the channel's one-hot vector, and the user's record in that channel."""
    one_hot_NA = np.eye(len(own_AK), dtype=np.float32)[action_N]
    own_NK = np.take_along_axis(features_NF, own_AK[action_N], axis=1)
    return np.concatenate([features_NF, one_hot_NA, own_NK], axis=1)


def _tree_odds(trees: Trees, features_NF: Features, own_AK: Ints) -> Floats:
    """[N, A]: m, the log-odds that the trees predict for each channel."""
    rows = len(features_NF)
    columns = [
        log_odds(trees.probabilities(with_channel(features_NF, np.full(rows, a), own_AK))[:, 1])
        for a in range(len(own_AK))
    ]
    return np.stack(columns, axis=1)


def _personal(odds_NA: Floats, share_A: Floats, centre_A: Floats) -> Floats:
    """[N, A]: e."""
    personal_NA: Floats = odds_NA - (odds_NA @ share_A)[:, None] - centre_A
    return personal_NA


def _calibrate(
    base_N: Floats, action_N: Ints, personal_N: Floats, gained_N: Floats, weight_N: Floats, user_N: Ints, channels: int
) -> tuple[Floats, float, float]:
    """The coefficients d [A] and lambda of the regression in the module's docstring, and the latter's standard error.

    A channel without a label gets the lowest effect of the others, so that it is never the best. The error is infinite
    if the labels do not determine lambda.
    """
    shown_A = np.bincount(action_N, minlength=channels) > 0
    design_NP = np.column_stack([base_N - base_N.mean(), np.eye(channels)[action_N][:, shown_A], personal_N])
    ridge_P = np.array([1e-3, *[1e-3] * int(shown_A.sum()), 1e-6])
    coefficient_P = np.zeros(design_NP.shape[1])
    for _ in range(50):  # Newton's method; the loss is convex
        p_N = sigmoid(design_NP @ coefficient_P)
        slope_P = design_NP.T @ (weight_N * (p_N - gained_N)) + ridge_P * coefficient_P
        curvature_PP = (design_NP * (weight_N * p_N * (1 - p_N))[:, None]).T @ design_NP + np.diag(ridge_P)
        step_P = np.linalg.solve(curvature_PP, slope_P)
        coefficient_P -= np.clip(step_P, -2.0, 2.0)
        if np.abs(step_P).max() < 1e-9:
            break
    score_NP = design_NP * (weight_N * (sigmoid(design_NP @ coefficient_P) - gained_N))[:, None]
    _, user_N = np.unique(user_N, return_inverse=True)
    by_user_UP = np.zeros((int(user_N.max()) + 1, len(coefficient_P)))
    np.add.at(by_user_UP, user_N, score_NP)
    inverse_PP = np.linalg.inv(curvature_PP)
    error = float(np.sqrt((inverse_PP @ (by_user_UP.T @ by_user_UP) @ inverse_PP)[-1, -1]))
    if personal_N.std() < _SMALLEST_RATE:
        error = np.inf
    effect_A = np.full(channels, coefficient_P[1:-1].min())
    effect_A[shown_A] = coefficient_P[1:-1]
    return effect_A, float(coefficient_P[-1]), error


def _gain_from_state(state: State) -> GainValue:
    shrinkage, slope, error = state["shrinkage"].tolist()
    arrays = state_part(state, "trees")
    trees = Trees.from_arrays(arrays) if arrays else None
    return GainValue(trees, state["effect"], state["centre"], shrinkage, slope, error)
