"""Wide & Deep and DIN equal torch-rechub's with copied weights.

Its layers have BatchNorm, which is folded into our linear layers; its Dice normalises over the units of one row, where
the paper has the mean and variance of the batch, so for the comparison our networks get its Dice.
"""

import pytest
import torch
from random_batch import random_batch
from torch import Tensor, nn

from mtorl_model.data.batch import Batch, InputSizes
from mtorl_model.methods.baselines.din import DINConfig, DINNetwork
from mtorl_model.methods.baselines.shared.config import NetworkConfig
from mtorl_model.methods.baselines.wide_and_deep import WideAndDeepNetwork

models = pytest.importorskip(
    "torch_rechub.models.ranking", reason="torch-rechub is not installed: pip install -r requirements-bench.txt"
)
from torch_rechub.basic.activation import Dice as RowDice  # noqa: E402
from torch_rechub.basic.features import DenseFeature, SequenceFeature, SparseFeature  # noqa: E402

VOCABULARY, WIDTHS = (5, 3), (4, 3)  # of the categories; numbers of their vectors
NUMBERS = 2


def full_batch(sizes: InputSizes) -> Batch:
    """Windows without padding."""
    batch = random_batch(16, 6, sizes=sizes)
    codes = [torch.randint(size, (16, 6)) for size in sizes.vocabulary]
    return batch._replace(
        valid_BL=torch.ones(16, 6, dtype=torch.bool),
        categorical_BLK=torch.stack(codes, dim=-1),
        numeric_BLF=torch.randn(16, 6, sizes.numeric),
        action_in_BLA=torch.randint(2, (16, 6, sizes.actions)).float(),
        reward_in_BLR=torch.rand(16, 6, sizes.reward_inputs),
    )


