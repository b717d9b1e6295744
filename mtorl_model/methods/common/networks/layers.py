"""The blocks that the network is composed of. No block reads later steps or padding.

Shapes: B windows, L steps (oldest first), K categorical inputs, E embedded size, D hidden size,
H attention heads. valid_BL is boolean, True = real. Outputs at padding are finite and unspecified.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm


def linear(inputs: int, outputs: int, *, bias: bool = True, gain: str = "linear") -> nn.Linear:
    """A linear layer with Gaussian weights (section 4.1.3) that keep the variance; `gain`: the activation after it."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.kaiming_normal_(layer.weight, a=0.01, nonlinearity=gain)  # type: ignore[arg-type]
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def leaky_linear(inputs: int, outputs: int) -> nn.Sequential:
    """LeakyReLU(W x + b), the layer of equations 6, 8 and 12."""
    return nn.Sequential(linear(inputs, outputs, gain="leaky_relu"), nn.LeakyReLU())


class CausalConvBlock(nn.Module):
    """Equation 5: a residual dilated convolution; step t reads t, t - dilation, ..., t - left_pad, never later.

    The index in the paper prints t - d_c - i; a dilated convolution reads t - d_c i. The normalisation is that
    of the weights, as the paper cites it (reference 63).
    """

    def __init__(self, hidden: int, *, kernel_size: int, dilation: int, dropout: float):
        super().__init__()
        self.left_pad = (kernel_size - 1) * dilation
        conv = nn.Conv1d(hidden, hidden, kernel_size, dilation=dilation)
        nn.init.kaiming_normal_(conv.weight, a=0.01, nonlinearity="leaky_relu")
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        self.conv = weight_norm(conv)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, valid_BL: Tensor) -> Tensor:
        x_BLD = x_BLD.masked_fill(~valid_BL.unsqueeze(-1), 0.0)  # padding feeds nothing
        past_BDL = F.pad(x_BLD.transpose(1, 2), (self.left_pad, 0))  # pad the past only
        h_BLD = self.conv(past_BDL).transpose(1, 2)
        out_BLD: Tensor = x_BLD + self.dropout(F.leaky_relu(h_BLD))
        return out_BLD


def attention_mask(valid_BL: Tensor) -> Tensor:
    """Which positions a query attends to, (B, 1, L, L): the real steps up to its own.

    Each position sees itself as well, so that a padded query has something to average and does not become NaN;
    for a real step that changes nothing.
    """
    steps = valid_BL.shape[1]
    past_LL = torch.ones(steps, steps, dtype=torch.bool, device=valid_BL.device).tril()
    self_LL = torch.eye(steps, dtype=torch.bool, device=valid_BL.device)
    return ((past_LL & valid_BL[:, None, :]) | self_LL).unsqueeze(1)


class CausalAttention(nn.Module):
    """Equation 7. No output projection and no position embedding: order enters through the causal states."""

    def __init__(self, hidden: int, *, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = linear(hidden, 3 * hidden, bias=False)  # W_Q, W_K, W_V in one product

    def forward(self, s_BLD: Tensor, valid_BL: Tensor) -> Tensor:
        s_BLD = s_BLD.masked_fill(~valid_BL.unsqueeze(-1), 0.0)  # a weight of 0 does not stop NaN; this does
        q_BHLd, k_BHLd, v_BHLd = (
            x_BLD.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x_BLD in self.qkv(s_BLD).chunk(3, dim=-1)
        )
        # Published code, fault 3: dropout falls on the scores after masking, in evaluation too, and turns
        # masked scores into zeros that see the future. Here it falls on the weights after the softmax,
        # where a masked step has weight 0, and in training only.
        a_BHLd = F.scaled_dot_product_attention(
            q_BHLd,
            k_BHLd,
            v_BHLd,
            attn_mask=attention_mask(valid_BL),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return a_BHLd.transpose(1, 2).flatten(-2)

    def last(self, s_BLD: Tensor, valid_BL: Tensor) -> Tensor:
        """The output of `forward` at the last step, (B, D), without projecting the other steps.

        q (W_K s) is (q W_K) s, and a weighted mean of W_V s is W_V of the weighted mean of s: both matrices are applied
        once a window. The last step is taken for real. Without dropout.
        """
        s_BLD = s_BLD.masked_fill(~valid_BL.unsqueeze(-1), 0.0)
        q_HdD, k_HdD, v_HdD = self.qkv.weight.view(3, self.heads, -1, s_BLD.shape[-1])
        q_BHd = torch.einsum("bD,hdD->bhd", s_BLD[:, -1], q_HdD)
        score_BHL = torch.einsum("bhd,hdD->bhD", q_BHd, k_HdD) @ s_BLD.mT / math.sqrt(q_BHd.shape[-1])
        seen_B1L = valid_BL[:, None].clone()
        seen_B1L[..., -1] = True  # as in attention_mask
        weight_BHL = score_BHL.masked_fill(~seen_B1L, -torch.inf).softmax(dim=-1)
        return torch.einsum("bhD,hdD->bhd", weight_BHL @ s_BLD, v_HdD).flatten(-2)


class AddNorm(nn.Module):
    """One layer of equation 8: M' = LayerNorm(M + Dropout(LeakyReLU(W M + B))).

    Published code, fault 5: one linear layer serves all of these and the reward head. Here each has its own.
    """

    def __init__(self, hidden: int, *, dropout: float):
        super().__init__()
        self.inner = leaky_linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, m_BLD: Tensor) -> Tensor:
        out_BLD: Tensor = self.norm(m_BLD + self.dropout(self.inner(m_BLD)))
        return out_BLD


class RewardDecoder(nn.Module):
    """Equation 12 before its activation f: separate layers on the causal states, then one linear layer.

    It does not read the attention: that may exaggerate noise (section 3.5). Published code, fault 5: one
    shared layer instead of L3 separate ones.
    """

    def __init__(self, hidden: int, outputs: int, *, layers: int):
        super().__init__()
        self.layers = nn.Sequential(*(leaky_linear(hidden, hidden) for _ in range(layers)))
        self.out = linear(hidden, outputs)

    def forward(self, s_BLD: Tensor) -> Tensor:
        logits: Tensor = self.out(self.layers(s_BLD))
        return logits
