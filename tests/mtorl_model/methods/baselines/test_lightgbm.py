"""LightGBM's trees on labels: categories are categories, channels are channels, and the state is data."""

from functools import partial

import numpy as np
import pytest
import torch

from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig

pytest.importorskip("lightgbm", reason="lightgbm is not installed: pip install -r requirements-rivals.txt")

from mtorl_model.methods.baselines.shared.light_trees import LightTrees

ROWS, CHANNELS = 2000, 5
ONE_SPLIT = TreesConfig(channel_iterations=1, gain_iterations=1, gain_rate=1.0, channel_rate=1.0, max_leaf_nodes=2)
FIT = partial(LightTrees.fit, categories=1, category_values=8)


def rows(action_of_code: list[int]) -> LabelRows:
    """A random number, and a code that decides channel and gain."""
    rng = np.random.default_rng(0)
    code_N = rng.integers(0, len(action_of_code), ROWS)
    action_N = np.array(action_of_code)[code_N]
    features_NF = np.stack([rng.normal(size=ROWS), code_N], axis=1).astype(np.float32)
    gain_NG = (action_N == max(action_of_code)).astype(np.float32)[:, None]
    return LabelRows(
        features_NF, action_N, gain_NG, np.ones((ROWS, 1), np.float32), np.zeros(ROWS, np.float32),
        np.arange(ROWS), None,
    )  # fmt: skip


def test_one_split_separates_categories_whose_codes_are_mixed() -> None:
    labels = rows([1, 3, 1, 3, 3, 1, 3, 1])
    as_categories = LabelTrees.fit(labels, ONE_SPLIT, CHANNELS, FIT)
    as_numbers = LabelTrees.fit(labels, ONE_SPLIT, CHANNELS, partial(FIT, categories=0))
    for trees, separates in ((as_categories, True), (as_numbers, False)):
        policy_NA, gains_NG = trees.predict(labels.feature_NF).policy_and_gains
        assert (policy_NA.argmax(axis=1) == labels.action_N).all() == separates
        assert ((gains_NG > 0.5) == labels.gain_NG).all() == separates


@pytest.mark.parametrize("action_of_code", [[1, 3], [0, 2, 4]])
def test_the_policy_has_the_channels_of_the_labels(action_of_code: list[int]) -> None:
    labels = rows(action_of_code)
    trees = LabelTrees.fit(labels, TreesConfig(channel_iterations=20), CHANNELS, FIT)
    policy_NA = trees.policy(labels.feature_NF)
    np.testing.assert_allclose(policy_NA.sum(axis=1), 1.0)
    assert (policy_NA[np.arange(ROWS), labels.action_N] > 0.8).all()
    assert (policy_NA[:, [a for a in range(CHANNELS) if a not in action_of_code]] == 0).all()
    assert trees.policy(labels.feature_NF[:0]).shape == (0, CHANNELS)


def test_a_weight_counts_like_as_many_rows() -> None:
    labels = rows([1, 3, 4])
    feature_NF, class_N = labels.feature_NF, labels.action_N
    config = TreesConfig(min_samples_leaf=1)
    weighted = FIT(feature_NF, class_N, np.where(class_N == 4, 2.0, 1.0), config, 5, 0.1)
    twice = np.concatenate([np.arange(ROWS), np.flatnonzero(class_N == 4)])
    repeated = FIT(feature_NF[twice], class_N[twice], None, config, 5, 0.1)
    np.testing.assert_allclose(weighted.probabilities(feature_NF), repeated.probabilities(feature_NF), atol=1e-6)


def test_the_state_is_numbers_and_another_text_is_an_error() -> None:
    labels = rows([1, 3, 4])
    trees = LabelTrees.fit(labels, ONE_SPLIT, CHANNELS, FIT)
    state = trees.state()
    assert {array.dtype.kind for array in state.values()} <= {"i", "u", "f"}
    loaded = LabelTrees.from_state(state, CHANNELS, 1, LightTrees.from_arrays)
    np.testing.assert_array_equal(loaded.policy(labels.feature_NF), trees.policy(labels.feature_NF))
    no_trees = {**state, "channel.text": np.frombuffer(b"no trees", np.uint8)}
    with pytest.raises(ValueError, match="number of classes"):
        LabelTrees.from_state(no_trees, CHANNELS, 1, LightTrees.from_arrays)


def test_the_number_of_threads_does_not_change_the_stored_model(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, states = rows([1, 3, 1]), []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        states.append(LabelTrees.fit(labels, TreesConfig(channel_iterations=5), CHANNELS, FIT).state())
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
