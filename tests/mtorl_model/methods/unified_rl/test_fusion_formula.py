"""Equation 1: the action 0 is the plain product, and the logarithm ranks as the score does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtorl_model.methods.unified_rl.fusion import biases_of, log_scores, powers_of


def test_the_action_0_multiplies_the_predictions():
    predictions_JI = np.array([[0.2, 0.5], [0.4, 0.3]])
    score_J = np.exp(log_scores(predictions_JI, np.zeros(4)))
    assert score_J == pytest.approx((predictions_JI + 0.05).prod(axis=1))


@given(
    predictions=arrays(float, (3, 2), elements=st.floats(0.001, 1.0)),
    action=arrays(float, 4, elements=st.floats(-0.99, 1.0)),
)
def test_the_score_is_the_formula(predictions, action):
    expected_J = ((predictions + biases_of(action)) ** powers_of(action)).prod(axis=1)
    assert np.exp(log_scores(predictions, action)) == pytest.approx(expected_J)


def test_a_larger_power_makes_its_objective_decide():
    predictions_JI = np.array([[0.9, 0.1], [0.5, 0.5]])
    first, second = np.array([1.0, -1.0, 0, 0]), np.array([-1.0, 1.0, 0, 0])
    assert log_scores(predictions_JI, first).argmax() == 0
    assert log_scores(predictions_JI, second).argmax() == 1


def test_a_negative_prediction_is_refused():
    with pytest.raises(ValueError, match="negative"):
        log_scores(np.array([[-0.1, 0.2]]), np.zeros(4))
