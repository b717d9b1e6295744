"""The value of each channel for each user: the probability of a gain if that channel is chosen.

The reward decoder of the paper (equation 12) reads the state before the channel is chosen, so it cannot compare
channels. Here two models read the channel, too: gradient boosting, whose inputs are those of a step, the channel's
one-hot vector and the user's own record in that channel; and a linear decoder (channel_decoder.py). With m_k the
log-odds of model k and s_a the shares of the channels,

    base      b_k(x)    = sum_a s_a m_k(x, a)
    personal  e_ka(x)   = m_k(x, a) - b_k(x) - mean over x of (m_k(x, a) - b_k(x))
    value     log-odds  = log-odds of the predicted gain(x) + d_a - sum_a s_a d_a + sum_k lambda_k e_ka(x)

The effects d_a of the channels and the shrinkages lambda_k are the coefficients of a logistic regression of the outcome
on the b_k(x), the channel and the e_ka(x), with models that were fitted on other users (cross-fitting). This is the
calibration test of Chernozhukov, Demirer, Duflo and Fernandez-Val (Generic machine learning inference on heterogeneous
treatment effects, 2018): lambda_k is 0 if nothing personal can be learned. To be cautious, all lambda_k are multiplied
by max(0, 1 - caution / t). t^2 is their Wald statistic, clustered by user, divided by their number. With one model,
this subtracts `caution` standard errors from lambda. If propensities are known, the lambda_k are multiplied once more,
by the factor of FACTORS whose greedy policy has the highest doubly robust value, minus caution standard errors, on the
cross-fitted predictions. With all lambda_k = 0, all users have the same best channel.

If the log drew channels at random with known probabilities, only those labels are used, each weighted by the inverse of
its probability: then d and e are effects of the channel. Otherwise all labels are used (the direct method), and they
are effects only as far as the inputs explain the log's choice.

Shapes: N labels or rows, A channels, G gains, F features, K models; of record_AK, K features of a channel.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold

from features.logistic import log_odds, sigmoid
from mtorl_model.data.encoding import InputNames
from mtorl_model.methods.common.calibration import PRIOR_LABELS, calibrate
from mtorl_model.methods.common.channel_decoder import ChannelDecoder
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import Features, gain_weights, state_part
from mtorl_model.methods.common.trees import Trees
from mtorl_model.methods.method import Floats, State
from schemas.json_config import JsonConfig

Ints = npt.NDArray[np.int64]

# With fewer labels per channel whose channel was drawn at random, all labels are used.
FEWEST_DRAWN = 100
FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MODELS = ("trees", "decoder")
_ROWS_AT_ONCE = 2048  # bounds the memory of their copies for every channel


@dataclass(frozen=True, slots=True)
class ValueConfig(JsonConfig):
    """The settings of the values."""

    value_iterations: int = 80
    value_rate: float = 0.08  # learning rate
    value_leaf_nodes: int = 8
    value_min_samples_leaf: int = 50
    value_l2: float = 10.0
    decoder_penalty: float = 100.0  # labels that the prior of the decoder's personal weights is worth
    value_folds: int = 5  # of users, for the cross-fitting
    value_caution: float = 1.0  # see the module's docstring


@dataclass(frozen=True, slots=True, eq=False)
class GainValue:
    """One gain: what the fit of its values has learned. models: trees and decoder; None if all labels are equal."""

    models: tuple[Trees, ChannelDecoder] | None
    effect_A: Floats  # d
    centre_KA: Floats  # the means that e is reduced by
    shrinkage_K: Floats  # lambda
    statistic: float  # t


@dataclass(frozen=True, slots=True, eq=False)
class ChannelValues:
    """The fitted values of all gains. is_effect: whether they come from channels that were drawn at random."""

    gains: tuple[GainValue, ...]
    share_A: Floats  # s
    record_AK: Ints  # columns of the features that belong to each channel
    is_effect: bool
    labels: int  # number of labels they were fitted on

    @classmethod
    def fit(cls, labels: LabelRows, record_AK: Ints, config: ValueConfig) -> "ChannelValues":
        """Fit on labels of training users. record_AK: the columns of the features that belong to each channel."""
        channels, labels = len(record_AK), labels.known_channels()
        is_effect = has_enough_drawn(labels, channels)
        rows = labels.take(labels.propensity_N > 0) if is_effect else labels
        count_A = np.bincount(rows.action_N, minlength=channels)
        weight_N = inverse_propensities(rows, channels) if is_effect else np.ones(len(rows.action_N))
        fitted = tuple(
            _fit_gain(rows, gain, weight_N, record_AK, count_A, config, is_effect)
            or _without_models(labels, gain, channels)
            for gain in range(rows.gain_NG.shape[1])
        )
        return cls(fitted, count_A / count_A.sum(), record_AK, is_effect, len(rows.action_N))

    def refitted(self, labels: LabelRows, config: ValueConfig) -> "ChannelValues":
        """The same lambda, with d and models fitted on newer labels, without cross-fitting.

        d follows a change of the channels. It is fitted with the bases of the earlier models, most of whose
        labels are older. lambda would need models that were cross-fitted, so it changes with a full training only.
        It fits the models once, `fit` fits them value_folds + 1 times. A model with a lambda of 0, on which no value
        depends, is not fitted again. If the values are effects, only labels with a propensity are used. With less than
        half of the labels of the calibration nothing changes, because the personal part of models that were fitted on
        fewer labels would be noisier than the calibration assumes.
        """
        labels = labels.known_channels()
        rows = labels.take(labels.propensity_N > 0) if self.is_effect else labels
        if len(rows.action_N) < self.labels / 2:
            return self
        weight_N = inverse_propensities(rows, len(self.share_A)) if self.is_effect else np.ones(len(rows.action_N))
        refitted = (self._refitted_gain(value, rows, k, weight_N, config) for k, value in enumerate(self.gains))
        return replace(self, gains=tuple(refitted))

    def _refitted_gain(
        self, value: GainValue, rows: LabelRows, gain: int, weight_N: Floats, config: ValueConfig
    ) -> GainValue:
        gained_N, maturity_N = rows.gain_NG[:, gain].astype(np.float64), gain_weights(rows, gain)
        weight_N = weight_N if maturity_N is None else weight_N * maturity_N
        if value.models is None or gained_N.min() == gained_N.max():
            return value
        value = replace(value, effect_A=self._refitted_effects(value, rows, gained_N, weight_N))
        if not value.shrinkage_K.any():  # the models are not used
            return value
        assert value.models is not None  # checked above
        trees, decoder = value.models
        centre_KA = value.centre_KA.copy()
        if value.shrinkage_K[0] > 0:
            trees = _fit_trees(rows, gained_N, maturity_N, self.record_AK, config)
            centre_KA[0] = self._centre(_all_tree_odds(trees, rows.feature_NF, self.record_AK))
        if value.shrinkage_K[1] > 0:
            decoder = _fit_decoder(rows, gained_N, weight_N, self.record_AK, config)
            centre_KA[1] = self._centre(decoder.odds(rows.feature_NF, self.record_AK))
        return replace(value, models=(trees, decoder), centre_KA=centre_KA)

    def _centre(self, odds_NA: Floats) -> Floats:
        """[A]: what e of one model is reduced by."""
        centre_A: Floats = (odds_NA - (odds_NA @ self.share_A)[:, None]).mean(axis=0)
        return centre_A

    def _refitted_effects(self, value: GainValue, rows: LabelRows, gained_N: Floats, weight_N: Floats) -> Floats:
        """[A]: d."""
        assert value.models is not None
        odds_KNA = _model_odds(value.models, rows.feature_NF, self.record_AK)
        personal_KN = _personal_of_log(odds_KNA, rows.action_N, self.share_A, value.centre_KA)
        base_KN = odds_KNA @ self.share_A
        channels = len(self.share_A)
        return calibrate(base_KN, rows.action_N, personal_KN, gained_N, weight_N, rows.user_N, channels)[0]

    def values(self, features_NF: Features, gains_NG: Floats) -> Floats:
        """[N, A, G]. gains_NG: the predicted gains, whose mean over channels the values keep (in log-odds)."""
        values = [self._gain_values(value, features_NF, gains_NG[:, k]) for k, value in enumerate(self.gains)]
        return np.stack(values, axis=2)

    def base_values(self, rate_G: Floats) -> Floats:
        """[A, G]: the values of a user of whom nothing is known, in place of whose gains are the base rates."""
        effects = [value.effect_A - self.share_A @ value.effect_A for value in self.gains]
        return sigmoid(np.stack([log_odds(rate) + e_A for rate, e_A in zip(rate_G, effects, strict=True)], axis=1))

    def _gain_values(self, value: GainValue, features_NF: Features, gain_N: Floats) -> Floats:
        odds_NA = log_odds(gain_N)[:, None] + value.effect_A - self.share_A @ value.effect_A
        if value.models is not None and value.shrinkage_K.any():
            trees, decoder = value.models
            personal_NA = np.zeros_like(odds_NA)
            if value.shrinkage_K[0] > 0:
                trees_NA = _all_tree_odds(trees, features_NF, self.record_AK)
                personal_NA += value.shrinkage_K[0] * _personal(trees_NA, self.share_A, value.centre_KA[0])
            if value.shrinkage_K[1] > 0:
                decoder_NA = decoder.odds(features_NF, self.record_AK)
                personal_NA += value.shrinkage_K[1] * _personal(decoder_NA, self.share_A, value.centre_KA[1])
            odds_NA = odds_NA + np.where(self.share_A > 0, personal_NA, 0.0)  # nothing is known of other channels
        return sigmoid(odds_NA)

    @property
    def best_channel(self) -> int:
        """The channel with the highest effect on the first gain: the best constant policy."""
        return int(self.gains[0].effect_A.argmax())

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays by name."""
        arrays = {"shares": self.share_A, "records": self.record_AK, "is_effect": np.array(int(self.is_effect)),
                  "labels": np.array(self.labels)}  # fmt: skip
        for k, value in enumerate(self.gains):
            parts = {"effect": value.effect_A, "centre": value.centre_KA, "shrinkage": value.shrinkage_K,
                     "statistic": np.array(value.statistic)}  # fmt: skip
            if value.models is not None:
                for name, model_arrays in zip(_MODELS, (model.arrays() for model in value.models), strict=True):
                    parts |= {f"{name}.{key}": array for key, array in model_arrays.items()}
            arrays |= {f"gain_{k}.{name}": array for name, array in parts.items()}
        return arrays

    @classmethod
    def from_state(cls, state: State, gains: int) -> "ChannelValues":
        """Undo `state`. Raises KeyError if an array is missing."""
        return cls(
            tuple(_gain_from_state(state_part(state, f"gain_{k}")) for k in range(gains)),
            state["shares"], state["records"], bool(state["is_effect"]), int(state["labels"]),
        )  # fmt: skip


