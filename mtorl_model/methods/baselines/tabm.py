"""TabM (Gorishniy et al., ICLR 2025, arXiv 2410.24210), of the authors' library: S networks that share most weights.

    x -> s_i * (W (r_i * x)) + b_i    (a layer of submodel i; W is the same for all submodels)
    F_i(x) = MLP_i(x), each with its own last layer;    p(x) = mean over i of p_i(x)

The first r_i has random signs, one for each number and category; all other r_i and s_i start at 1. The loss is the mean
over the submodels. The mean of their probabilities predicts and decides when to stop. A softmax gives the policy, a
sigmoid gives each gain. Each step is predicted from its own inputs.

Departures: categories are embedded as in the other networks, in place of one-hot inputs, and numbers are not embedded
(the paper's plain TabM).

Shapes as in data/batch.py; S submodels, E inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods import register
from mtorl_model.methods.baselines.shared.config import NetworkConfig, presets_of
from mtorl_model.methods.baselines.shared.library import library
from mtorl_model.methods.baselines.shared.loss_sum import LossSum
from mtorl_model.methods.baselines.shared.step_logits import StepLogits, StepLogitsMethod
from mtorl_model.methods.baselines.shared.submodels import average, over_submodels
from mtorl_model.methods.common.embedding import CategoricalEmbedding, embedding_size, step_inputs
from mtorl_model.methods.method import Prediction
from schemas.json_config import require

tabm = library("tabm")


@dataclass(frozen=True, slots=True)
class TabMConfig(NetworkConfig):
    submodels: int = 32  # S; k in the paper

    def __post_init__(self) -> None:
        NetworkConfig.__post_init__(self)
        require(self.submodels >= 1, f"submodels is {self.submodels}, must be at least 1")


class TabMNetwork(nn.Module):
    """Logits with a leading axis: of S submodels in training, else of length 1, of their average."""

    def __init__(self, config: TabMConfig, sizes: InputSizes):
        super().__init__()
        self.actions = sizes.actions
        self.embedding = CategoricalEmbedding(sizes.vocabulary, dropout=config.category_dropout)
        numbers = sizes.actions + sizes.reward_inputs + sizes.numeric
        widths = [1] * numbers + [embedding_size(size) for size in sizes.vocabulary]
        self.layers = nn.Sequential(
            tabm.EnsembleView(k=config.submodels),
            tabm.make_tabm_backbone(
                d_in=sum(widths), n_blocks=config.layers, d_block=config.hidden, dropout=config.dropout,
                activation="ReLU", k=config.submodels, arch_type="tabm", start_scaling_init="random-signs",
                start_scaling_init_chunks=widths,
            ),
            tabm.LinearEnsemble(config.hidden, sizes.actions + sizes.gains, k=config.submodels),
        )  # fmt: skip

    def forward(self, batch: Batch) -> StepLogits:
        x_BLE = step_inputs(batch, self.embedding)
        logits_SBLO = self.layers(x_BLE.flatten(0, 1)).float().transpose(0, 1).unflatten(1, x_BLE.shape[:2])
        logits = StepLogits(logits_SBLO[..., : self.actions], logits_SBLO[..., self.actions :])
        return logits if self.training else average(logits)


@register
class TabM(StepLogitsMethod):
    """TabM. config.train.members is the number of such networks, each of S submodels."""

    name = "tabm"
    Config = TabMConfig

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, TabMConfig]:
        """`small` has 8 submodels (of 8, 16 and 32) and the rate .003 (not .001) by Criteo's validation users."""
        presets = presets_of(TabMConfig)
        train = replace(presets["small"].train, learning_rate=3e-3)
        return {**presets, "small": replace(presets["small"], submodels=8, train=train)}

    def new_network(self, sizes: InputSizes) -> TabMNetwork:
        return TabMNetwork(self.config, sizes)

    def objective(self) -> LossSum:
        return LossSum(*map(over_submodels, super().objective().parts))

    def predict_with(self, network: nn.Module, batch: Batch) -> Prediction:
        return super().predict_with(network, batch).take(0)
