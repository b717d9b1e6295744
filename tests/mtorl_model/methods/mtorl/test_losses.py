import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_batch import SIZES, VARIANTS, random_batch, with_garbage

from mtorl_model.data.batch import Batch
from mtorl_model.methods.common.masks import masked_mean
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig
from mtorl_model.methods.mtorl.losses import (
    dpo_loss,
    draw_pairs,
    label_counts,
    policy_loss,
    total_loss,
)
from mtorl_model.methods.mtorl.network import Network, Output
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS, highest_gain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_output(batch: Batch, form: str, seed: int = 3) -> Output:
    g = generator(seed)
    outputs = REWARD_FORMS[form].outputs(SIZES.gains)
    shape = batch.valid_BL.shape
    return Output(
        torch.randn(*shape, SIZES.actions, generator=g).requires_grad_(),
        torch.randn(*shape, outputs, generator=g).requires_grad_(),
        torch.zeros(*shape, 1),
    )


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.booleans()), min_size=1, max_size=40))
def test_masked_mean_is_the_mean_of_the_chosen_values(rows):
    x, mask = torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])
    chosen = [value for value, is_chosen in rows if is_chosen]
    expected = sum(chosen) / len(chosen) if chosen else 0.0
    assert masked_mean(x, mask).item() == pytest.approx(expected, rel=1e-4, abs=1e-2)


def test_masked_mean_ignores_nan_outside_the_mask():
    x = torch.tensor([1.0, float("nan"), 3.0])
    assert masked_mean(x, torch.tensor([True, False, True])).item() == 2.0


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    x = torch.ones(3, requires_grad=True)
    mean = masked_mean(x, torch.zeros(3, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0.0
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_policy_loss_is_the_cross_entropy_over_channels():
    batch = random_batch()
    output = random_output(batch, "binary")
    log_pi = log_softmax(output.action_logits_BLA.detach().double().numpy())
    terms = [
        -log_pi[b, t, batch.action_BL[b, t]]
        for b in range(6)
        for t in range(9)
        if batch.label_BL[b, t] and batch.action_BL[b, t] >= 0
    ]
    assert len(terms) < batch.label_BL.sum()  # some channels are unknown
    assert policy_loss(output, batch).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_policy_loss_without_a_known_channel_is_zero():
    batch = random_batch()
    batch = batch._replace(action_BL=torch.full_like(batch.action_BL, -1))
    output = random_output(batch, "binary")
    losses = total_loss(output, batch, LossConfig(), REWARD_FORMS["binary"], draw_pairs(batch, generator()))
    losses.total.backward()
    assert (losses.policy.item(), losses.dpo.item()) == (0.0, 0.0)
    assert output.action_logits_BLA.grad.abs().sum() == 0
    assert output.reward_logits_BLO.grad.abs().sum() > 0


def test_binary_reward_loss_is_one_binary_cross_entropy_per_gain():
    batch = random_batch()
    output = random_output(batch, "binary")
    p = sigmoid(output.reward_logits_BLO.detach().double().numpy())
    r, label = batch.gains_BLG.numpy(), batch.label_BL.numpy()
    expected = -(r * np.log(p) + (1 - r) * np.log(1 - p))[label].mean(axis=0)
    np.testing.assert_allclose(
        REWARD_FORMS["binary"].losses(output.reward_logits_BLO, batch).detach().numpy(), expected, rtol=1e-5
    )


@pytest.mark.parametrize("form", ["continuous", "fused"])
def test_continuous_reward_loss_is_the_squared_error(form):
    batch = random_batch()
    output = random_output(batch, form)
    p = sigmoid(output.reward_logits_BLO.detach().double().numpy()[..., 0])
    expected = ((p - batch.reward_BL.numpy()) ** 2)[batch.label_BL.numpy()].mean()
    loss = REWARD_FORMS[form].losses(output.reward_logits_BLO, batch)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_onehot_reward_loss_is_the_cross_entropy_over_classes():
    batch = random_batch()
    output = random_output(batch, "onehot")
    log_p = log_softmax(output.reward_logits_BLO.detach().double().numpy())
    terms = []
    for b, t in batch.label_BL.nonzero().tolist():
        first, second = batch.gains_BLG[b, t].tolist()
        terms.append(-log_p[b, t, 2 if second else 1 if first else 0])
    loss = REWARD_FORMS["onehot"].losses(output.reward_logits_BLO, batch)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_highest_gain_is_the_last_one_reached():
    gains = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]])
    assert highest_gain(gains).tolist() == [[0, 1, 2, 2]]


def seed_with_permutation(expected: list[int]) -> int:
    return next(s for s in range(999) if torch.randperm(len(expected), generator=generator(s)).tolist() == expected)