def has_enough_drawn(labels: LabelRows, channels: int) -> bool:
    """Whether enough channels were drawn at random to learn their effects."""
    return int(((labels.propensity_N > 0) & (labels.action_N >= 0)).sum()) >= FEWEST_DRAWN * channels


def channel_columns(names: InputNames, channels: tuple[str, ...]) -> Ints:
    """[A, K]: for each channel, the columns of step_features with the user's record in it."""
    numeric = {name: column for column, name in enumerate(names.numeric)}
    gains = [
        name.removeprefix("rate_")
        for name in names.numeric
        if name.startswith("rate_") and f"{name}_{channels[0]}" in numeric
    ]
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
    labels: LabelRows,
    gain: int,
    weight_N: Floats,
    record_AK: Ints,
    count_A: Ints,
    config: ValueConfig,
    weight_is_inverse_propensity: bool,
) -> GainValue | None:
    """None if all labels are equal or of one user."""
    maturity_N = gain_weights(labels, gain)
    if maturity_N is not None:
        weight_N = weight_N * maturity_N
    gained_N = labels.gain_NG[:, gain].astype(np.float64)
    share_A, channels = count_A / count_A.sum(), len(count_A)
    models = _fit_models(labels, gained_N, weight_N, maturity_N, np.arange(len(gained_N)), record_AK, config)
    folds = min(config.value_folds, len(np.unique(labels.user_N)))
    if models is None or folds < 2:
        return None
    rate = float(np.average(gained_N, weights=weight_N))
    odds_KNA = np.full((2, len(gained_N), channels), float(log_odds(np.array(rate))))
    splits = GroupKFold(folds, shuffle=True, random_state=0).split(gained_N, groups=labels.user_N)
    for fitted_rows, predicted_rows in splits:
        fitted = _fit_models(labels, gained_N, weight_N, maturity_N, fitted_rows, record_AK, config)
        if fitted is not None:
            odds_KNA[:, predicted_rows] = _model_odds(fitted, labels.feature_NF[predicted_rows], record_AK)
    base_KN = odds_KNA @ share_A
    centre_KA = (odds_KNA - base_KN[..., None]).mean(axis=1)
    personal_KN = _personal_of_log(odds_KNA, labels.action_N, share_A, centre_KA)
    effect_A, shrinkage_K, statistic = calibrate(
        base_KN, labels.action_N, personal_KN, gained_N, weight_N, labels.user_N, channels
    )
    shrinkage_K *= max(0.0, 1 - config.value_caution / statistic) if statistic > 0 else 0.0
    if weight_is_inverse_propensity and shrinkage_K.any():
        personal_NA = sum(
            shrinkage * _personal(odds_NA, share_A, centre_A)
            for shrinkage, odds_NA, centre_A in zip(shrinkage_K, odds_KNA, centre_KA, strict=True)
        )
        base_N = np.full(len(gained_N), float(log_odds(np.array(rate))))
        shrinkage_K *= _factor_of_best_policy(
            base_N, effect_A - share_A @ effect_A, personal_NA, labels, gained_N, weight_N, share_A, config
        )
    return GainValue(models, effect_A, centre_KA, shrinkage_K, statistic)


