"""The critics against closed forms: each test names the item of the method's list of tests, (a) to (g)."""

import copy
import math

import numpy as np
import pytest
import torch
from candidate_rows import store_of
from torch import Tensor

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.session_batch import SessionBatch, session_batch
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, NetworkConfig
from mtorl_model.methods.common.soft_update import move_towards
from mtorl_model.methods.rmtl.config import CriticConfig
from mtorl_model.methods.rmtl.critics import (
    SMALLEST,
    Critics,
    actions,
    critic_loss,
    rewards,
    targets,
)
from mtorl_model.methods.rmtl.stages import has_converged, train_critics

SMALL = {"critic_bottom": (16,), "critic_tower": (8,), "critic_dropout": 0.0, "action": 4}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Fixed(MultiTaskNetwork):
    """An actor whose prediction depends on the first code only, equal for all tasks."""

    def __init__(self, p_by_code: list[float], tasks: int = 1) -> None:
        config = NetworkConfig(embedding=4, bottom=(4,), tower=(), batch_norm=False)
        super().__init__(config, CandidateSizes((len(p_by_code),), 0, tasks))
        self.p_by_code = torch.tensor(p_by_code)

    def forward(self, categorical_NK: Tensor, numeric_NF: Tensor) -> Tensor:
        return self.p_by_code[categorical_NK[:, 0]][:, None].expand(-1, self.sizes.tasks)


def chain(p: list[float], sessions: int, seed: int = 0) -> CandidateStore:
    """Sessions that pass through the states 0, 1, ..., with the labels' probability of each."""
    code_N = np.tile(np.arange(len(p), dtype=np.int32), sessions)
    label_N = np.random.default_rng(seed).random(len(code_N)) < np.array(p)[code_N]
    session_N = np.repeat(np.arange(sessions), len(p))
    numbers_NF = np.zeros((len(code_N), 0), np.float32)
    return store_of(session_N, code_N[:, None], numbers_NF, label_N[:, None], (len(p),))


def learned_values(p: list[float], a: list[float], gamma: float, sessions: int, **settings: object) -> list[float]:
    """Q of each state, learned from that number of sessions."""
    rows, actor = chain(p, sessions), Fixed(a)
    config = CriticConfig(gamma=gamma, **{**SMALL, **settings})
    critics, _ = train_critics(actor, rows, config, batch_size=2048, seed=0, device="cpu")
    batch = session_batch(rows, slice(0, len(p)))
    with torch.no_grad():
        return critics(batch.categorical_NK, batch.numeric_NF, actions(actor, batch))[:, 0].tolist()


def cross_entropy(p: float, a: float) -> float:
    return -p * math.log(a) - (1 - p) * math.log(1 - a)


def test_a_the_value_of_a_single_step_is_minus_its_expected_cross_entropy() -> None:
    rate = float(chain([0.3], 20_000).labels_NT.mean())
    (value,) = learned_values(
        [0.3], [0.45], 0.0, 20_000, critic_change=1e-5, critic_epochs=8, critic_learning_rate=4e-3
    )
    assert value == pytest.approx(-cross_entropy(rate, 0.45), abs=0.005)


@pytest.mark.slow
def test_b_a_chain_of_three_states_has_its_exact_values() -> None:
    values = learned_values([0.3, 0.6, 0.1], [0.4, 0.5, 0.2], 0.95, 20_000, critic_change=1e-6, critic_epochs=40)
    assert values == pytest.approx([-1.6175, -1.0368, -0.3618], abs=0.012)


def random_batch(rows: int, tasks: int = 2) -> SessionBatch:
    """Sessions of random lengths; the last row ends a session."""
    is_last_N = torch.rand(rows) < 0.4
    is_last_N[-1] = True
    return SessionBatch(
        torch.randint(0, 3, (rows, 1)), torch.zeros(rows, 0), (torch.rand(rows, tasks) < 0.4).float(),
        torch.ones(rows, tasks), is_last_N,
    )  # fmt: skip


def critics_of(actor: MultiTaskNetwork, **settings: object) -> Critics:
    return Critics(CriticConfig(**{**SMALL, **settings}), actor)


