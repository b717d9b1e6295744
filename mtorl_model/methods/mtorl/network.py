"""The network of MTORL: it predicts the next channel of a user, and the reward.

Shapes: B windows, L steps (oldest first, padding on the left), K categorical inputs, F numeric inputs,
A actions (channels), G gains, D hidden size, O reward outputs (set by the reward form).
"""

from typing import NamedTuple

from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.common.embedding import CategoricalEmbedding, step_inputs
from mtorl_model.methods.common.networks.layers import (
    AddNorm,
    CausalAttention,
    CausalConvBlock,
    RewardDecoder,
    leaky_linear,
    linear,
)
from mtorl_model.methods.mtorl.config import ModelConfig


class Output(NamedTuple):
    """The outputs at every step, float32. Positions of padding hold finite, meaningless numbers.

    What reward_logits_BLO means depends on the reward form (reward_forms.py).
    """

    action_logits_BLA: Tensor
    reward_logits_BLO: Tensor
    causal_state_BLD: Tensor


class Network(nn.Module):
    """The network of figure 1a.

    The policy and the predicted reward of step t depend only on the real steps up to t of the same window: not on
    the amount or the values of the padding before them, and not on other windows.
    """

    def __init__(self, config: ModelConfig, sizes: InputSizes):
        super().__init__()
        self.config = config
        self.sizes = sizes
        d = config.hidden
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        features = sizes.actions + sizes.reward_inputs + sizes.numeric + self.embedding.size
        self.input = linear(features, d, bias=False)  # W_e
        if config.use_state_encoder:
            self.convolutions = nn.ModuleList(
                CausalConvBlock(d, kernel_size=config.kernel_size, dilation=2**layer, dropout=config.dropout)
                for layer in range(config.tcn_layers)
            )
            self.state = leaky_linear(d, d)  # equation 6
        if config.use_attention:
            self.attention = CausalAttention(d, heads=config.heads, dropout=config.dropout)
        self.add_norm = nn.Sequential(
            *(
                AddNorm(d, dropout=config.dropout)
                if config.use_addnorm
                else nn.Sequential(leaky_linear(d, d), nn.Dropout(config.dropout))
                for _ in range(config.addnorm_layers)
            )
        )
        self.action = linear(d, sizes.actions)
        self.form = config.form
        self.reward = RewardDecoder(d, self.form.outputs(sizes.gains), layers=config.reward_layers)

    def forward(self, batch: Batch) -> Output:
        state_BLD = self._causal_states(self._embed(batch), batch.valid_BL)
        attended_BLD = self.attention(state_BLD, batch.valid_BL) if self.config.use_attention else state_BLD
        return self._decode(attended_BLD, state_BLD)

    def last_step(self, batch: Batch) -> Output:
        """Like `forward`, but with the policy of the last step only: action_logits_BLA has one step.

        The layers after the attention are computed for that step only. The last step of every window must be real.
        """
        state_BLD = self._causal_states(self._embed(batch), batch.valid_BL)
        return self._decode(self._attended_last(state_BLD, batch.valid_BL).unsqueeze(1), state_BLD)

    def user_states(self, batch: Batch) -> Tensor:
        """The output of the user encoder of section 4.5, causal states and causal attention, at every step: (B, L, D).

        Like the policy, that of step t depends only on the real steps up to t.
        """
        state_BLD = self._causal_states(self._embed(batch), batch.valid_BL)
        attended_BLD: Tensor = self.attention(state_BLD, batch.valid_BL) if self.config.use_attention else state_BLD
        return attended_BLD

    def last_user_state(self, batch: Batch) -> Tensor:
        """user_states of the last step, (B, D). The last step of every window must be real."""
        return self._attended_last(self._causal_states(self._embed(batch), batch.valid_BL), batch.valid_BL)

    def _attended_last(self, state_BLD: Tensor, valid_BL: Tensor) -> Tensor:
        attended_BD: Tensor = (
            self.attention.last(state_BLD, valid_BL) if self.config.use_attention else state_BLD[:, -1]
        )
        return attended_BD

    def _decode(self, attended_BLD: Tensor, state_BLD: Tensor) -> Output:
        # Logits, not probabilities: the published code (fault 2) puts a softmax here and another in its loss.
        return Output(
            self.action(self.add_norm(attended_BLD)).float(),  # equation 9; float for the losses under autocast
            self.reward(state_BLD).float(),
            state_BLD.float(),
        )

    def _embed(self, batch: Batch) -> Tensor:
        """Equation 4: x_t = W_e concat(a_{t-1}, r_{t-1}, s_t), s_t being all that was known before step t.

        Published code, fault 6: s_t holds the outcome of step t itself. A Batch holds none in its inputs.
        """
        x_BLD: Tensor = self.input(step_inputs(batch, self.embedding))
        return x_BLD

    def _causal_states(self, x_BLD: Tensor, valid_BL: Tensor) -> Tensor:
        """Equations 5 and 6."""
        if not self.config.use_state_encoder:
            return x_BLD
        for convolution in self.convolutions:
            x_BLD = convolution(x_BLD, valid_BL)
        state_BLD: Tensor = self.state(x_BLD)
        return state_BLD

    def policy(self, output: Output) -> Tensor:
        """The probability of each channel at each step, (B, L, A) (equations 9 and 11)."""
        return output.action_logits_BLA.softmax(dim=-1)

    def predicted_gains(self, output: Output) -> Tensor:
        """How likely each gain is at each step, (B, L, G), in (0, 1); see the reward form."""
        return self.form.gains(output.reward_logits_BLO, self.sizes.gains)