def _without_models(labels: LabelRows, gain: int, channels: int) -> GainValue:
    """Effects from the channels' rates in all labels, shrunk towards the overall rate; nothing personal."""
    gained_N = labels.gain_NG[:, gain].astype(np.float64)
    count_A = np.bincount(labels.action_N, minlength=channels)
    gained_A = np.bincount(labels.action_N, gained_N, channels)
    rate_A = (gained_A + PRIOR_LABELS * gained_N.mean()) / (count_A + PRIOR_LABELS)
    effect_A = log_odds(rate_A) - log_odds(rate_A).mean()
    return GainValue(None, effect_A, np.zeros((2, channels)), np.zeros(2), 0.0)


def _factor_of_best_policy(
    base_N: Floats,
    effect_A: Floats,
    personal_NA: Floats,
    labels: LabelRows,
    gained_N: Floats,
    weight_N: Floats,
    share_A: Floats,
    config: ValueConfig,
) -> float:
    """The factor of the personal part, of FACTORS, with which the greedy policy has the highest cautious value.

    The value is the doubly robust difference to the best constant policy, minus caution standard errors, clustered by
    user. A calibrated personal part can still fail to pay where it matters, between the best channels.
    """
    constant, action_N = int(effect_A.argmax()), labels.action_N
    rows = np.arange(len(action_N))
    inverse_N = weight_N * float(np.mean(1 / share_A[action_N]))  # weights have mean 1
    _, user_N = np.unique(labels.user_N, return_inverse=True)
    cautious_values = []
    for factor in FACTORS:
        probability_NA = sigmoid(base_N[:, None] + effect_A + factor * personal_NA)
        chosen_N = probability_NA.argmax(axis=1)
        direct_N = probability_NA[rows, chosen_N] - probability_NA[:, constant]
        matched_N = (action_N == chosen_N).astype(float) - (action_N == constant)
        difference_N = direct_N + inverse_N * matched_N * (gained_N - probability_NA[rows, action_N])
        mean = float(difference_N.mean())
        by_user_U = np.bincount(user_N, difference_N - mean)
        error = float(np.sqrt((by_user_U**2).sum())) / len(rows)
        cautious_values.append(mean - config.value_caution * error)
    return FACTORS[int(np.argmax(cautious_values))]


