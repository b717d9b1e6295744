"""The rule of the gate for one head: a challenger whose loss is not a number is refused."""

import math

import pytest

from mtorl_model.champion.gate_rule import GateConfig, head_row, is_not_worse
from mtorl_model.evaluation.comparison import Difference

GATE = GateConfig()


def difference(value: float, high: float | None = None) -> Difference:
    low = None if high is None else value - (high - value)
    return Difference("click", 50, 900, 0.5, 0.5 + value, value, low, high)


@pytest.mark.parametrize("reference", ["", "mtorl_kuairand/3"])
@pytest.mark.parametrize(
    "difference",
    [difference(math.nan), difference(math.nan, math.nan), difference(math.inf), difference(-math.inf, -math.inf)],
)
def test_a_loss_that_is_not_a_number_is_a_refusal(difference, reference):
    row = head_row(difference, GATE, reference)
    assert not row["passed"]
    assert row["reason"].startswith("click cannot be compared")
    assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))


@pytest.mark.parametrize(
    ("value", "high", "passes"),
    [(-0.1, 0.1, True), (0.004, None, True), (0.004, 0.016, False), (0.006, None, False), (0.0, 0.0, True)],
)
def test_a_head_may_be_worse_within_the_margin(value, high, passes):
    assert is_not_worse(difference(value, high), GATE) is passes
    assert head_row(difference(value, high), GATE)["passed"] is passes
