"""Methods that predict a logit of every channel and every gain at each step.

Shapes as in data/batch.py.
"""

from typing import NamedTuple

from torch import Tensor, nn

from mtorl_model.data.batch import Batch
from mtorl_model.methods.baselines.shared.loss_sum import LossSum, channel_part, gain_parts
from mtorl_model.methods.baselines.shared.network_method import NetworkMethod, array_of, policy_of
from mtorl_model.methods.method import GAINS, POLICY, Prediction


class StepLogits(NamedTuple):
    """The logits of channels and gains at every step."""

    channel_BLA: Tensor
    gains_BLG: Tensor


class StepLogitsMethod(NetworkMethod):
    """A method whose network returns StepLogits."""

    predicts = frozenset({POLICY, GAINS})

    def objective(self) -> LossSum:
        gains = gain_parts(self.spec.gains, lambda output, batch: output.gains_BLG)
        return LossSum(channel_part(lambda output: output.channel_BLA), *gains)

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        logits: StepLogits = network(batch)
        return Prediction(policy_of(logits.channel_BLA), array_of(logits.gains_BLG.sigmoid()))
