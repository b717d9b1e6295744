"""The multi-task networks: formulas, sharing, and equality with torch-rechub, if it is installed."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from mtorl_model.methods.common.multitask import (
    NETWORKS,
    CandidateSizes,
    MultiTaskNetwork,
    NetworkConfig,
    build_network,
)
from schemas.errors import UserError

SIZES = CandidateSizes((5, 7, 4), 0, 2)
SMALL = {"embedding": 6, "bottom": (12, 8), "tower": (6, 4), "experts": 4, "dropout": 0.0}

every_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network_of(name: str, sizes: CandidateSizes = SIZES, **settings: object) -> MultiTaskNetwork:
    return build_network(NetworkConfig(network=name, **{**SMALL, **settings}), sizes)


def codes(rows: int) -> Tensor:
    return torch.stack([torch.randint(0, size, (rows,)) for size in SIZES.vocabulary], dim=1)


@every_network
@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_outputs_are_probabilities_of_each_task_and_all_weights_learn(name: str, tasks: int) -> None:
    network = network_of(name, CandidateSizes((5, 7, 4), 3, tasks)).train()
    p_NT = network(codes(64), torch.randn(64, 3))
    assert p_NT.shape == (64, tasks)
    assert ((p_NT > 0) & (p_NT < 1)).all()
    nn.functional.binary_cross_entropy(p_NT, (torch.rand(64, tasks) < 0.5).float()).backward()
    assert [key for key, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@every_network
def test_a_row_does_not_depend_on_the_others_outside_of_training(name: str) -> None:
    network, codes_NK, numbers_NF = network_of(name).eval(), codes(9), torch.zeros(9, 0)
    torch.testing.assert_close(network(codes_NK, numbers_NF)[4:5], network(codes_NK[4:5], numbers_NF[4:5]))


def test_esmm_never_gives_a_task_a_higher_probability_than_the_task_before_it() -> None:
    network = network_of("esmm", SIZES._replace(tasks=3)).eval()
    p_NT = network(codes(200), torch.zeros(200, 0))
    assert all((later <= earlier).all() for earlier, later in pairwise(p_NT.unbind(1)))


def test_single_tasks_share_no_weight() -> None:
    network = network_of("single")
    codes_NK, numbers_NF = codes(32), torch.zeros(32, 0)
    used = []
    for task in range(2):
        network.zero_grad()
        network(codes_NK, numbers_NF)[:, task].sum().backward()
        used.append({key for key, w in network.named_parameters() if w.grad is not None and w.grad.any()})
    assert used[0]
    assert used[0] & used[1] == set()


def test_experts_of_ple_are_shared_or_of_one_task() -> None:
    network = network_of("ple")
    network(codes(32), torch.zeros(32, 0))[:, 0].sum().backward()
    learns = [
        any(weight.grad is not None and weight.grad.any() for weight in expert.parameters())
        for expert in network.extractions[0].experts
    ]
    assert learns == [True, True, False, False, True, True]  # of the task, of the other task, shared


def test_hidden_categories_and_unknown_names_are_checked() -> None:
    with pytest.raises(UserError, match="unknown network 'deep': choose one of single, shared, esmm"):
        NetworkConfig(network="deep")
    with pytest.raises(UserError, match="experts is 0, must be at least 1"):
        NetworkConfig(experts=0)
    config = NetworkConfig(bottom=(9, 3))
    assert NetworkConfig.from_json(config.to_json()) == config


# torch-rechub has BatchNorm in its gates, too; its weights are folded into the linear layer of ours.


def _copy_layers(layers: nn.Sequential, reference: nn.Module) -> None:
    layers.load_state_dict({key.removeprefix("mlp."): w for key, w in reference.state_dict().items()})


def _copy_gate(gate: nn.Module, reference: nn.Module) -> None:
    linear, norm = reference.mlp[0], reference.mlp[1]
    scale_X = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        gate.linear.weight.copy_(linear.weight * scale_X[:, None])
        gate.linear.bias.copy_((linear.bias - norm.running_mean) * scale_X + norm.bias)


def _spread(model: nn.Module) -> nn.Module:
    """The model with random statistics in its BatchNorm layers, and larger weights, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.normal_(std=0.3)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.6, 1.5)
        if isinstance(module, nn.Embedding | nn.Linear):
            module.weight.data.normal_(std=1.5 / module.weight.shape[-1] ** 0.5)
    return model.eval()


