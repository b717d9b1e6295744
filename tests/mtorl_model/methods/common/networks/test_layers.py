import math

import numpy as np
import pytest
import torch

from mtorl_model.methods.common.networks.layers import (
    AddNorm,
    CausalAttention,
    CausalConvBlock,
    RewardDecoder,
    attention_mask,
    linear,
)

ALL_REAL_BL = torch.ones(2, 9, dtype=torch.bool)
LEFT_PADDED_BL = torch.arange(9) >= torch.tensor([[0], [4]])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def reached(block: torch.nn.Module, valid_BL: torch.Tensor, window: int, step: int) -> list[int]:
    """The steps from which a gradient arrives at `step` of `window`."""
    x_BLD = torch.randn(*valid_BL.shape, 4, requires_grad=True)
    block(x_BLD, valid_BL)[window, step].square().sum().backward()
    return (x_BLD.grad.abs().sum(dim=-1)[window] > 0).nonzero().flatten().tolist()


def test_convolution_reads_its_taps_and_no_later_step():
    block = CausalConvBlock(4, kernel_size=3, dilation=2, dropout=0.0)
    assert reached(block, ALL_REAL_BL, window=0, step=5) == [1, 3, 5]


def test_convolution_reads_no_padding():
    block = CausalConvBlock(4, kernel_size=3, dilation=1, dropout=0.0)
    assert reached(block, LEFT_PADDED_BL, window=1, step=5) == [4, 5]


def test_convolution_equals_equation_5_step_by_step():
    block = CausalConvBlock(4, kernel_size=3, dilation=2, dropout=0.0)
    with torch.no_grad():
        block.conv.bias.normal_()
    x_BLD = torch.randn(2, 9, 4)
    output = block(x_BLD, LEFT_PADDED_BL).detach().numpy()
    tap_ODk, bias_O = block.conv.weight.detach().numpy(), block.conv.bias.detach().numpy()
    x = x_BLD.numpy()
    for b, start in enumerate((0, 4)):
        for t in range(start, 9):
            taps = [tap_ODk[:, :, 2 - i] @ x[b, t - 2 * i] for i in range(3) if t - 2 * i >= start]
            np.testing.assert_allclose(output[b, t], x[b, t] + leaky(sum(taps) + bias_O), atol=1e-5)


def test_convolution_weight_is_normalised():
    conv = CausalConvBlock(4, kernel_size=3, dilation=1, dropout=0.0).conv
    length_O = conv.parametrizations.weight.original0.detach().flatten()
    torch.testing.assert_close(conv.weight.detach().flatten(1).norm(dim=1), length_O)
    with torch.no_grad():
        conv.parametrizations.weight.original1.mul_(7.0)  # the direction's length does not matter
    torch.testing.assert_close(conv.weight.detach().flatten(1).norm(dim=1), length_O)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_equals_an_explicit_softmax(heads):
    attention = CausalAttention(4, heads=heads, dropout=0.3).eval()  # evaluation must ignore dropout
    s_BLD = torch.randn(2, 9, 4)
    output = attention(s_BLD, LEFT_PADDED_BL).detach().numpy()
    w_q, w_k, w_v = np.split(attention.qkv.weight.detach().numpy(), 3)
    s, size = s_BLD.numpy(), 4 // heads
    for b, start in enumerate((0, 4)):
        for t in range(start, 9):
            past = s[b, start : t + 1]
            for h in range(heads):
                head = slice(h * size, (h + 1) * size)
                score = (past @ w_k[head].T) @ (w_q[head] @ s[b, t]) / math.sqrt(size)
                weight = np.exp(score - score.max())
                expected = (weight / weight.sum()) @ (past @ w_v[head].T)
                np.testing.assert_allclose(output[b, t, head], expected, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_attention_reads_the_whole_real_past_and_no_later_step(dropout):
    attention = CausalAttention(
        4, heads=1, dropout=dropout
    )  # in training mode, where dropout must not reveal later steps
    seen = {step for _ in range(20) for step in reached(attention, LEFT_PADDED_BL, window=1, step=6)}
    assert seen == {4, 5, 6}


def test_attention_mask_lets_a_padding_step_read_only_itself():
    mask = attention_mask(torch.tensor([[False, False, True, True]]))
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("block", [CausalAttention(4, heads=2, dropout=0.0), 
                                   CausalConvBlock(4, kernel_size=3, dilation=1, dropout=0.0)])  # fmt: skip
def test_padding_of_nan_stays_out_of_values_and_gradients(block):
    x_BLD = torch.randn(2, 9, 4).masked_fill(~LEFT_PADDED_BL.unsqueeze(-1), float("nan")).requires_grad_()
    out_BLD = block(x_BLD, LEFT_PADDED_BL)
    out_BLD.sum().backward()
    assert out_BLD.isfinite().all()
    assert x_BLD.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in block.parameters())


def test_add_norm_equals_equation_8():
    layer = AddNorm(4, dropout=0.0)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_()
    m_BLD = torch.randn(2, 3, 4)
    m, w, b = m_BLD.numpy(), layer.inner[0].weight.detach().numpy(), layer.inner[0].bias.detach().numpy()
    x = m + leaky(m @ w.T + b)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    expected = x * layer.norm.weight.detach().numpy() + layer.norm.bias.detach().numpy()
    np.testing.assert_allclose(layer(m_BLD).detach().numpy(), expected, atol=1e-5)


def test_add_norm_drops_the_inner_layer_and_never_the_residual():
    layer = AddNorm(64, dropout=0.5)
    layer.norm = torch.nn.Identity()
    with torch.no_grad():
        layer.inner[0].weight.zero_()
        layer.inner[0].bias.fill_(3.0)
    m_D = torch.randn(64)
    assert {round(v, 3) for v in (layer(m_D) - m_D).tolist()} == {0.0, 6.0}  # dropped, or kept and doubled
    assert {round(v, 3) for v in (layer.eval()(m_D) - m_D).tolist()} == {3.0}


def test_reward_decoder_equals_equation_12():
    decoder = RewardDecoder(4, 2, layers=3)
    x = torch.randn(5, 4)
    expected = x.numpy()
    for layer in decoder.layers:
        expected = leaky(expected @ layer[0].weight.detach().numpy().T + layer[0].bias.detach().numpy())
    expected = expected @ decoder.out.weight.detach().numpy().T + decoder.out.bias.detach().numpy()
    np.testing.assert_allclose(decoder(x).detach().numpy(), expected, atol=1e-5)
    assert len({p.data_ptr() for p in decoder.parameters()}) == 2 * 4  # three layers and a head, none shared


def test_linear_keeps_the_variance():
    y = linear(400, 100)(torch.randn(500, 400))
    assert 0.9 < y.var().item() < 1.1
