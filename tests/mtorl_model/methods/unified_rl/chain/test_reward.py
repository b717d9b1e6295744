"""Weights of the reward: the contract's, or fitted to the exposures that are left of a session."""

from dataclasses import replace

import numpy as np
import pytest
from candidate_rows import store_of

from mtorl_model.methods.unified_rl.chain.reward import (
    advice_on_weights,
    fitted_weights,
    remaining,
    reward_weights,
    rewards,
)
from schemas.candidates import Objective
from schemas.dataset import get_dataset
from schemas.errors import UserError

KUAIRAND = get_dataset("kuairand")


def sessions_that_go_on(effect_I, seed: int = 0):
    """Sessions whose chance to continue after an exposure depends on its objectives."""
    rng = np.random.default_rng(seed)
    session, session_N, objectives = 0, [], []
    for _ in range(20_000):
        outcome_I = rng.random(len(effect_I)) < 0.3
        session_N.append(session)
        objectives.append(outcome_I)
        session += rng.random() >= np.clip(0.4 + outcome_I @ effect_I, 0.0, 0.95)
    rows = len(session_N)
    return store_of(
        np.array(session_N), np.zeros((rows, 1), int), np.zeros((rows, 1)), np.zeros((rows, 2)), (2,),
        np.array(objectives),
    )  # fmt: skip


def test_what_is_left_of_a_session():
    store = store_of(np.array([0, 0, 0, 1]), np.zeros((4, 1)), np.zeros((4, 1)), np.zeros((4, 2)), (2,))
    assert remaining(store).tolist() == [2, 1, 0, 0]


def test_an_objective_after_which_sessions_go_on_has_weight_and_one_that_ends_them_has_none():
    weight_I = fitted_weights(sessions_that_go_on(np.array([0.2, 0.1, -0.3])))
    assert weight_I[0] == 1.0
    assert 0.2 < weight_I[1] < 0.8
    assert weight_I[2] == 0.0


def test_named_weights_are_not_fitted_and_a_fit_without_effect_is_refused():
    store = sessions_that_go_on(np.array([-0.2, -0.2]))
    named = replace(KUAIRAND, objectives=(Objective("a", ("click",), 0.5), Objective("b", ("like",))))
    assert reward_weights(named, store).tolist() == [0.5, 0.0]
    for weight in (None, 0.0):  # fitted, and given
        objectives = (Objective("a", ("click",), weight), Objective("b", ("like",), weight))
        with pytest.raises(UserError, match=r"all objectives of kuairand have the weight 0, .* \(objectives\)"):
            reward_weights(replace(KUAIRAND, objectives=objectives), store)


def test_an_objective_without_a_weight_is_named():
    assert advice_on_weights(("purchase", "cart"), np.array([0.0, 1.0])).startswith("purchase: weight 0 in the reward")
    assert advice_on_weights(("purchase", "cart"), np.array([0.5, 1.0])) == ""


def test_the_first_objective_is_a_group_of_its_own():
    reward_NQ = rewards(np.array([[1, 1, 0], [0, 1, 1]], np.float32), np.array([1.0, 0.5, 2.0]))
    assert reward_NQ.tolist() == [[1.0, 0.5], [0.0, 2.5]]


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Objective("a", ("hour",)), "objective a needs columns known after or at, not hour"),
        (Objective("a", ("shares",)), "objective a needs columns known after or at, not shares"),
    ],
)
def test_a_contract_names_outcomes(objective, message):
    with pytest.raises(ValueError, match=message):
        replace(KUAIRAND, objectives=(objective,))


def test_an_objective_has_columns_and_no_negative_weight():
    with pytest.raises(ValueError, match="objective liked needs a column"):
        Objective("liked", ())
    with pytest.raises(ValueError, match=r"objective a has the weight -0.1"):
        Objective("a", ("click",), -0.1)