def _reference(name: str, rechub: object, features: Sequence[object], towers: list[dict[str, object]]) -> nn.Module:
    kinds, bottom = ["classification"] * 2, {"dims": [12, 8], "activation": "relu", "dropout": 0.0}
    if name == "shared":
        return rechub.SharedBottom(features, kinds, bottom, towers)
    if name == "mmoe":
        return rechub.MMOE(features, kinds, 4, bottom, towers)
    if name == "ple":
        return rechub.PLE(features, kinds, 2, 2, 2, bottom, towers)
    if name == "aitm":
        return rechub.AITM(features, 2, bottom, towers)
    layers = {"dims": [12, 8, 6, 4], "activation": "relu", "dropout": 0.0}
    return rechub.ESMM(features[:1], features[1:], layers, layers)


def _copy(name: str, network: MultiTaskNetwork, reference: nn.Module) -> None:
    for table, feature in zip(network.inputs.embedding.tables, ("a", "b", "c"), strict=True):
        table.load_state_dict(reference.embedding.embed_dict[feature].state_dict())
    if name == "esmm":
        _copy_layers(network.towers[0], reference.tower_ctr)
        _copy_layers(network.towers[1], reference.tower_cvr)
        return
    for tower, expected in zip(network.towers, reference.towers, strict=True):
        _copy_layers(tower, expected)
    if name == "shared":
        _copy_layers(network.bottom, reference.bottom_mlp)
    if name == "mmoe":
        for expert, expected in zip(network.experts, reference.experts, strict=True):
            _copy_layers(expert, expected)
        for gate, expected in zip(network.gates, reference.gates, strict=True):
            _copy_gate(gate, expected)
    if name == "ple":
        for level, expected in zip(network.extractions, reference.cgc_layers, strict=True):
            for expert, layers in zip(
                level.experts, [*expected.experts_specific, *expected.experts_shared], strict=True
            ):
                _copy_layers(expert, layers)
            for gate, layers in zip(level.gates, expected.gates_specific, strict=True):
                _copy_gate(gate, layers)
            if level.shared_gate is not None:
                _copy_gate(level.shared_gate, expected.gate_shared)
    if name == "aitm":
        for bottom, expected in zip(network.bottoms, reference.bottoms, strict=True):
            _copy_layers(bottom, expected)
        transfer, attention = network.transfers[0], reference.aits[0]
        for linear, expected in ((transfer.query, attention.q_layer), (transfer.key, attention.k_layer)):
            linear.load_state_dict(expected.state_dict())
        transfer.value.load_state_dict(attention.v_layer.state_dict())
        passed, norm = reference.info_gates[0].mlp[0], reference.info_gates[0].mlp[1]
        scale_D = norm.weight / (norm.running_var + norm.eps).sqrt()
        with torch.no_grad():
            transfer.passed_on[0].weight.copy_(passed.weight * scale_D[:, None])
            transfer.passed_on[0].bias.copy_((passed.bias - norm.running_mean) * scale_D + norm.bias)


@pytest.mark.parametrize("name", ["shared", "esmm", "mmoe", "ple", "aitm"])
def test_outputs_equal_those_of_torch_rechub_with_copied_weights(name: str) -> None:
    rechub = pytest.importorskip(
        "torch_rechub.models.multi_task", reason="torch-rechub is not installed: it is in requirements-bench.txt"
    )
    from torch_rechub.basic.features import SparseFeature

    features = [
        SparseFeature(feature, vocab_size=size, embed_dim=6)
        for feature, size in zip("abc", SIZES.vocabulary, strict=True)
    ]
    towers = [{"dims": [6, 4], "activation": "relu", "dropout": 0.0}] * 2
    reference = _spread(_reference(name, rechub, features, towers))
    network = network_of(name, levels=2).eval()
    _copy(name, network, reference)
    codes_NK = codes(300)
    expected_NT = reference(dict(zip("abc", codes_NK.unbind(1), strict=True)))
    if name == "esmm":
        expected_NT = expected_NT[:, 1:]  # its first output is p(conversion | click)
    p_NT = network(codes_NK, torch.zeros(300, 0))
    assert p_NT.std(dim=0).min() > 0.02
    torch.testing.assert_close(p_NT, expected_NT, atol=1e-6, rtol=1e-5)
