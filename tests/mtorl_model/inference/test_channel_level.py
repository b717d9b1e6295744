"""Channel level (equation 17) and the value of a pair: closed forms, sums of parts, what moves what."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_journeys import SPEC, Shown, journeys, toy_dataset

from mtorl_model.budget.pair_reward import KAPPA, pair_click, pair_cost_nano, pair_reward
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import PRIOR_EXPOSURES
from mtorl_model.data.journey_windows import journeys_to_windows
from mtorl_model.inference.channel_level import (
    ALPHA,
    ChannelCounts,
    channel_level,
    click_gain,
    count_remembered,
    count_steps,
    reliable_steps,
)
from schemas.contract import Column, Known
from schemas.dataset import Derived, get_dataset

TOY = toy_dataset()


def counts(exposures, gained, reliable, cost=None, cost_gained=None) -> ChannelCounts:
    zero = [0] * len(exposures)
    return ChannelCounts(*map(np.array, (exposures, gained, reliable, cost or zero, cost_gained or zero)))


def test_equation_17():
    level = channel_level("ab", counts([990, 1990], [99, 398], [495, 199]), alpha=0.25)
    overall, likely = 497 / 2980, 694 / 2980
    ctr = np.array([99 + 10 * overall, 398 + 10 * overall]) / np.array([1000, 2000])
    kept = np.array([495 + 10 * likely, 199 + 10 * likely]) / np.array([1000, 2000])
    assert PRIOR_EXPOSURES == 10
    np.testing.assert_allclose(level.explicit_A, ctr / ctr.sum())
    np.testing.assert_allclose(level.implicit_A, kept / kept.sum())
    np.testing.assert_allclose(level.initial_A, 0.75 * ctr / ctr.sum() + 0.25 * kept / kept.sum())
    share = np.array([990, 1990]) / 2980
    assert share @ level.lift_A == pytest.approx(1.0)
    assert level.lift_A[1] / level.lift_A[0] == pytest.approx(level.initial_A[1] / level.initial_A[0])


def test_one_lucky_click_does_not_win_the_budget():
    level = channel_level("abc", counts([10_000, 1, 0], [3_000, 1, 0], [0, 0, 0]))
    assert level.explicit_A[1] < 0.4
    assert level.explicit_A[2] == pytest.approx(level.explicit_A[0], rel=1e-2)  # never shown: as the others
    assert channel_level("ab", ChannelCounts.none(2)).initial_A.tolist() == [0.5, 0.5]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_counts_of_parts_add_up(seed, cut):
    rng = np.random.default_rng(seed)
    action, gained, reliable = rng.integers(-1, 3, 40), rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    cost = rng.integers(0, 10**12, 40)
    whole = ChannelCounts.of(action, gained, reliable, cost, 3)
    parts = [ChannelCounts.of(action[p], gained[p], reliable[p], cost[p], 3) for p in (slice(cut), slice(cut, None))]
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts[0] + parts[1], name))
    assert whole.exposures_A.tolist() == [(action == a).sum() for a in range(3)]
    assert whole.cost_A.sum() + whole.cost_gained_A.sum() == cost[action >= 0].sum()


def test_remembered_steps_are_counted_with_what_the_model_said_of_them():
    users = {1: [Shown("left", 1, cost=0.5), Shown("mid", cost=0.25)], 2: [Shown(None, 1), Shown("left", cost=0.125)]}
    windows = journeys_to_windows(journeys(users), SPEC, TOY, 4)
    encoded = Encoder(SPEC, TOY).encode(windows)
    predicted = np.zeros((2, 4, 2))
    predicted[0, :, 0] = [0.9, 0.9, 0.3, 0.9]  # padding, left, mid, next step
    predicted[1, :, 0] = [0.9, 0.9, 0.4, 0.9]  # padding, unknown, left, next step
    found = count_remembered(windows, encoded, reliable_steps(predicted, 0.35, TOY), TOY)
    assert found.exposures_A.tolist() == [2, 1, 0]
    assert found.gained_A.tolist() == [1, 0, 0]
    assert found.reliable_A.tolist() == [2, 0, 0]
    assert found.cost_A.tolist() == [125_000_000, 250_000_000, 0]
    assert found.cost_gained_A.tolist() == [500_000_000, 0, 0]


def test_a_gain_that_is_yet_to_come_counts_nowhere():
    criteo = get_dataset("criteo")
    assert click_gain(criteo) == 0
    assert click_gain(replace(criteo, gains=criteo.gains[::-1])) == 1  # the click, never the conversion
    late = replace(TOY, gains=TOY.gains[1:], columns=tuple(
        replace(d, column=replace(d.column, known=Known.AT, known_at="sale_at")) if d.column.name == "sale" else d
        for d in (*TOY.columns, Derived(Column("sale_at", "bigint", "ms", Known.AFTER), "log.sale_at"))
    ))  # fmt: skip
    assert click_gain(late) == 0  # predicted, but no channel is judged by it
    encoded = Encoder(SPEC, TOY).encode(journeys_to_windows(journeys({1: [Shown("left", 1, 1)]}), SPEC, TOY, 2))
    counts = count_steps(
        encoded.valid_NL, encoded._replace(gains_NLG=encoded.gains_NLG[..., 1:]), np.ones((1, 2, 1)), 0.5,
        np.zeros((1, 2), np.int64), late,
    )  # fmt: skip
    assert counts.exposures_A.tolist() == counts.reliable_A.tolist() == [1, 0, 0]
    assert counts.gained_A.tolist() == [0, 0, 0]


def test_a_pair_without_a_record_is_the_prediction_moved_by_the_channel():
    policy = np.array([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    lift, none = np.array([1.0, 2.0, 0.5]), np.zeros((2, 3), int)
    click = pair_click(np.array([0.2, 0.5]), policy, lift, none, none)
    assert click[0, 1] == pytest.approx(0.2)  # the channel that the prediction is about
    odds = click / (1 - click)
    np.testing.assert_allclose(odds / odds[:, :1], [lift, lift])
    assert odds[1, 0] * odds[1, 1] == pytest.approx(1.0)  # in the middle between the two channels it is about
    reward = pair_reward(np.array([0.05, 0.1]), np.array([0.2, 0.5]), click)
    np.testing.assert_allclose(reward / click, [[0.25] * 3, [0.2] * 3])


def test_a_certain_click_stays_a_number():
    click = pair_click(np.array([0.0, 1.0]), np.full((2, 2), 0.5), np.array([1.0, 3.0]), *np.zeros((2, 2, 2), int))
    assert np.isfinite(click).all()
    assert ((click >= 0) & (click <= 1)).all()


def test_a_record_speaks_for_its_own_channel():
    shown, clicked = np.array([[30, 0], [30, 0]]), np.array([[30, 0], [0, 0]])
    click = pair_click(np.array([0.3, 0.3]), np.full((2, 2), 0.5), np.ones(2), shown, clicked)
    np.testing.assert_allclose(click, [[(30 + 0.3 * KAPPA) / (30 + KAPPA), 0.3], [0.3 * KAPPA / (30 + KAPPA), 0.3]])


def test_a_click_has_its_own_price():
    level = channel_level("ab", counts([2000, 2000], [1000, 1000], [0, 0], [10**6, 10**6], [10**6, 5 * 10**6]))
    cost = pair_cost_nano(np.array([[0.0, 0.0], [1.0, 1.0]]), level)
    assert cost[0].tolist() == [1000, 1000]
    assert abs(cost[1, 0] - 1000) < 30
    assert abs(cost[1, 1] - 5000) < 30
    assert (level.without_policy().lift_A == 1).all()
    assert (level.without_policy().cost_gained_A == level.cost_gained_A).all()
    assert ALPHA == 0.5
