"""The channel level (equation 17): closed forms, and counts that add up."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_journeys import SPEC, Shown, journeys, toy_dataset

from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import PRIOR_EXPOSURES
from mtorl_model.data.windows.next_steps import journeys_to_windows
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
from schemas.errors import UserError

TOY = toy_dataset()


def counts(exposures, gained, reliable, cost=None, cost_gained=None) -> ChannelCounts:
    zero = [0] * len(exposures)
    return ChannelCounts(*map(np.array, (exposures, gained, reliable, cost or zero, cost_gained or zero)))


def test_equation_17():
    level = channel_level("ab", counts([990, 1990], [99, 398], [495, 199]), alpha=0.25)
    overall, likely = 497 / 2980, 694 / 2980
    ctr = np.array([99 + 10 * overall, 398 + 10 * overall]) / np.array([1000, 2000])
    reliable_rate = np.array([495 + 10 * likely, 199 + 10 * likely]) / np.array([1000, 2000])
    assert PRIOR_EXPOSURES == 10
    np.testing.assert_allclose(level.explicit_A, ctr / ctr.sum())
    np.testing.assert_allclose(level.implicit_A, reliable_rate / reliable_rate.sum())
    initial = 0.75 * ctr / ctr.sum() + 0.25 * reliable_rate / reliable_rate.sum()
    np.testing.assert_allclose(level.initial_A, initial)
    share = np.array([990, 1990]) / 2980
    assert share @ level.lift_A == pytest.approx(1.0)
    assert level.lift_A[1] / level.lift_A[0] == pytest.approx(level.initial_A[1] / level.initial_A[0])


def test_one_lucky_click_does_not_win_the_budget():
    level = channel_level("abc", counts([10_000, 1, 0], [3_000, 1, 0], [0, 0, 0]))
    assert level.explicit_A[1] < 0.4
    assert level.explicit_A[2] == pytest.approx(level.explicit_A[0], rel=1e-2)  # without exposures: the overall rate
    assert channel_level("ab", ChannelCounts.zeros(2)).initial_A.tolist() == [0.5, 0.5]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_counts_of_parts_add_up(seed, cut):
    rng = np.random.default_rng(seed)
    action, gained, reliable = rng.integers(-1, 3, 40), rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    cost = rng.integers(0, 10**12, 40)
    total = ChannelCounts.count(action, gained, reliable, cost, 3)
    parts = [ChannelCounts.count(action[p], gained[p], reliable[p], cost[p], 3) for p in (slice(cut), slice(cut, None))]
    for name in ChannelCounts.__slots__:
        np.testing.assert_array_equal(getattr(total, name), getattr(parts[0] + parts[1], name))
    assert total.exposures_A.tolist() == [(action == a).sum() for a in range(3)]
    assert total.cost_A.sum() + total.cost_gained_A.sum() == cost[action >= 0].sum()


def test_remembered_steps_are_counted_with_their_predictions():
    users = {1: [Shown("left", 1, cost=0.5), Shown("mid", cost=0.25)], 2: [Shown(None, 1), Shown("left", cost=0.125)]}
    windows = journeys_to_windows(journeys(users), SPEC, TOY, 4)
    encoded = Encoder(SPEC, TOY).encode(windows)
    predicted = np.zeros((2, 4, 2))
    predicted[0, :, 0] = [0.9, 0.9, 0.3, 0.9]  # padding, left, mid, next step
    predicted[1, :, 0] = [0.9, 0.9, 0.4, 0.9]  # padding, unknown, left, next step
    remembered = count_remembered(windows, encoded, reliable_steps(predicted, 0.35, TOY), TOY)
    assert remembered.exposures_A.tolist() == [2, 1, 0]
    assert remembered.gained_A.tolist() == [1, 0, 0]
    assert remembered.reliable_A.tolist() == [2, 0, 0]
    assert remembered.cost_A.tolist() == [125_000_000, 250_000_000, 0]
    assert remembered.cost_gained_A.tolist() == [500_000_000, 0, 0]


def test_a_late_gain_is_not_counted():
    criteo = get_dataset("criteo")
    assert click_gain(criteo) == 0
    assert click_gain(replace(criteo, gains=criteo.gains[::-1])) == 1  # the click, never the conversion
    late = replace(TOY, gains=TOY.gains[1:], columns=tuple(
        replace(d, column=replace(d.column, known=Known.AT, known_at="sale_at")) if d.column.name == "sale" else d
        for d in (*TOY.columns, Derived(Column("sale_at", "bigint", "ms", Known.AFTER), "log.sale_at"))
    ))  # fmt: skip
    assert click_gain(late) == 0  # predicted, but not counted
    encoded = Encoder(SPEC, TOY).encode(journeys_to_windows(journeys({1: [Shown("left", 1, 1)]}), SPEC, TOY, 2))
    counts = count_steps(
        encoded.valid_NL, encoded._replace(gains_NLG=encoded.gains_NLG[..., 1:]), np.ones((1, 2, 1)), 0.5,
        np.zeros((1, 2), np.int64), late,
    )  # fmt: skip
    assert counts.exposures_A.tolist() == counts.reliable_A.tolist() == [1, 0, 0]
    assert counts.gained_A.tolist() == [0, 0, 0]


def test_the_ablation_keeps_the_costs():
    level = channel_level("ab", counts([2000, 2000], [1000, 1000], [0, 0], [10**6, 10**6], [10**6, 5 * 10**6]))
    assert (level.without_policy().lift_A == 1).all()
    assert (level.without_policy().cost_gained_A == level.cost_gained_A).all()
    assert ALPHA == 0.5


def test_costs_of_a_channel_that_need_more_than_64_bits_are_one_clear_line():
    largest, actions = np.full(12, 10**18), np.zeros(12, dtype=np.int64)
    with pytest.raises(UserError, match="the costs of a channel add up to more than 4,611,686,018"):
        ChannelCounts.count(actions, actions, actions, largest, 2)
    part = ChannelCounts.count(actions[:4], actions[:4], actions[:4], largest[:4], 2)
    with pytest.raises(UserError, match="the costs of a channel"):
        part + part
    assert part.cost_A.tolist() == [4 * 10**18, 0]
