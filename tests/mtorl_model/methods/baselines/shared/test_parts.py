"""Masked statistics, target networks, prices, and a loss computed in parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batch import random_batch
from torch import nn

from mtorl_model.methods.baselines.dt import mean_rewards_to_go
from mtorl_model.methods.baselines.mirec import channel_prices
from mtorl_model.methods.baselines.shared.budgets import least_price
from mtorl_model.methods.baselines.shared.loss_sum import LossSum, channel_part
from mtorl_model.methods.baselines.shared.masked_norm import MaskedNorm
from mtorl_model.methods.baselines.shared.target_network import WithTarget, is_target, reset_targets


def test_masked_statistics_leave_other_entries_out() -> None:
    norm, x_ND = MaskedNorm(2, momentum=1.0), torch.randn(50, 2) * 3 + 1
    counted_N = torch.arange(50) < 30
    normed_ND = norm(x_ND, counted_N)
    torch.testing.assert_close(normed_ND[:30].mean(dim=0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(norm.mean_D, x_ND[:30].mean(dim=0))
    spoiled_ND = torch.where(counted_N[:, None], x_ND, 1e6)
    torch.testing.assert_close(norm(spoiled_ND, counted_N)[:30], normed_ND[:30])
    torch.testing.assert_close(norm.eval()(x_ND, counted_N)[:30], normed_ND[:30])
    one = MaskedNorm(2)
    torch.testing.assert_close(one(x_ND, torch.arange(50) < 1), x_ND, atol=1e-3, rtol=1e-4)  # too few: the averages


def test_a_target_follows_in_training_alone_and_is_reset_after_loading() -> None:
    pair = WithTarget(nn.Linear(2, 1), 0.25)
    start = pair.target.weight.clone()
    with torch.no_grad():
        pair.online.weight += 4.0
    pair.eval()
    pair.follow()
    torch.testing.assert_close(pair.target.weight, start)
    pair.train()
    pair.follow()
    torch.testing.assert_close(pair.target.weight, start + 1.0)
    assert [name for name in pair.state_dict() if is_target(name)] == ["target.weight", "target.bias"]
    reset_targets(pair)
    torch.testing.assert_close(pair.target.weight, pair.online.weight)


def test_the_price_is_the_least_that_keeps_the_budget() -> None:
    assert least_price(lambda price: 1.0, 1.0, 2.0) == 0.0
    assert least_price(lambda price: 2.0 - price, 1.5, 2.0) == pytest.approx(0.5, abs=1e-3)
    assert least_price(lambda price: 5.0, 1.0, 2.0) == 2.0


@pytest.mark.slow(0.5)
@given(st.integers(2, 5), st.integers(0, 2**16))
def test_channels_stay_near_their_shares_of_exposure(channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_TA = 0.1 * rng.random((400, channels)) + np.eye(channels)[0]  # the first channel is always the best
    share_A = np.full(channels, 1 / channels)
    price_A = channel_prices(p_TA, share_A, step=10.0)
    assert (price_A >= 0).all()
    assert price_A[0] > price_A[1:].max() + 0.5
    assert not channel_prices(p_TA, np.eye(channels)[0], step=1.0)[0]  # within its share: no price


def test_parts_of_a_batch_add_up_to_the_loss_of_the_batch() -> None:
    batch, logits_BLA = random_batch(), torch.randn(6, 9, 3, requires_grad=True)
    loss = LossSum(channel_part(lambda output: output, weight=0.5))
    total, _ = loss.losses(logits_BLA, batch, torch.empty(0), None)
    halves = [slice(0, 2), slice(2, 6)]
    parts = [type(batch)(*(tensor[half] for tensor in batch)) for half in halves]
    counts = [loss.label_counts(part, torch.empty(0)) for part in parts]
    shares = [count / sum(counts) for count in counts]
    summed = sum(
        loss.losses(logits_BLA[half], part, torch.empty(0), share)[0]
        for half, part, share in zip(halves, parts, shares, strict=True)
    )
    torch.testing.assert_close(summed, total)


def test_the_return_of_a_step_is_the_mean_of_its_own_and_later_rewards() -> None:
    batch = random_batch(2, 4)._replace(
        valid_BL=torch.tensor([[False, True, True, True]] * 2), reward_BL=torch.tensor([[9.0, 1.0, 0.0, 0.5]] * 2)
    )
    torch.testing.assert_close(mean_rewards_to_go(batch), torch.tensor([[0.0, 0.5, 0.25, 0.5]] * 2))