def _fit_models(
    labels: LabelRows,
    gained_N: Floats,
    weight_N: Floats,
    maturity_N: Floats | None,
    rows: Ints,
    record_AK: Ints,
    config: ValueConfig,
) -> tuple[Trees, ChannelDecoder] | None:
    """None if all labels are equal. maturity_N: the part of the weights that comes from gains that may still follow."""
    if gained_N[rows].min() == gained_N[rows].max():
        return None
    chosen, maturity = labels.take(rows), None if maturity_N is None else maturity_N[rows]
    trees = _fit_trees(chosen, gained_N[rows], maturity, record_AK, config)
    return trees, _fit_decoder(chosen, gained_N[rows], weight_N[rows], record_AK, config)


def _fit_trees(
    labels: LabelRows, gained_N: Floats, maturity_N: Floats | None, record_AK: Ints, config: ValueConfig
) -> Trees:
    trees = HistGradientBoostingClassifier(
        max_iter=config.value_iterations, learning_rate=config.value_rate, max_leaf_nodes=config.value_leaf_nodes,
        min_samples_leaf=config.value_min_samples_leaf, l2_regularization=config.value_l2, early_stopping=False,
        random_state=0,
    )  # fmt: skip
    # Trees bin weighted features a hundred times slower. Propensities matter less to them: they read the inputs.
    trees.fit(with_channel(labels.feature_NF, labels.action_N, record_AK), gained_N, maturity_N)
    return Trees.from_classifier(trees)


