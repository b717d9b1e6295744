"""Wide & Deep (Cheng et al., DLRS 2016): a linear model of crossed categories added to a network.

    logit = w_wide . cross(x) + MLP(embedding(x))        (equation 3 of the paper)

A softmax over the logits of the channels gives the policy, a sigmoid gives each gain. The loss is the cross-entropy of
the channel and that of the gains. Each step is predicted from its own inputs.

Departures: the cross-products are those of the previous channel with every category, in place of products that an
engineer selects (the paper crosses installed and shown apps); both parts are trained by Adam, in place of FTRL and
AdaGrad.
"""

import torch
from torch import nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.shared.step_logits import StepLogits, StepLogitsMethod
from mtorl_model.methods.baselines.shared.step_network import StepNetwork


class WideAndDeepNetwork(nn.Module):
    """The sum of the wide and the deep part."""

    def __init__(self, config: NetworkConfig, sizes: InputSizes):
        super().__init__()
        self.actions, outputs = sizes.actions, sizes.actions + sizes.gains
        self.vocabulary = sizes.vocabulary
        # A weight for each output, of each pair of previous channel (or none) and category.
        self.wide = nn.ModuleList(nn.Embedding((sizes.actions + 1) * size, outputs) for size in sizes.vocabulary)
        for table in self.wide:
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]
        self.deep = StepNetwork(config, sizes, outputs)

    def forward(self, batch: Batch) -> StepLogits:
        has_previous_BL = batch.valid_BL & (batch.action_in_BLA.nan_to_num() > 0).any(dim=-1)
        previous_BL = torch.where(has_previous_BL, batch.action_in_BLA.argmax(dim=-1) + 1, 0)
        codes_BLK = torch.where(batch.valid_BL.unsqueeze(-1), batch.categorical_BLK, 0)
        logits_BLO = self.deep(batch)
        for table, size, code_BL in zip(self.wide, self.vocabulary, codes_BLK.unbind(-1), strict=True):
            logits_BLO = logits_BLO + table(previous_BL * size + code_BL)
        return StepLogits(logits_BLO[..., : self.actions], logits_BLO[..., self.actions :])


@register
class WideAndDeep(StepLogitsMethod):
    """Wide & Deep."""

    name = "wide_and_deep"

    def new_network(self, sizes: InputSizes) -> WideAndDeepNetwork:
        return WideAndDeepNetwork(self.config, sizes)