def three_windows() -> tuple[Output, Batch]:
    """Two steps, two channels. Total rewards: .5, .5 and .9. The last channel of window 1 is unknown."""
    p = torch.tensor([[[0.8, 0.2], [0.6, 0.4]], [[0.3, 0.7], [0.5, 0.5]], [[0.1, 0.9], [0.25, 0.75]]])
    yes = torch.ones(3, 2, dtype=torch.bool)
    batch = random_batch(windows=3, steps=2)._replace(
        valid_BL=yes,
        label_BL=yes,
        action_BL=torch.tensor([[0, 1], [0, -1], [1, 0]]),
        reward_BL=torch.tensor([[0.2, 0.3], [0.3, 0.2], [0.9, 0.0]]),
    )
    return Output(p.log().requires_grad_(), torch.zeros(3, 2, 2), torch.zeros(3, 2, 1)), batch


def test_dpo_loss_by_hand():
    output, batch = three_windows()
    seed = seed_with_permutation([1, 2, 0])  # pair (0, 1) is a tie and dropped; window 2 wins (1, 2) and (2, 0)
    loss = dpo_loss(output, batch, draw_pairs(batch, generator(seed)), beta=0.5)

    def term(winner: float, loser: float) -> float:
        return -math.log(1 / (1 + math.exp(-(0.5 * math.log(winner) - 0.5 * math.log(loser)))))

    expected = (term(0.9, 0.3) + term(0.9, 0.8) + term(0.25, 0.4)) / 3  # step 1 of pair (1, 2) is unknown
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_dpo_gradient_raises_the_winner_and_lowers_the_loser():
    output, batch = three_windows()
    dpo_loss(output, batch, draw_pairs(batch, generator(seed_with_permutation([1, 2, 0]))), beta=0.5).backward()
    downhill = -output.action_logits_BLA.grad
    assert downhill[2, 0, 1] > 0  # the winner's channels
    assert downhill[2, 1, 0] > 0
    assert downhill[0, 0, 0] < 0  # the losers' channels
    assert downhill[0, 1, 1] < 0
    assert downhill[1, 0, 0] < 0
    assert downhill[1, 1].tolist() == [0.0, 0.0]  # unknown


def test_dpo_drops_ties_whatever_the_order_of_the_rewards():
    g = generator(1)
    reward_7 = torch.rand(7, generator=g) / 3
    rewards_B7 = torch.stack([reward_7[torch.randperm(7, generator=g)] for _ in range(32)])
    yes = torch.ones(32, 7, dtype=torch.bool)
    batch = random_batch(32, 7)._replace(
        label_BL=yes, valid_BL=yes, reward_BL=rewards_B7, action_BL=torch.zeros(32, 7, dtype=torch.int64)
    )
    assert len(rewards_B7.sum(1).unique()) > 1  # in float32 the sums differ
    assert dpo_loss(random_output(batch, "binary"), batch, draw_pairs(batch, generator()), beta=0.1).item() == 0.0


