"""Trees as plain arrays give the same bits as scikit-learn's predictions."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig
from mtorl_model.methods.common.small_trees import SmallTree
from mtorl_model.methods.common.trees import Trees


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("numbered_from", [0, 2])
def test_predictions_are_bit_identical(classes: int, numbered_from: int) -> None:
    rng = np.random.default_rng(0)
    features_NF = rng.standard_normal((3000, 6)).astype(np.float32)
    features_NF[:, 0] = rng.integers(0, 7, 3000)
    label_N = numbered_from + (features_NF[:, 0].astype(int) + (features_NF[:, 1] > 0)) % classes
    fitted = HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=8, early_stopping=False, random_state=0)
    fitted.fit(features_NF, label_N)
    unseen_NF = rng.standard_normal((999, 6)).astype(np.float32)
    unseen_NF[::7, 3] = np.nan
    expected_NC = fitted.predict_proba(unseen_NF)
    trees = Trees.from_classifier(fitted)
    arrays = trees.arrays()
    assert all(array.dtype.kind in "fi" for array in arrays.values())  # plain numbers, no pickled objects
    for tested in (trees, Trees.from_arrays(arrays)):
        assert tested.classes_C.tolist() == list(range(numbered_from, numbered_from + classes))
        np.testing.assert_array_equal(tested.probabilities(unseen_NF), expected_NC)


@pytest.mark.parametrize("leaves", [2, 8, 9, 16, 17])
def test_many_rows_have_the_same_bits_as_few_whatever_the_size_of_the_trees(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    features_NF = rng.standard_normal((10_000, 5)).astype(np.float32)
    features_NF[:, 1] = np.round(features_NF[:, 1])  # values that are equal to a threshold
    features_NF[rng.random((10_000, 5)) < 0.1] = np.nan
    score_N = np.nan_to_num(features_NF) @ rng.standard_normal(5) + np.isnan(features_NF[:, 2])
    fitted = HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=leaves, early_stopping=False, random_state=0)
    trees = Trees.from_classifier(fitted.fit(features_NF, score_N > rng.standard_normal(10_000)))
    features_NF[:50, 0], features_NF[50:100, 0] = np.inf, -np.inf
    probability_NC = trees.probabilities(features_NF)
    np.testing.assert_array_equal(probability_NC, fitted.predict_proba(features_NF))
    few = [trees.probabilities(features_NF[start : start + 500]) for start in range(0, 10_000, 500)]
    np.testing.assert_array_equal(np.concatenate(few), probability_NC)


def test_a_row_goes_left_at_its_threshold_and_right_above_it_whatever_float32_is_nearest() -> None:
    nodes = np.zeros(3, PREDICTOR_RECORD_DTYPE)
    nodes["is_leaf"], nodes["left"], nodes["right"], nodes["value"] = [0, 1, 1], [1, 0, 0], [2, 0, 0], [0, -1, 1]
    third = np.float32(1 / 3)  # above the double
    for threshold in (1 / 3, float(third), 1e300, -1e300):
        nodes["num_threshold"][0] = threshold
        column_FN = np.array([[np.nextafter(third, np.float32(0)), third, np.float32(1), -np.inf, np.inf]], np.float32)
        tree = SmallTree.of(nodes)
        assert tree is not None
        assert tree.values(column_FN).tolist() == [-1.0 if x <= threshold else 1.0 for x in column_FN[0].tolist()]


def test_a_column_without_any_value_is_left_out_and_may_have_values_later():
    rng = np.random.default_rng(0)
    features_NF = rng.normal(size=(200, 3)).astype(np.float32)
    features_NF[:, 1] = np.nan  # as the history of items on the first day of a log
    features_NF[::7, 2] = np.nan
    gain_NG = (features_NF[:, :1] > 0).astype(np.float32)
    rows = np.zeros(200)
    labels = LabelRows(features_NF, rows.astype(np.int64), gain_NG, np.ones_like(gain_NG), rows, rows, None)
    trees = LabelTrees.fit(labels, TreesConfig(gain_iterations=5, min_samples_leaf=5), channels=1)
    filled_NF = np.where(np.arange(3) == 1, np.float32(3.0), features_NF)
    expected_NG = trees.gain_probabilities(features_NF)
    np.testing.assert_array_equal(trees.gain_probabilities(filled_NF), expected_NG)
    assert np.ptp(expected_NG) > 0.1