def spread(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with vectors of ordinary size: reference start at 1e-4 and would show nothing."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.weight.data.normal_()
    return model.eval()


def copy_linear(
    network: nn.Linear, reference: nn.Linear, norm: nn.BatchNorm1d | None, columns: Tensor | None = None
) -> None:
    """columns: for each input of the reference, the index of ours; None: the same. Our further inputs get weight 0."""
    scale = torch.ones(len(reference.weight)) if norm is None else norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        network.weight.zero_()
        network.weight[:, slice(None) if columns is None else columns] = reference.weight * scale[:, None]
        if network.bias is not None:
            network.bias.copy_(
                reference.bias * scale if norm is None else (reference.bias - norm.running_mean) * scale + norm.bias
            )


@torch.no_grad()
def test_wide_and_deep() -> None:
    torch.manual_seed(0)
    vocabulary, d = (5, 5), 4  # all of their vectors have the same size
    sizes = InputSizes(vocabulary, NUMBERS, actions=1, reward_inputs=1, gains=0)
    batch = full_batch(sizes)
    # Their order: vectors of categories, then numbers. Ours: a_{t-1}, r_{t-1}, numbers, vectors.
    names = ["action", "reward", "n0", "n1"]
    wide = [SparseFeature(f"wide{k}", 2 * size, embed_dim=1) for k, size in enumerate(vocabulary)]
    deep = [SparseFeature(f"c{k}", size, embed_dim=d) for k, size in enumerate(vocabulary)]
    dense = [DenseFeature(name) for name in names]
    mlp_params = {"dims": [8, 6], "dropout": 0.0, "activation": "leakyrelu"}
    reference = spread(models.WideDeep(wide, deep + dense, mlp_params))
    network = WideAndDeepNetwork(NetworkConfig(hidden=8), sizes).eval()
    first, second, _ = (network.deep.layers[k] for k in (0, 2, 4))
    second[0], network.deep.layers[4] = nn.Linear(8, 6), nn.Linear(6, 1)
    out = network.deep.layers[4]
    numbers = len(names)
    columns = torch.tensor([*range(numbers, numbers + 2 * d), *range(numbers)])
    copy_linear(first[0], reference.mlp.mlp[0], reference.mlp.mlp[1], columns)
    copy_linear(second[0], reference.mlp.mlp[4], reference.mlp.mlp[5])
    copy_linear(out, reference.mlp.mlp[8], None)
    out.bias += reference.linear.fc.bias
    for k in range(2):
        network.deep.embedding.tables[k].weight.copy_(reference.embedding.embed_dict[f"c{k}"].weight)
        weight = reference.linear.fc.weight[0, k]
        network.wide[k].weight.copy_(reference.embedding.embed_dict[f"wide{k}"].weight * weight)
    last = slice(None), -1
    previous_B = batch.action_in_BLA[last][:, 0].long()
    code_BK = batch.categorical_BLK[last]
    inputs = {f"wide{k}": previous_B * vocabulary[k] + code_BK[:, k] for k in range(2)}
    inputs |= {f"c{k}": code_BK[:, k] for k in range(2)}
    number_BX = torch.cat([batch.action_in_BLA[last], batch.reward_in_BLR[last], batch.numeric_BLF[last]], dim=-1)
    inputs |= dict(zip(names, number_BX.T, strict=True))
    p_B = network(batch).channel_BLA[:, -1, 0].sigmoid()
    torch.testing.assert_close(p_B, reference(inputs), atol=1e-5, rtol=1e-5)
    assert p_B.std() > 1e-3


class TheirDice(nn.Module):
    """torch-rechub's Dice with the interface of network."""

    def __init__(self, dice: RowDice):
        super().__init__()
        self.dice = dice

    def forward(self, x_XD: Tensor, counted_X: Tensor) -> Tensor:
        return self.dice(x_XD.reshape(-1, x_XD.shape[-1])).reshape(x_XD.shape)


@torch.no_grad()
def test_deep_interest_network() -> None:
    torch.manual_seed(0)
    d, channels = WIDTHS[0], 3
    sizes = InputSizes(VOCABULARY, NUMBERS, actions=channels, reward_inputs=1, gains=0)
    batch = full_batch(sizes)
    reference = spread(
        models.DIN(
            features=[SparseFeature("c1", VOCABULARY[1], embed_dim=WIDTHS[1])],
            history_features=[SequenceFeature("history", VOCABULARY[0], embed_dim=d, pooling="concat")],
            target_features=[SparseFeature("channel", channels, embed_dim=d)],
            mlp_params={"dims": [8, 8], "dropout": 0.0},
            attention_mlp_params={"dims": [7]},
        )
    )
    network = DINNetwork(DINConfig(hidden=8, behaviour=d, unit=7, dropout=0.0), sizes).eval()
    tables = reference.embedding.embed_dict
    for k, name in enumerate(("history", "c1")):
        network.embedding.tables[k].weight.copy_(tables[name].weight)
    network.channels.weight.copy_(tables["channel"].weight)
    first_vector = channels + 1 + NUMBERS  # index of the first number of a vector
    network.behaviour.weight.zero_()
    network.behaviour.weight[:, first_vector : first_vector + d] = torch.eye(d)
    # Their activation unit reads v, e, v - e, v * e; network e, v, e - v, e * v.
    unit, mlp = reference.attention_layers[0].attention.mlp, reference.mlp.mlp
    order = torch.cat([torch.arange(d, 2 * d), torch.arange(d), torch.arange(2 * d, 4 * d)])
    copy_linear(network.unit[0], unit[0], unit[1], order)
    network.unit[0].weight[:, 2 * d : 3 * d] *= -1.0
    copy_linear(network.unit[1], unit[4], None)
    network.unit_activation = TheirDice(unit[2])
    scale = mlp[1].weight / (mlp[1].running_var + mlp[1].eps).sqrt()
    network.interest.weight.copy_(mlp[0].weight[:, : 2 * d] * scale[:, None])
    network.context.weight.zero_()
    network.context.weight[:, first_vector + d :] = mlp[0].weight[:, 2 * d :] * scale[:, None]
    network.context.bias.copy_((mlp[0].bias - mlp[1].running_mean) * scale + mlp[1].bias)
    copy_linear(network.layers[0], mlp[4], mlp[5])
    copy_linear(network.out, mlp[8], None)
    network.activations = nn.ModuleList([TheirDice(mlp[2]), TheirDice(mlp[6])])
    p_BA = network(batch).channel_BLA[:, -1].sigmoid()
    for channel in range(channels):
        inputs = {
            "c1": batch.categorical_BLK[:, -1, 1],
            "history": batch.categorical_BLK[..., 0],
            "channel": torch.full((16,), channel),
        }
        torch.testing.assert_close(p_BA[:, channel], reference(inputs), atol=1e-5, rtol=1e-5)
    assert p_BA.std(dim=1).min() > 1e-4