def test_dpo_counts_label_steps_only_in_the_total():
    output, batch = three_windows()
    seed = seed_with_permutation([1, 2, 0])
    label = batch.label_BL.clone()
    label[2, 0] = False  # the 0.9 is now context: the total of window 2 is 0, and it loses to 1 and 0
    loss = dpo_loss(output, batch._replace(label_BL=label), draw_pairs(batch, generator(seed)), beta=0.5).item()
    expected = -math.log(1 / (1 + math.exp(-0.5 * (math.log(0.4) - math.log(0.25)))))  # step 1 of pair (2, 0)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_dpo_pairs_follow_the_seed():
    batch = random_batch(windows=40)
    output = random_output(batch, "binary")
    values = [dpo_loss(output, batch, draw_pairs(batch, generator(seed)), beta=0.1).item() for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("form", ["binary", "continuous", "fused", "onehot"])
def test_total_is_equation_16(form):
    batch = random_batch()
    output = random_output(batch, form)
    config = LossConfig(mu=0.3, dpo_weight=0.7, beta=0.2)
    losses = total_loss(output, batch, config, REWARD_FORMS[form], draw_pairs(batch, generator()))
    dpo = dpo_loss(output, batch, draw_pairs(batch, generator()), beta=0.2)
    expected = (
        policy_loss(output, batch) + 0.3 * REWARD_FORMS[form].losses(output.reward_logits_BLO, batch).mean() + 0.7 * dpo
    )
    torch.testing.assert_close(losses.total, expected)
    assert min(losses.policy.item(), losses.reward_losses.min().item(), losses.dpo.item()) > 0


@pytest.mark.parametrize("form", ["binary", "continuous", "fused", "onehot"])
def test_steps_without_a_label_affect_neither_loss_nor_gradient(form):
    batch = random_batch()
    clean, dirty = random_output(batch, form), random_output(batch, form)
    expected = total_loss(clean, batch, LossConfig(), REWARD_FORMS[form], draw_pairs(batch, generator())).total
    loss = total_loss(
        dirty, with_garbage(batch), LossConfig(), REWARD_FORMS[form], draw_pairs(batch, generator())
    ).total
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for logits in (dirty.action_logits_BLA, dirty.reward_logits_BLO):
        assert logits.grad.isfinite().all()
        assert logits.grad[~batch.label_BL].abs().sum() == 0


@pytest.mark.parametrize("form", ["binary", "continuous", "fused", "onehot"])
def test_the_parts_of_a_batch_add_up_to_it_in_losses_and_gradients(form):
    batch, cuts = random_batch(windows=11), (slice(0, 3), slice(3, 8), slice(8, 10), slice(10, 11))
    label_BL = batch.label_BL.clone()
    label_BL[10] = False  # a part without any label
    maturity = torch.where(torch.rand(batch.maturity_BLG.shape, generator=generator()) < 0.5, 0.0, 0.5)
    batch = batch._replace(label_BL=label_BL, maturity_BLG=maturity)
    parts = [type(batch)(*(x[cut] for x in batch)) for cut in cuts]
    pairs = [draw_pairs(part, generator(seed)) for seed, part in enumerate(parts)]
    output = random_output(batch, form)
    logits = (output.action_logits_BLA, output.reward_logits_BLO)

    # The whole batch with the same pairs, each of which is within its part.
    partner_B = torch.cat([cut.start + pairs_of_part for cut, pairs_of_part in zip(cuts, pairs, strict=True)])
    losses = total_loss(output, batch, LossConfig(mu=0.3), REWARD_FORMS[form], partner_B)
    expected_gradients = torch.autograd.grad(losses.total, logits, retain_graph=True)

    counts = [label_counts(part, partners, REWARD_FORMS[form]) for part, partners in zip(parts, pairs, strict=True)]
    assert len({tuple((c / c.sum().clamp_min(1)).tolist()) for c in counts}) == len(
        counts
    )  # the parts have different mixes of labels
    part_losses = []
    for cut, part, partners, count in zip(cuts, parts, pairs, counts, strict=True):
        part_output = Output(logits[0][cut], logits[1][cut], output.causal_state_BLD[cut])
        share = count / sum(counts).clamp_min(1)
        part_losses.append(total_loss(part_output, part, LossConfig(mu=0.3), REWARD_FORMS[form], partners, share))
    torch.testing.assert_close(sum(loss.flat() for loss in part_losses), losses.flat())
    gradients = torch.autograd.grad(sum(loss.total for loss in part_losses), logits)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected)


# Losses of one seed: a refactor must reproduce them. In order: total, policy, reward (mean), dpo.
GOLDEN = {
    "binary": [2.287537, 1.217462, 1.305734, 0.689726],
    "continuous": [2.19263, 1.217462, 0.119393, 0.689726],
    "fused": [2.19263, 1.217462, 0.119393, 0.689726],
    "onehot": [2.271185, 1.217462, 1.10134, 0.689726],
    "w/o CausalState": [2.557576, 1.518928, 0.702338, 0.701757],
    "w/o CausalAttn": [2.222264, 1.196019, 0.72854, 0.691401],
    "w/o Add&Norm": [2.167279, 1.095037, 1.305734, 0.691273],
}


def golden_losses(name: str) -> list[float]:
    torch.manual_seed(7)
    model, batch = Network(VARIANTS[name], SIZES), random_batch(windows=16, seed=7)
    losses = total_loss(model(batch), batch, LossConfig(), model.form, draw_pairs(batch, generator(7)))
    return [x.mean().item() for x in losses]


@pytest.mark.parametrize("name", VARIANTS)
def test_golden_losses(name):
    assert golden_losses(name) == pytest.approx(GOLDEN[name], abs=1e-5)


@pytest.mark.slow
def test_a_small_model_overfits_64_windows():
    torch.manual_seed(0)
    batch = random_batch(windows=64)
    model = Network(ModelConfig(hidden=96, dropout=0.0, steps=9), SIZES)
    optimiser, pairs = torch.optim.Adam(model.parameters(), lr=1e-3), generator()
    policy = []
    for _ in range(100):
        losses = total_loss(model(batch), batch, LossConfig(dpo_weight=0.0), model.form, draw_pairs(batch, pairs))
        optimiser.zero_grad()
        losses.total.backward()
        optimiser.step()
        policy.append(losses.policy.item())
    assert policy[0] > 0.9
    assert policy[-1] < 0.05
