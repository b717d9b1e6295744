"""Labels of a channel that the feature spec does not know: they count for the gains, and for nothing about channels."""

from types import SimpleNamespace

import numpy as np
import pytest

from mtorl_model.data.encoding import Labels
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.evaluation.comparison import head_losses
from mtorl_model.methods.common.blend import fit_blend
from mtorl_model.methods.common.channel_value import ChannelValues, ValueConfig, has_enough_drawn
from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig
from mtorl_model.methods.method import Prediction
from schemas.tables.prequential import CHANNEL

RNG = np.random.default_rng(0)
LABELS, CHANNELS = 3_000, 2
KNOWN_N = np.arange(LABELS) % 3 > 0  # every third label has an unknown channel, and always the gain
ACTION_N = np.where(KNOWN_N, RNG.integers(0, CHANNELS, LABELS), -1)
GAIN_NG = np.where(KNOWN_N, RNG.random(LABELS) < 0.2, True)[:, None].astype(np.float32)
# The features are the channel's record and noise; the last column shows whether the channel is known.
FEATURE_NF = np.column_stack([RNG.standard_normal((LABELS, 4)), KNOWN_N]).astype(np.float32)
ROWS = LabelRows(
    FEATURE_NF, ACTION_N, GAIN_NG, np.ones((LABELS, 1), np.float32), np.full(LABELS, 0.5, np.float32),
    np.arange(LABELS) // 5, None,
)  # fmt: skip


def test_trees_learn_the_gain_of_every_label_and_the_channel_of_known_ones():
    config = TreesConfig()
    trees, known = LabelTrees.fit(ROWS, config, CHANNELS), LabelTrees.fit(ROWS.take(KNOWN_N), config, CHANNELS)
    np.testing.assert_array_equal(trees.policy(FEATURE_NF), known.policy(FEATURE_NF))
    gain_N = trees.gain_probabilities(FEATURE_NF)[:, 0]
    assert gain_N[~KNOWN_N].min() > 0.9 > 0.5 > gain_N[KNOWN_N].mean()
    one_channel = ROWS._replace(action_N=np.where(KNOWN_N, 1, -1))
    assert LabelTrees.fit(one_channel, config, CHANNELS).policy(FEATURE_NF)[0].tolist() == [0, 1]


def test_values_of_channels_are_fitted_on_known_channels():
    records_AK = np.array([[0, 1], [2, 3]])
    config = ValueConfig(value_iterations=5, value_folds=2)
    values, known = (ChannelValues.fit(rows, records_AK, config) for rows in (ROWS, ROWS.take(KNOWN_N)))
    for name, array in known.state().items():
        np.testing.assert_array_equal(values.state()[name], array)
    refitted = values.refitted(ROWS, config).state(), known.refitted(ROWS.take(KNOWN_N), config).state()
    for name, array in refitted[1].items():
        np.testing.assert_array_equal(refitted[0][name], array)
    assert has_enough_drawn(ROWS, CHANNELS)
    assert not has_enough_drawn(ROWS._replace(action_N=np.full(LABELS, -1)), CHANNELS)


def test_the_blend_weighs_policies_by_known_channels():
    policies = [RNG.dirichlet([2.0, 2.0], LABELS) for _ in range(2)]
    predictions = [Prediction(policy_NA, np.full((LABELS, 1), 0.3)) for policy_NA in policies]
    blend = fit_blend(predictions, GAIN_NG, np.ones((LABELS, 1)), ACTION_N)
    known = fit_blend(
        [p.take(KNOWN_N) for p in predictions], GAIN_NG[KNOWN_N], np.ones((KNOWN_N.sum(), 1)), ACTION_N[KNOWN_N]
    )
    np.testing.assert_array_equal(blend.channel_K, known.channel_K)
    assert abs(blend.constant_G[0] - known.constant_G[0]) > 0.1  # the gain counts every label


def test_base_rates_count_every_label_and_channel_rates_known_ones():
    shape = (LABELS // 5, 5)
    labels = Labels(np.ones(shape, bool), ACTION_N.reshape(shape), GAIN_NG.reshape(*shape, 1))
    windows = SimpleNamespace(labels=lambda rows: Labels(*(array[rows] for array in labels)))
    store = type("Store", (), {"windows": windows, "__len__": lambda _: shape[0]})()
    policy = fit_initial_policy(store, SimpleNamespace(channels=("a", "b"), gains=("click",)))  # type: ignore[arg-type]
    assert policy.gain_rates["click"] == pytest.approx(GAIN_NG.mean())
    count_A = np.bincount(ACTION_N[KNOWN_N])
    assert policy.channel_shares == pytest.approx(count_A / count_A.sum())
    gained_A = np.bincount(ACTION_N[KNOWN_N], GAIN_NG[KNOWN_N, 0])
    rates_A = (gained_A + 10 * GAIN_NG.mean()) / (count_A + 10)
    assert policy.probabilities == pytest.approx(rates_A / rates_A.sum())


def test_the_loss_of_the_channel_head_leaves_them_out():
    policy_NA = RNG.dirichlet([2.0, 2.0], LABELS)
    labels = SimpleNamespace(
        prediction=Prediction(policy_NA, np.full((LABELS, 1), 0.3)), action_N=ACTION_N, gain_NG=GAIN_NG,
        maturity_NG=np.ones((LABELS, 1)),
    )  # fmt: skip
    model = SimpleNamespace(unadjusted=lambda policy: policy, label_names=("click",))
    losses = head_losses(labels, model)  # type: ignore[arg-type]
    loss_N, counts_N = losses[CHANNEL]
    np.testing.assert_array_equal(counts_N, KNOWN_N)
    np.testing.assert_allclose(loss_N[KNOWN_N], -np.log(policy_NA[KNOWN_N, ACTION_N[KNOWN_N]]))
    assert losses["click"][1].all()
