"""Trees as plain arrays give the same bits as scikit-learn's predictions."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

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
