"""Fits everything that the compared strategies learn, on one simulated log of users who are in no campaign.

The model, its encoder, its loss and its training are those of the project. MTORL's loss uses the maturity of the
labels; gradient boosting learns from the same labels without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.budget.taste_filter import Tastes
from mtorl_model.budget.taste_fit import fit_tastes
from mtorl_model.budget.training_level import training_level
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.inference.channel_level import ChannelLevel
from mtorl_model.methods import METHODS
from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig
from mtorl_model.methods.common.label_trees import TreesConfig, classifier
from mtorl_model.methods.method import Method, Run
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies.baselines.spaces import base_config
from mtorl_model.training.config import TrainConfig
from schemas.tables.feature_spec import FeatureSpec
from simulation.simulated_log import STEPS, fit_spec, simulate_log
from simulation.simulator import DATASET

# Far from the seeds of the campaigns, which are 0, 1, 2, ...
TRAIN_SEED, VALIDATION_SEED = 1_000_000, 1_500_000  # of training 0; training k adds k
MODEL = ModelConfig(hidden=64, category_dropout=0.1, steps=STEPS)
TRAIN = TrainConfig(batch_size=128, schedule="cosine", max_epochs=30, patience=3, gradient_clip=1.0)
LOSS = LossConfig(mu=1.0)

Floats = np.ndarray


@dataclass(frozen=True)
class Learned:
    """Everything that was fitted on the training log."""

    model: MTORL
    level: ChannelLevel
    tastes: Tastes
    boosting: Boosting
    pair_boosting: tuple[HistGradientBoostingClassifier, ...]  # by gain; its inputs include the channel
    table_2: Mapping[str, tuple[Method, ChannelLevel]]  # further methods of the paper's table 2, by name

    @property
    def spec(self) -> FeatureSpec:
        return self.model.spec


def learn(users: int, training: int = 0, methods: Sequence[str] = (), *, log: Callable[[str], None] = print) -> Learned:
    """Simulate a log of training users, and one of an eighth as many validation users; fit everything.

    training: its number. Each training has its own users, random weights and batches. methods: further ones to fit.
    """
    spec = fit_spec(users, TRAIN_SEED + training, MODEL.form.inputs)
    encoder = Encoder(spec, DATASET, MODEL.form.inputs)
    train_log = simulate_log(encoder, users, TRAIN_SEED + training)
    valid_log = simulate_log(encoder, max(users // 8, 50), VALIDATION_SEED + training, train_log.maturity)
    train, valid = train_log.store(), valid_log.store()
    log(f"{len(train)} windows of {users} users to train on, {len(valid)} of others to validate")
    config = MTORLConfig(MODEL, LOSS, replace(TRAIN, seed=TRAIN.seed + training))
    initial = fit_initial_policy(train, spec)
    model = MTORL(config, spec, initial).fit(train, valid, Run())
    history = model.histories[0]
    log(f"best of {len(history.epochs)} epochs: validation loss {history.best.monitor:.4f}")
    boosting = Boosting(BoostingConfig(TreesConfig()), spec, initial).fit(train, valid, Run())
    level = training_level(model, train_log.windows, train_log.cost_nano_WL, DATASET)
    tastes = fit_tastes(train_log.record, len(spec.channels))
    table_2 = {}
    for name in methods:
        base = base_config(name, DATASET.name, TRAIN.max_epochs)
        settings = {"steps": STEPS, "seed": training, "tree_seed": training}
        settings = {setting: value for setting, value in settings.items() if setting in base.settings()}
        fitted = METHODS[name](base.changed(settings), spec, initial).fit(train, valid, Run())
        table_2[name] = (fitted, training_level(fitted, train_log.windows, train_log.cost_nano_WL, DATASET))
        log(f"{name} is trained")
    return Learned(model, level, tastes, boosting, _fit_pair_boosting(train_log.windows), table_2)


def last_step_features(windows: Encoded) -> Floats:
    """[N, F]: the inputs of gradient boosting at the last step of each window."""
    is_last_NL = np.zeros_like(windows.valid_NL)
    is_last_NL[:, -1] = True
    return windows._replace(label_NL=is_last_NL).label_features()


def add_channel(features_NF: Floats, channel: Any, actions: int) -> Floats:
    """Add one column per channel: 1 for the row's channel, else 0. channel: [N], or one channel for all rows."""
    channel_NA = np.zeros((len(features_NF), actions), np.float32)
    channel_NA[np.arange(len(features_NF)), channel] = 1.0
    return np.concatenate([features_NF, channel_NA], axis=1)


def _fit_pair_boosting(windows: Encoded) -> tuple[HistGradientBoostingClassifier, ...]:
    """Fitted like Boosting, on as many labels and with the same settings, with the channel as an additional input."""
    config = TreesConfig()
    features_NF, label_WL = windows.label_features(), windows.label_NL
    actions = windows.action_in_NLA.shape[-1]
    rows = np.random.default_rng(0).permutation(len(features_NF))[: config.most_labels]
    inputs = add_channel(features_NF, windows.action_NL[label_WL], actions)[rows]
    return tuple(
        classifier(config, config.gain_iterations, config.gain_rate).fit(inputs, gain_N[rows])
        for gain_N in windows.gains_NLG[label_WL].T
    )
