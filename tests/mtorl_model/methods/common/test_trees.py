"""Trees as plain arrays give the same bits as scikit-learn's predictions."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.methods.common.label_rows import LabelRows
from mtorl_model.methods.common.label_trees import LabelTrees, TreesConfig
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
