from dataclasses import FrozenInstanceError, replace

import pytest

from mtorl_model.methods.mtorl.config import PRESETS, LossConfig, ModelConfig, MTORLConfig, preset
from mtorl_model.training.config import TrainConfig
from schemas.errors import UserError


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(hidden=64, heads=4, dropout=0.25, reward_form="onehot", use_attention=False),
        LossConfig(mu=0.04, dpo_weight=0.0),
        TrainConfig(batch_size=7, seed=3, device="cpu"),
        MTORLConfig(ModelConfig(hidden=64), LossConfig(mu=0.5), TrainConfig(members=2)),
    ],
)
def test_config_survives_json(config):
    assert type(config).from_json(config.to_json()) == config


def test_config_is_frozen():
    with pytest.raises(FrozenInstanceError):
        ModelConfig().hidden = 3


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ("[1]", "expected a JSON object"), ('{"hiden": 3}', "unknown field hiden"),
     ('{"heads": 3}', "heads 3 must divide hidden 512")],
)  # fmt: skip
def test_bad_json_is_one_clear_line(text, message):
    with pytest.raises(UserError, match=message):
        ModelConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [{"hidden": 0}, {"reward_layers": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"reward_form": "gold"}, {"heads": 3}],
)
def test_impossible_models_are_refused(change):
    with pytest.raises(UserError, match=f"model config.*{next(iter(change))}"):
        replace(ModelConfig(), **change)


@pytest.mark.parametrize(
    ("dataset", "mu"), [("kuairand", 0.08), ("kuairand_pure", 0.08), ("criteo", 0.04), ("my_log", 0.08)]
)
def test_preset_has_the_papers_loss_weights(dataset, mu):
    loss = preset("paper", dataset).loss
    assert (loss.mu, loss.dpo_weight, loss.beta) == (mu, 1.4, 0.1)


def test_paper_preset_has_the_papers_sizes():
    paper = preset("paper", "criteo")
    model, train = paper.model, paper.train
    assert (model.hidden, model.steps) == (512, 20)
    assert (model.tcn_layers, model.addnorm_layers, model.reward_layers) == (2, 2, 3)
    assert (train.batch_size, train.learning_rate) == (512, 1e-3)
    assert (train.schedule, train.weight_decay, train.gradient_clip) == ("constant", 0.0, 0.0)
    assert preset("small", "criteo").model.hidden == 128


@pytest.mark.parametrize(
    "change", [{"schedule": "linear"}, {"gradient_clip": -1.0}, {"micro_batches": 0}, {"micro_batches": 513}]
)
def test_impossible_trainings_are_refused(change):
    with pytest.raises(UserError, match=f"train config.*{next(iter(change))}"):
        replace(TrainConfig(), **change)


def test_unknown_preset_lists_the_names():
    with pytest.raises(UserError, match=f"unknown preset 'big': choose one of {', '.join(sorted(PRESETS))}"):
        preset("big", "criteo")
