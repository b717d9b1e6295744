"""The channels that a policy chooses among, and the logs without a choice."""

from dataclasses import replace

import pytest

from jobs.build_feature_spec import MAX_ACTIONS, actions_of
from schemas.dataset import get_dataset
from schemas.errors import UserError

KUAIRAND = get_dataset("kuairand")  # its contract lists the channels
CRITEO = get_dataset("criteo")  # its channels are learned
DAYS = ["2022-05-01", "2022-05-02", "2022-05-03"]
LONG_LIST = [f"c{k:03}" for k in range(MAX_ACTIONS + 1)]


@pytest.mark.parametrize(
    ("dataset", "channels", "actions"),
    [
        (CRITEO, ["a", "b"], ["a", "b"]),
        (CRITEO, LONG_LIST[1:], LONG_LIST[1:]),
        (KUAIRAND, ["long", "mid"], ["short", "mid", "long"]),
        (KUAIRAND, ["4k", "long", "mid"], ["short", "mid", "long"]),  # a channel that the contract does not list
    ],
)
def test_the_contracts_channels_or_those_of_the_log(dataset, channels, actions):
    assert actions_of(dataset, channels, DAYS) == actions


@pytest.mark.parametrize(
    ("dataset", "channels", "message"),
    [
        (CRITEO, ["a"], "all exposures of training users from 2022-05-01 to 2022-05-03 are in the channel 'a', and"),
        (KUAIRAND, ["mid"], "are in the channel 'mid', and a policy needs at least 2 channels: choose days"),
        (KUAIRAND, ["4k", "mid"], "are in the channel 'mid'"),
        (CRITEO, [], "no exposure of a training user from 2022-05-01 to 2022-05-03 has a channel"),
        (CRITEO, LONG_LIST, "101 channels from 2022-05-01 to 2022-05-03, and a policy chooses among 100 at most"),
        (replace(CRITEO, channels=tuple(LONG_LIST)), LONG_LIST, "a policy chooses among 100 at most"),
    ],
)
def test_a_log_without_a_choice_is_one_line_before_any_training(dataset, channels, message):
    with pytest.raises(UserError, match=f"^{dataset.name}: .*{message}"):
        actions_of(dataset, channels, DAYS)
