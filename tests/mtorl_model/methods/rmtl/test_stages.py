"""The stages of training and their weights: items (c), (d) and (i) of the method's list of tests."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from candidate_rows import store_of

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.session_batch import SessionBatch, session_batch, session_batches
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, NetworkConfig, build_network
from mtorl_model.methods.rmtl.config import ActorTrainConfig, CriticConfig
from mtorl_model.methods.rmtl.critics import Critics, rewards
from mtorl_model.methods.rmtl.stages import auc, loss_weights, predict, train_actor, weighted_loss
from mtorl_model.methods.rmtl.weights import WEIGHTINGS, WeightInputs, discounted_returns

SIZES = CandidateSizes((4, 3), 2, 2)
SMALL = {"critic_bottom": (16,), "critic_tower": (8,), "critic_dropout": 0.3, "action": 4}
TRAIN = ActorTrainConfig(batch_size=64, max_epochs=3, patience=3, device="cpu")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def network_of(name: str = "mmoe") -> MultiTaskNetwork:
    torch.manual_seed(0)
    return build_network(NetworkConfig(name, embedding=3, bottom=(8,), tower=(4,), experts=2, dropout=0.2), SIZES)


def random_rows(rows: int, seed: int = 0) -> CandidateStore:
    """Labels that depend on the inputs; sessions of random lengths."""
    rng = np.random.default_rng(seed)
    codes_NK = np.stack([rng.integers(0, size, rows) for size in SIZES.vocabulary], axis=1).astype(np.int32)
    numbers_NF = rng.normal(size=(rows, 2)).astype(np.float32)
    odds_N = codes_NK[:, 0] - 1.5 + numbers_NF[:, 0]
    click_N = rng.random(rows) < 1 / (1 + np.exp(-odds_N))
    second_N = click_N & (rng.random(rows) < 0.5)
    label_NT = np.stack([click_N, second_N], axis=1).astype(np.float32)
    session_N = np.cumsum(rng.random(rows) < 0.4)
    return store_of(session_N, codes_NK, numbers_NF, label_NT, SIZES.vocabulary)


def gradients(actor: MultiTaskNetwork, batch: SessionBatch, weight_of: object = None) -> dict[str, torch.Tensor]:
    """The gradients of one step in training mode, with the same dropout each time."""
    torch.manual_seed(1)
    actor.train().zero_grad()
    p_NT = actor(batch.categorical_NK, batch.numeric_NF)
    weighted_loss(p_NT, batch, weight_of(batch, p_NT.detach()) if weight_of else None).backward()
    return {name: weight.grad.clone() for name, weight in actor.named_parameters() if weight.grad is not None}


def test_a_label_that_may_still_change_costs_minus_log_of_1_minus_m_p() -> None:
    p_NT = torch.tensor([[0.2, 0.5], [0.2, 0.5], [0.3, 0.9]], requires_grad=True)
    label_NT = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    maturity_NT = torch.tensor([[0.25, 0.5], [1.0, 0.5], [0.25, 0.0]])
    batch = SessionBatch(torch.zeros(3, 0), torch.zeros(3, 0), label_NT, maturity_NT, torch.ones(3, dtype=torch.bool))
    loss = weighted_loss(p_NT, batch)
    loss.backward()
    click = -np.mean([np.log(0.2), np.log(1 - 0.2), np.log(1 - 0.25 * 0.3)])
    second = -np.log(1 - 0.5 * 0.5)  # of the two labels that are known
    assert float(loss.detach()) == pytest.approx((click + second) / 2, rel=1e-6)
    assert p_NT.grad[2, 1] == 0.0
    np.testing.assert_allclose(rewards(p_NT.detach(), batch)[:, 1], [np.log(0.75), np.log(0.75), 0.0], rtol=1e-6)


@pytest.mark.slow
def test_a_network_learns_the_rate_of_late_gains_from_the_share_that_is_known() -> None:
    """Half of the labels will be 1, and 40 % of these are known so far."""
    rng, rows = np.random.default_rng(0), 4000
    label_NT = (rng.random((rows, 2)) < 0.5) & (rng.random((rows, 2)) < 0.4)
    zeros = np.zeros((rows, 2))
    store = store_of(np.arange(rows), zeros, zeros, label_NT, SIZES.vocabulary)
    store = replace(store, maturity_NT=np.full((rows, 2), 0.4, np.float32))
    config = NetworkConfig("shared", embedding=3, bottom=(8,), tower=(), dropout=0.0, batch_norm=False)
    network = build_network(config, SIZES)
    train_actor(network, store, store, replace(TRAIN, max_epochs=1, learning_rate=0.05), seed=0)
    assert predict(network, store)[0] == pytest.approx([0.5, 0.5], abs=0.06)


def critics_of(actor: MultiTaskNetwork, weighting: str = "critics", **settings: object) -> tuple[Critics, CriticConfig]:
    config = CriticConfig(weighting=weighting, **{**SMALL, **settings})
    return Critics(config, actor), config


@pytest.mark.parametrize("name", ["esmm", "mmoe", "ple"])
def test_c_without_values_or_lambda_the_gradients_are_those_of_stage_1a_bit_for_bit(name: str) -> None:
    actor, batch = network_of(name), session_batch(random_rows(80))
    expected = gradients(actor, batch)
    critics, config = critics_of(actor, value_weight=0.0)
    unweighted = gradients(actor, batch, loss_weights(critics, config, seed=0))
    assert all(torch.equal(unweighted[key], gradient) for key, gradient in expected.items())
    critics, config = critics_of(actor)
    with torch.no_grad():
        for tower in critics.towers:
            tower[-1].weight.zero_()
            tower[-1].bias.fill_(-200.0)  # Q = 0
    without_values = gradients(actor, batch, loss_weights(critics, config, seed=0))
    assert all(torch.equal(without_values[key], gradient) for key, gradient in expected.items())


def test_c_equal_weights_give_the_same_direction() -> None:
    actor, batch = network_of(), session_batch(random_rows(80))
    expected = gradients(actor, batch)
    doubled = gradients(actor, batch, lambda batch, p_NT: torch.full_like(p_NT, 2.0))
    for key, gradient in expected.items():
        torch.testing.assert_close(doubled[key], 2 * gradient)


def test_d_weights_are_at_least_1_and_do_not_read_labels() -> None:
    actor, batch = network_of(), session_batch(random_rows(200))
    critics, config = critics_of(actor)
    weight_of, p_NT = loss_weights(critics, config, seed=0), actor(batch.categorical_NK, batch.numeric_NF).detach()
    weight_NT = weight_of(batch, p_NT)
    assert (weight_NT >= 1).all()
    assert weight_NT.std() > 0
    permuted = batch._replace(label_NT=batch.label_NT[torch.randperm(200)])
    assert torch.equal(weight_of(permuted, p_NT), weight_NT)


def test_d_no_gradient_reaches_the_critics_and_they_use_no_dropout() -> None:
    actor, batch = network_of(), session_batch(random_rows(80))
    critics, config = critics_of(actor)
    critics.train()
    weight_of = loss_weights(critics, config, seed=0)
    gradients(actor, batch, weight_of)
    assert all(weight.grad is None for weight in critics.parameters())
    p_NT = torch.full((80, 2), 0.3)
    assert torch.equal(weight_of(batch, p_NT), weight_of(batch, p_NT))


def weights(weighting: str, batch: SessionBatch, q_NT: torch.Tensor, reward_NT: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return WEIGHTINGS[weighting](WeightInputs(q_NT, reward_NT, batch, 0.5, 0.7, generator))


def test_i_the_controls_keep_the_weights_that_they_should() -> None:
    batch = session_batch(random_rows(50))
    q_NT, reward_NT = -torch.rand(50, 2), -torch.rand(50, 2)
    weight_NT = weights("critics", batch, q_NT, reward_NT)
    torch.testing.assert_close(weight_NT, 1 - 0.7 * q_NT)
    torch.testing.assert_close(weights("constant", batch, q_NT, reward_NT), weight_NT.mean(dim=0).expand(50, 2))
    permuted_NT = weights("permuted", batch, q_NT, reward_NT)
    torch.testing.assert_close(permuted_NT.sort(dim=0).values, weight_NT.sort(dim=0).values)
    assert not torch.equal(permuted_NT, weight_NT)
    assert torch.equal(weights("retrained", batch, q_NT, reward_NT), torch.ones(50, 2))
    return_NT = discounted_returns(reward_NT, batch.is_last_N, 0.5)
    torch.testing.assert_close(weights("return", batch, q_NT, reward_NT), 1 - 0.7 * return_NT)
    torch.testing.assert_close(weights("label", batch, q_NT, reward_NT), 1 - 0.7 * batch.label_NT * q_NT)
    torch.testing.assert_close(weights("value", batch, q_NT, reward_NT), -q_NT)


def test_returns_are_discounted_within_a_session() -> None:
    reward_NT = torch.tensor([[-1.0], [-2.0], [-4.0], [-8.0]])
    is_last_N = torch.tensor([False, True, False, True])
    assert discounted_returns(reward_NT, is_last_N, 0.5)[:, 0].tolist() == [-2.0, -2.0, -8.0, -8.0]
    assert reward_NT[0] == -1.0  # the input is unchanged


@pytest.mark.slow(1)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_seed_gives_one_training_and_the_best_epoch_remains(seed: int) -> None:
    rows, valid = random_rows(900), random_rows(300, seed=1)
    networks = [network_of(), network_of()]
    curves = [train_actor(network, rows, valid, TRAIN, seed=seed) for network in networks]
    assert curves[0] == curves[1]
    for weight, expected in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(weight, expected)
    aucs = [epoch["valid_auc"] for epoch in curves[0].epochs]
    assert curves[0].best == int(np.argmax(aucs))
    assert not networks[0].training


def test_training_stops_without_improvement() -> None:
    rows, valid = random_rows(300), random_rows(300, seed=1)
    settings = ActorTrainConfig(batch_size=64, max_epochs=40, patience=2, learning_rate=0.0, device="cpu")
    network = network_of()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 0.0
    assert len(train_actor(network, rows, valid, settings, seed=0).epochs) == 3


def test_every_session_is_in_one_batch_and_whole() -> None:
    rows = random_rows(700)
    rows.numeric_NF[:, 0] = np.arange(700)
    batches = list(session_batches(rows, 64, seed=0, epoch=3))
    assert min(len(batch.is_last_N) for batch in batches) >= 64
    assert len(batches) > 5
    row_N = np.concatenate([batch.numeric_NF[:, 0].numpy().astype(int) for batch in batches])
    assert sorted(row_N) == list(range(700))
    assert all(batch.is_last_N[-1] for batch in batches)
    np.testing.assert_array_equal(np.concatenate([batch.is_last_N for batch in batches]), rows.is_last_N[row_N])
    steps_N = np.diff(row_N)[~rows.is_last_N[row_N][:-1]]
    assert (steps_N == 1).all()  # the exposures of a session stay in their order
    next_epoch = next(iter(session_batches(rows, 64, seed=0, epoch=4)))
    assert not np.array_equal(next_epoch.numeric_NF[:, 0], batches[0].numeric_NF[:, 0])
    first = list(session_batches(rows.take(np.arange(5)), 64, seed=0, epoch=0))
    assert [len(batch.is_last_N) for batch in first] == [5]


def test_auc_counts_pairs_and_ties() -> None:
    label_N, p_N = np.array([0, 1, 1, 0], np.float32), np.array([0.1, 0.4, 0.4, 0.4])
    assert auc(label_N, p_N) == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert auc(np.ones(4, np.float32), p_N) == 0.5


def test_a_network_is_not_changed_by_its_prediction_as_a_weight() -> None:
    actor, batch = network_of(), session_batch(random_rows(80))
    critics, config = critics_of(actor)
    initial = copy.deepcopy(critics.state_dict())
    loss_weights(critics, config, seed=0)(batch, torch.full((80, 2), 0.3))
    assert all(torch.equal(weight, initial[key]) for key, weight in critics.state_dict().items())
