"""The basis of the recommendations: value where it pays, never a basis credibly below the best constant."""

from types import SimpleNamespace

import numpy as np
import pytest

from mtorl_model.evaluation.basis import Drawn, basis_line, decide_basis
from mtorl_model.evaluation.off_policy import DrawnLabels
from mtorl_model.methods.method import GAINS, POLICY, VALUES, Prediction
from schemas.basis import CONSTANT, IMITATION, VALUE, BasisDecision

LABELS, USERS = 20_000, 1_000
RNG_SEED = 5


def model(kinds=(POLICY, GAINS, VALUES)) -> SimpleNamespace:
    return SimpleNamespace(predicts=frozenset(kinds), best_channel=0, spec=SimpleNamespace(channels=("a", "b")))


def drawn(value_gain: float, imitation_gain: float) -> Drawn:
    """Labels of a log of two channels drawn at random.

    Always `a` is worth .3. For half of the users, the channel that `value` recommends is worth value_gain more than
    `a`; for the other half that of `imitation` is worth imitation_gain more.
    """
    rng = np.random.default_rng(RNG_SEED)
    user_N = rng.integers(0, USERS, LABELS)
    first_N = user_N % 2 == 0
    action_N = rng.integers(0, 2, LABELS)
    b_is_worth = 0.3 + np.where(first_N, value_gain, imitation_gain)
    reward_N = (rng.random(LABELS) < np.where(action_N == 0, 0.3, b_is_worth)).astype(float)
    names_b_NA = np.array([0.2, 0.8])
    names_a_NA = names_b_NA[::-1]
    values_NAG = np.where(first_N[:, None], names_b_NA, names_a_NA)[..., None]
    policy_NA = np.where(first_N[:, None], names_a_NA, names_b_NA)
    labels = DrawnLabels(
        action_N, reward_N, rng.standard_normal((LABELS, 2)), rng.integers(0, 2, LABELS), np.zeros(LABELS),
        np.full(LABELS, 0.5), user_N,
    )  # fmt: skip
    return Drawn(labels, Prediction(policy_NA, None, values_NAG))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value_gain", "imitation_gain", "basis"),
    [(0.2, 0.0, VALUE), (-0.2, -0.2, CONSTANT), (0.05, 0.3, IMITATION), (-0.2, 0.2, IMITATION)],
)
def test_the_basis_with_the_highest_value_is_chosen(value_gain, imitation_gain, basis):
    decision = decide_basis(model(), drawn(value_gain, imitation_gain))
    assert decision.basis == basis
    assert set(decision.minus_constant) == {VALUE, IMITATION, CONSTANT}
    assert decision.minus_constant[CONSTANT]["value"] == 0.0
    assert decision.minus_constant[VALUE]["value"] == pytest.approx(value_gain / 2, abs=0.03)
    assert decision.minus_constant[IMITATION]["value"] == pytest.approx(imitation_gain / 2, abs=0.03)
    chosen = decision.minus_constant[decision.basis]
    assert chosen["high"] >= 0  # never credibly below the best constant
    assert basis in basis_line(decision)
    assert BasisDecision.from_json(decision.to_json()) == decision


def test_a_log_that_does_not_identify_the_value_leaves_the_imitation():
    assert decide_basis(model(), None).basis == IMITATION
    all_labels = drawn(0.2, 0.0)
    fifty = DrawnLabels(*(array[:50] for array in all_labels.labels))
    decision = decide_basis(model(), Drawn(fifty, all_labels.prediction.take(slice(50))))
    assert decision.basis == IMITATION
    assert "too few" in decision.reason
    assert decision.minus_constant == {}


@pytest.mark.slow(0.5)
def test_a_method_without_values_or_policy_has_the_bases_that_remain():
    assert decide_basis(model((POLICY, GAINS)), drawn(0.2, -0.2)).basis == CONSTANT
    assert decide_basis(model((GAINS,)), None).basis == CONSTANT
