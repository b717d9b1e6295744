"""A training that was killed continues after its last finished stage; and RMTL's weights are used only if they help."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from candidate_rows import store_of

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.methods.common.multitask import CandidateSizes, NetworkConfig
from mtorl_model.methods.rmtl import member as member_module
from mtorl_model.methods.rmtl.config import IF_BETTER, ActorTrainConfig, CriticConfig, RMTLConfig
from mtorl_model.methods.rmtl.member import Checkpoints, Member, Training, choose_weighting, train_member
from mtorl_model.methods.rmtl.stages import predict
from mtorl_model.methods.rmtl.weight_choice import Interval, beats_all, user_interval, weights_help
from schemas.errors import UserError

SIZES = CandidateSizes((4,), 2, 2)
CONFIG = RMTLConfig(
    NetworkConfig("shared", embedding=2, bottom=(6,), tower=(), dropout=0.2),
    CriticConfig(critic_bottom=(6,), critic_tower=(), critic_epochs=2, action=2, weighting="critics"),
    ActorTrainConfig(batch_size=64, max_epochs=2, device="cpu"),
)
STAGES = ("pretrained", "critics", "retrained_critics")


def made_up(rows: int, seed: int) -> CandidateStore:
    rng = np.random.default_rng(seed)
    x_NF = rng.normal(size=(rows, 2))
    click_N = x_NF[:, 0] + rng.normal(size=rows) > 0
    labels_NT = np.stack([click_N, click_N & (x_NF[:, 1] > 0)], axis=1)
    return store_of(np.arange(rows) // 2, rng.integers(0, 4, (rows, 1)), x_NF, labels_NT, (4,))


TRAIN, VALID = made_up(300, 0), made_up(120, 1)


def trained(config: RMTLConfig = CONFIG, folder: Path | None = None, identity: str = "one") -> Member:
    return train_member(Training(config, SIZES, TRAIN, VALID, 3, Checkpoints(folder, identity)))


def weights_of(member: Member) -> dict[str, torch.Tensor]:
    return {f"{p}.{n}": w for p, module in member.parts().items() for n, w in module.state_dict().items()}


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("finished", [1, 2])
def test_a_killed_training_continues_after_its_last_finished_stage(finished, monkeypatch, tmp_path):
    expected = weights_of(trained())
    run_stages = []

    def recorded(name):
        function = getattr(member_module, name)

        def run(*arguments, **options):
            run_stages.append(name)
            if len(run_stages) == finished + 1:
                raise KilledError
            return function(*arguments, **options)

        return run

    for name in ("train_actor", "train_critics"):
        monkeypatch.setattr(member_module, name, recorded(name))
    with pytest.raises(KilledError):
        trained(folder=tmp_path)
    assert sorted(p.stem for p in tmp_path.iterdir()) == sorted(STAGES[:finished])
    resumed = trained(folder=tmp_path)
    stages = ["train_actor", "train_critics", "train_actor"]
    assert run_stages == [*stages[: finished + 1], *stages[finished:]]
    assert all(torch.equal(weight, expected[name]) for name, weight in weights_of(resumed).items())
    assert len(resumed.curves) == 2
    # Everything is finished: no stage is run again.
    run_stages.clear()
    assert weights_of(trained(folder=tmp_path)).keys() == expected.keys()
    assert run_stages == []


def test_checkpoints_of_another_training_are_refused(tmp_path):
    trained(folder=tmp_path)
    with pytest.raises(UserError, match="belongs to a training with other configs"):
        trained(folder=tmp_path, identity="two")


CHOICE = replace(CONFIG, critic=replace(CONFIG.critic, weighting=IF_BETTER))


@pytest.mark.parametrize("helps", [True, False])
def test_all_members_use_the_weights_or_none_does(helps, monkeypatch):
    expected = weights_of(trained() if helps else trained(replace(CONFIG, critic=CriticConfig(weighting="none"))))
    monkeypatch.setattr(member_module, "weights_help", lambda predicted, valid: (helps, "a line"))
    members = [trained(CHOICE), trained(CHOICE)]
    assert choose_weighting(members, VALID) == "a line"
    for member in members:
        assert (member.critics is not None) == helps
        assert len(member.curves) == 1 + helps
        assert not member.retrained
        assert all(torch.equal(weight, expected[name]) for name, weight in weights_of(member).items())


def test_the_choice_compares_what_each_weighting_predicts(monkeypatch):
    member, seen = trained(CHOICE), {}
    monkeypatch.setattr(
        member_module, "weights_help", lambda predicted, valid: (seen.update(predicted), (False, ""))[1]
    )
    pretrained = predict(member.network, VALID)
    choose_weighting([member], VALID)
    assert seen.keys() == {"none", "critics", "constant", "permuted"}
    np.testing.assert_array_equal(seen["none"][0], pretrained)
    np.testing.assert_array_equal(seen["critics"][0], predict(trained().network, VALID))
    assert len({float(trainings[0].sum()) for trainings in seen.values()}) == 4


LOSSES = {"critics": 0.0, "constant": 0.3, "permuted": 0.3, "none": 0.3}


def predictions(worse: dict[str, float]) -> dict[str, list[np.ndarray]]:
    """By weighting, of two trainings: probabilities that are this much further from the labels."""
    noise_NT = np.random.default_rng(0).uniform(0.0, 0.02, VALID.labels_NT.shape)
    return {
        name: [np.abs(VALID.labels_NT - 0.2 - distance - noise_NT) for _ in range(2)]
        for name, distance in worse.items()
    }  # fmt: skip


@pytest.mark.parametrize("equal", ["constant", "permuted", "none"])
def test_weights_must_beat_both_controls_and_no_weights(equal):
    helps, line = weights_help(predictions(LOSSES), VALID)
    assert helps
    assert line.startswith("RMTL's weights are used: validation log loss click minus constant [-")
    helps, line = weights_help(predictions(LOSSES | {equal: 0.0}), VALID)
    assert not helps
    assert "are not used" in line


def test_no_task_may_be_worse():
    better, worse, unclear = Interval(-0.2, -0.1), Interval(0.1, 0.2), Interval(-0.1, 0.1)
    assert beats_all({"click": [better, better], "long_view": [unclear, unclear]})
    assert not beats_all({"click": [better, better], "long_view": [unclear, worse]})
    assert not beats_all({"click": [better, unclear]})
    assert not beats_all({})


def test_the_interval_is_wider_if_labels_of_users_depend_on_each_other():
    value_N = np.random.default_rng(0).normal(size=400)
    single = user_interval(value_N, np.arange(400))
    assert single.low == pytest.approx(value_N.mean() - 1.96 * value_N.std(ddof=1) / 20, abs=1e-9)
    repeated = user_interval(np.repeat(value_N, 4), np.repeat(np.arange(400), 4))
    assert repeated == pytest.approx(single)
    assert user_interval(value_N, np.zeros(400)) == (-np.inf, np.inf)