def test_rewards_are_minus_the_cross_entropy_and_bounded() -> None:
    batch = random_batch(2)._replace(label_NT=torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    reward_NT = rewards(torch.tensor([[0.25, 0.25], [SMALLEST, 1 - SMALLEST]]), batch)
    expected = [[math.log(0.25), math.log(0.75)], [math.log(SMALLEST), math.log(1 - SMALLEST)]]
    np.testing.assert_allclose(reward_NT, expected, rtol=1e-3)
    certain = random_batch(9, tasks=1)._replace(categorical_NK=torch.ones(9, 1).long(), label_NT=torch.zeros(9, 1))
    assert rewards(actions(Fixed([0.0, 1.0]), certain), certain).min() == pytest.approx(-9.21, abs=0.01)


def test_e_targets_read_their_own_session_only_and_end_with_the_reward() -> None:
    batch, target = random_batch(60), critics_of(actor := Fixed([0.3, 0.5, 0.8], tasks=2))
    a_NT = actions(actor, batch)
    target_NT = targets(target, batch, a_NT, 0.9)
    torch.testing.assert_close(target_NT[batch.is_last_N], rewards(a_NT, batch)[batch.is_last_N])
    first = int(batch.is_last_N.nonzero()[3]) + 1  # the first row of the fifth session
    later_NT = batch.label_NT.clone()
    later_NT[first:] = 1 - later_NT[first:]
    codes_NK = batch.categorical_NK.clone()
    codes_NK[first:] = (codes_NK[first:] + 1) % 3
    changed = batch._replace(label_NT=later_NT, categorical_NK=codes_NK)
    changed_NT = targets(target, changed, actions(actor, changed), 0.9)
    torch.testing.assert_close(changed_NT[:first], target_NT[:first])
    assert not torch.isclose(changed_NT[first:], target_NT[first:]).any()
    # The next exposure of the same session is read.
    (step,) = (~batch.is_last_N).nonzero()[:1, 0].tolist()
    codes_NK = batch.categorical_NK.clone()
    codes_NK[step + 1] = (codes_NK[step + 1] + 1) % 3
    changed = batch._replace(categorical_NK=codes_NK)
    assert not torch.isclose(targets(target, changed, actions(actor, changed), 0.9)[step], target_NT[step]).any()


def test_targets_have_no_gradient() -> None:
    batch, target = random_batch(20), critics_of(actor := Fixed([0.3, 0.5, 0.8], tasks=2))
    critics = copy.deepcopy(target)
    a_NT = actions(actor, batch)
    critic_loss(critics, batch, a_NT, targets(target, batch, a_NT, 0.9)).backward()
    assert all(weight.grad is None for weight in target.parameters())
    assert any(weight.grad.any() for weight in critics.parameters())


def test_f_one_update_moves_the_targets_by_a_fifth_of_the_way() -> None:
    actor = Fixed([0.3, 0.5, 0.8], tasks=2)
    target, critics = critics_of(actor), critics_of(actor)
    expected = [0.8 * slow + 0.2 * fast for slow, fast in zip(target.parameters(), critics.parameters(), strict=True)]
    move_towards(target, critics, CriticConfig().soft_update)
    for weight, expected_weight in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.data, expected_weight.data)


def test_g_critics_that_start_far_from_0_still_learn() -> None:
    actor, batch = Fixed([0.3, 0.5, 0.8]), random_batch(400, tasks=1)
    critics = critics_of(actor)
    with torch.no_grad():
        critics.towers[0][-1].bias.fill_(-6.0)
    a_NT = actions(actor, batch)
    target_NT = rewards(a_NT, batch)
    optimizer = torch.optim.Adam(critics.parameters(), lr=0.05)
    initial = critic_loss(critics, batch, a_NT, target_NT).item()
    for _ in range(200):
        optimizer.zero_grad()
        critic_loss(critics, batch, a_NT, target_NT).backward()
        optimizer.step()
    assert critics(batch.categorical_NK, batch.numeric_NF, a_NT).max() < -0.2
    assert critic_loss(critics, batch, a_NT, target_NT).item() < initial / 2


def test_the_value_reads_the_prediction_and_is_never_above_0() -> None:
    batch, critics = random_batch(50), critics_of(Fixed([0.3, 0.5, 0.8], tasks=2))
    q_NT = critics(batch.categorical_NK, batch.numeric_NF, torch.full((50, 2), 0.2))
    assert (q_NT <= 0).all()
    changed_NT = critics(batch.categorical_NK, batch.numeric_NF, torch.tensor([0.2, 0.9]).expand(50, 2))
    torch.testing.assert_close(changed_NT[:, 0], q_NT[:, 0])
    assert not torch.isclose(changed_NT[:, 1], q_NT[:, 1]).any()


def test_critics_start_from_the_actors_vectors_and_leave_the_actor_alone() -> None:
    actor = Fixed([0.3, 0.5, 0.8])
    initial = copy.deepcopy(actor.state_dict())
    torch.testing.assert_close(critics_of(actor).inputs.state_dict(), actor.inputs.state_dict())
    config = CriticConfig(critic_epochs=2, **SMALL)
    train_critics(actor, chain([0.3, 0.6, 0.1], 50), config, batch_size=32, seed=0, device="cpu")
    torch.testing.assert_close(actor.state_dict(), initial, rtol=0, atol=0)


def test_training_stops_after_two_epochs_with_little_change() -> None:
    assert not has_converged([0.5, 0.499], 3e-3)
    assert not has_converged([0.5, 0.45, 0.449], 3e-3)
    assert has_converged([0.5, 0.45, 0.449, 0.4485], 3e-3)
    assert not has_converged([0.5, 0.45, 0.449, 0.44], 3e-3)