def _fit_decoder(
    labels: LabelRows, gained_N: Floats, weight_N: Floats, record_AK: Ints, config: ValueConfig
) -> ChannelDecoder:
    return ChannelDecoder.fit(labels.feature_NF, labels.action_N, gained_N, weight_N, record_AK, config.decoder_penalty)


def with_channel(features_NF: Features, action_N: Ints, record_AK: Ints) -> Features:
    """[N, F + A + K]: the features, the channel's one-hot vector, and the user's record in that channel."""
    one_hot_NA = np.eye(len(record_AK), dtype=np.float32)[action_N]
    record_NK = np.take_along_axis(features_NF, record_AK[action_N], axis=1)
    return np.concatenate([features_NF, one_hot_NA, record_NK], axis=1)


def _model_odds(models: tuple[Trees, ChannelDecoder], features_NF: Features, record_AK: Ints) -> Floats:
    """[2, N, A]: m of the trees and of the decoder."""
    trees, decoder = models
    return np.stack([_all_tree_odds(trees, features_NF, record_AK), decoder.odds(features_NF, record_AK)])


def _all_tree_odds(trees: Trees, features_NF: Features, record_AK: Ints) -> Floats:
    """[N, A], a bounded number of rows at a time."""
    starts = range(0, len(features_NF), _ROWS_AT_ONCE)
    parts = [_tree_odds(trees, features_NF[start : start + _ROWS_AT_ONCE], record_AK) for start in starts]
    return np.concatenate([np.zeros((0, len(record_AK))), *parts])


def _tree_odds(trees: Trees, features_NF: Features, record_AK: Ints) -> Floats:
    """[N, A]. All channels in one call, because a call for each tree has a fixed cost."""
    rows, channels = len(features_NF), len(record_AK)
    repeated, channel = np.tile(np.arange(rows), channels), np.repeat(np.arange(channels), rows)
    inputs = with_channel(features_NF[repeated], channel, record_AK)
    odds_NA: Floats = log_odds(trees.probabilities(inputs)[:, 1]).reshape(channels, rows).T
    return odds_NA


def _personal(odds_NA: Floats, share_A: Floats, centre_A: Floats) -> Floats:
    """[N, A]: e."""
    personal_NA: Floats = odds_NA - (odds_NA @ share_A)[:, None] - centre_A
    return personal_NA


def _personal_of_log(odds_KNA: Floats, action_N: Ints, share_A: Floats, centre_KA: Floats) -> Floats:
    """[K, N]: e of each label's channel."""
    return np.stack([
        np.take_along_axis(_personal(odds_NA, share_A, centre_A), action_N[:, None], axis=1)[:, 0]
        for odds_NA, centre_A in zip(odds_KNA, centre_KA, strict=True)
    ])  # fmt: skip


def _gain_from_state(state: State) -> GainValue:
    trees, decoder = (state_part(state, name) for name in _MODELS)
    models = (Trees.from_arrays(trees), ChannelDecoder.from_arrays(decoder)) if trees else None
    return GainValue(models, state["effect"], state["centre"], state["shrinkage"], float(state["statistic"]))
