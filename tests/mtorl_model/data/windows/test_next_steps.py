"""Windows for scoring, compared with journeys that are computed step by step."""

import pyarrow as pa
import pytest
from synthetic_journeys import CHANNELS, GAINS, SPEC, Shown, journeys, step_inputs, steps_of, toy_dataset

from mtorl_model.data.windows.next_steps import journeys_to_windows
from schemas.steps import feature_inputs, profile_inputs, window_columns

TOY = toy_dataset()
SHORT = [Shown("mid", click=1, cost=0.5), Shown("left", sale=1)]
LONG = [Shown(CHANNELS[t % 3], click=t % 2, campaign=None if t == 5 else "summer") for t in range(9)]
EACH_STEP = ("exposure_id", "channel", "click", "cost", "hour", "last_campaign", "gap_s", "seen_sale", "new_cost")


def test_a_short_journey_is_padded_on_the_left():
    (window,) = journeys_to_windows(journeys({7: SHORT}), SPEC, TOY, steps=5).to_pylist()
    assert window["user_id"] == 7
    assert window["age"] == 30.0
    assert window["valid"] == [False, False, True, True, True]
    assert window["is_label"] == [False] * 5
    assert window["exposure_id"] == [None, None, 0, 1, None]
    assert window["channel"] == [None, None, "mid", "left", None]
    assert window["click"] == [None, None, 1, 0, None]
    assert window["hour"] == [None, None, 0, 1, 1]
    assert window["gap_s"] == [None, None, 0.0, 60.0, 60.0]
    assert window["new_cost"] == [None, None, 0.0, 0.5, 0.25]
    assert window["seen_exposures_by_channel"] == [None, None, [0, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert window["seen_sale_by_channel"] == [None, None, [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert window["new_exposures_by_channel"] == [None, None, [0, 0, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("steps", [1, 2, 4, 9, 10, 11, 45])
def test_the_latest_steps_come_before_the_next_one(steps):
    (window,) = journeys_to_windows(journeys({1: LONG}), SPEC, TOY, steps=steps).to_pylist()
    padding = dict.fromkeys(EACH_STEP)
    upcoming = padding | step_inputs(LONG, hour=8)
    expected = [*([padding] * steps + steps_of(0, LONG))[len(LONG) + 1 :], upcoming]
    for name in EACH_STEP:
        assert window[name] == [step[name] for step in expected], name
    assert window["valid"] == [step["hour"] is not None for step in expected]


def test_users_do_not_mix_and_keep_their_order():
    users = {3: LONG, 1: SHORT, 2: LONG[:4]}
    windows = journeys_to_windows(journeys(users), SPEC, TOY, steps=4)
    rows = journeys(users)
    one_user_each = [journeys_to_windows(rows.slice(k, 1), SPEC, TOY, steps=4) for k in range(3)]
    assert windows.column("user_id").to_pylist() == [3, 1, 2]
    assert windows.equals(pa.concat_tables(one_user_each))


def test_an_unknown_channel_or_one_outside_the_spec_is_not_counted_by_channel():
    users = {1: [Shown(None, click=1), Shown("pop-up", click=1), Shown("right")]}
    (window,) = journeys_to_windows(journeys(users), SPEC, TOY, steps=4).to_pylist()
    assert window["seen_exposures_by_channel"] == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert window["seen_click_by_channel"] == [[0, 0, 0]] * 4
    assert window["seen_exposures"] == [0, 1, 2, 3]  # the total counts them


def test_columns_are_those_of_windows_without_the_training_columns():
    windows = journeys_to_windows(journeys({1: SHORT}), SPEC, TOY, steps=4)
    kept = {feature.name for feature in SPEC.kept_features}
    dropped = {c.name for c in (*feature_inputs(TOY), *profile_inputs(TOY))} - kept
    contract = [c.name for c in window_columns(TOY) if c.name not in {"window", "split", *dropped}]
    assert windows.column_names == contract
    assert "since_click_s" not in windows.column_names  # dropped by the spec
    assert windows.schema.field("seen_sale_by_channel").type == pa.list_(pa.list_(pa.int32()))
    assert {windows.schema.field(g).type for g in GAINS} == {pa.list_(pa.int32())}


def test_no_users_give_no_windows():
    windows = journeys_to_windows(journeys({1: SHORT}).slice(0, 0), SPEC, TOY, steps=4)
    assert len(windows) == 0
    assert windows.schema == journeys_to_windows(journeys({1: SHORT}), SPEC, TOY, steps=4).schema
