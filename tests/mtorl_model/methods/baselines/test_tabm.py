"""TabM: the equations of its submodels, the loss of each of them, and their average."""

import numpy as np
import pytest
import torch
from random_batch import SIZES, random_batch
from synthetic import make_spec
from torch import Tensor

from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.methods.baselines.shared.step_logits import StepLogits
from mtorl_model.methods.common.embedding import step_inputs
from schemas.dataset import get_dataset

pytest.importorskip("tabm", reason="tabm is not installed: pip install -r requirements-rivals.txt")

from mtorl_model.methods.baselines.tabm import TabM, TabMConfig, TabMNetwork

SUBMODELS = 3
CONFIG = TabMConfig(hidden=8, layers=2, dropout=0.0, submodels=SUBMODELS)
SPEC = make_spec(get_dataset("kuairand"), "2022-04-10", "2022-04-11")
METHOD = TabM(CONFIG, SPEC, InitialPolicy(SPEC.channels, (1 / 3,) * 3, {}, (1 / 3,) * 3))


@pytest.fixture
def network() -> TabMNetwork:
    """All weights are random, so that no factor is 1 and no bias is 0."""
    torch.manual_seed(0)
    network = TabMNetwork(CONFIG, SIZES)
    with torch.no_grad():
        for weight in network.layers.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.5)
    return network


def by_hand(network: TabMNetwork, submodel: int) -> Tensor:
    """The outputs of a submodel by the equations of the module, (B, L, A + G)."""
    x_BLE = step_inputs(random_batch(), network.embedding)
    weights = {name: weight for name, weight in network.layers.named_parameters() if name.startswith("1.")}
    for block in range(CONFIG.layers):
        part = f"1.blocks.{block}.0"
        r_E, s_D, bias_D = (weights[f"{part}.{name}"][submodel] for name in ("r", "s", "bias"))
        x_BLE = torch.relu(s_D * ((r_E * x_BLE) @ weights[f"{part}.weight"].T) + bias_D)
    last = network.layers[2]
    return x_BLE @ last.weight[submodel] + last.bias[submodel]


def test_each_submodel_follows_the_equations(network: TabMNetwork) -> None:
    logits_SBLO = torch.cat(network.train()(random_batch()), dim=-1)
    assert len(logits_SBLO) == SUBMODELS
    for submodel, logits_BLO in enumerate(logits_SBLO):
        torch.testing.assert_close(logits_BLO, by_hand(network, submodel))


def test_at_the_start_submodels_differ_by_the_sign_of_an_input_and_by_the_last_layer() -> None:
    torch.manual_seed(0)
    weights = dict(TabMNetwork(CONFIG, SIZES).layers.named_parameters())
    first_SE = weights["1.blocks.0.0.r"]
    assert set(first_SE.unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(first_SE[0], first_SE[1])
    vector_E = first_SE[:, SIZES.actions + SIZES.reward_inputs + SIZES.numeric :][:, :4]
    assert torch.equal(vector_E, vector_E[:, :1].expand_as(vector_E))  # one sign for a category's vector
    for name in ("1.blocks.0.0.s", "1.blocks.1.0.r", "1.blocks.1.0.s"):
        assert (weights[name] == 1).all()


def test_the_average_is_of_probabilities(network: TabMNetwork) -> None:
    batch = random_batch()
    with torch.no_grad():
        channel_SBLA, gains_SBLG = network.train()(batch)
        prediction = METHOD.predict_with(network.eval(), batch)
    policy_BLA, gains_BLG = prediction.policy_and_gains
    np.testing.assert_allclose(policy_BLA, channel_SBLA.softmax(dim=-1).mean(dim=0), atol=1e-6)
    np.testing.assert_allclose(gains_BLG, gains_SBLG.sigmoid().mean(dim=0), atol=1e-6)


def test_a_training_step_has_the_mean_of_the_submodels_losses_and_validation_the_loss_of_the_average(
    network: TabMNetwork,
) -> None:
    batch = random_batch()
    single_objective, objective = super(TabM, METHOD).objective(), METHOD.objective()
    drawn = torch.empty(0)
    logits = network.train()(batch)
    single = [
        single_objective.losses(StepLogits(*(x[s] for x in logits)), batch, drawn, None)[0] for s in range(SUBMODELS)
    ]
    torch.testing.assert_close(objective.losses(logits, batch, drawn, None)[0], torch.stack(single).mean())
    average = network.eval()(batch)
    expected = single_objective.validation_losses(StepLogits(*(x[0] for x in average)), batch)
    torch.testing.assert_close(objective.validation_losses(average, batch), expected)
    assert expected.sum() < torch.stack(single).mean()  # by Jensen's inequality
