"""What the compared strategies have learned, all from one simulated log of other users: the past of their own seeds.

The model, its encoder, its loss and its training are the project's own. The inputs come from the journey memories
(which equal the nightly ones), so no Spark is needed; the feature spec keeps what the simulator shows. Labels hold what
is known when the campaigns begin: a conversion that is heard of later is none yet, and the model's loss is told how
ripe a label is (`delayed_feedback`). Gradient boosting has no such loss; it learns from the same labels.
Shapes: R steps of all users, W windows of L steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.training_level import training_level
from mtorl_model.data.delayed_feedback import Maturity, estimate_delays
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.window_store import WindowsInMemory
from mtorl_model.inference.channel_level import ChannelLevel
from mtorl_model.methods.baselines.boosting import Boosting, BoostingConfig, classifier
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig
from schemas.steps import last_column, mean_column, switches_column
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale
from simulation.simulator import DATASET, HOURS, WEIGHTS, Simulator

STEPS = 20
PENALTY = 0.5
# Not of the 20 seeds that are compared: those are 0, 1, 2, ...
TRAIN_SEED, VALIDATION_SEED = 1_000_000, 1_500_000  # of the first training; the next ones follow
MODEL = ModelConfig(hidden=64, category_dropout=0.1, steps=STEPS)
TRAIN = TrainConfig(batch_size=128, schedule="cosine", max_epochs=30, patience=3, gradient_clip=1.0)
LOSS = LossConfig(mu=1.0)
_NUMBERS = (
    last_column("cost"),
    mean_column("cost"),
    switches_column("channel"),
    "gap_s",
    "since_click_s",
    "since_conversion_s",
)
_UNITS = {
    last_column("cost"): 1e-4,
    mean_column("cost"): 1e-4,
    "gap_s": 3600.0,
    "since_click_s": 3600.0,
    "since_conversion_s": 3600.0,
}
_CONVERSION = DATASET.gain_names.index("conversion")
_WIDE = 1000.0  # a scale at which nothing is clipped, to measure the true one

Floats = np.ndarray


@dataclass(frozen=True)
class Log:
    """Windows of a simulated log, as the model reads them, and what their steps cost."""

    windows: Encoded
    cost_nano_WL: Any
    maturity: Maturity  # of a conversion


@dataclass(frozen=True)
class Learned:
    """All that was fitted on the training log."""

    model: MTORL
    level: ChannelLevel
    boosting: Boosting
    pair_boosting: tuple[HistGradientBoostingClassifier, ...]  # by gain; reads the inputs and the channel

    @property
    def spec(self) -> FeatureSpec:
        return self.model.spec


def learn(users: int, training: int = 0, *, say: Callable[[str], None] = print) -> Learned:
    """Simulate a log of that many training users and an eighth as many for validation; fit everything on it.

    training: its number; each has users, random weights and batches of its own.
    """
    spec = _spec(users, training)
    encoder = Encoder(spec, DATASET, MODEL.form.inputs)
    train = _log(encoder, users, TRAIN_SEED + training)
    valid = _log(encoder, max(users // 8, 50), VALIDATION_SEED + training, train.maturity)
    store, valid_store = WindowsInMemory(train.windows), WindowsInMemory(valid.windows)
    say(f"{len(store)} windows of {users} users to train on, {len(valid_store)} of others to validate")
    config = MTORLConfig(MODEL, LOSS, replace(TRAIN, seed=TRAIN.seed + training))
    initial = fit_initial_policy(store, spec)
    model = MTORL(config, spec, initial).fit(store, valid_store, Run())
    history = model.histories[0]
    say(f"best of {len(history.epochs)} epochs: validation loss {history.best.monitor:.4f}")
    boosting = Boosting(BoostingConfig(), spec, initial).fit(store, valid_store, Run())
    return Learned(
        model,
        training_level(model, train.windows, train.cost_nano_WL, DATASET),
        boosting,
        _pair_boosting(train.windows),
    )


def step_features(windows: Encoded) -> Floats:
    """[N, F]: gradient boosting's inputs at the windows' last step."""
    at_end = np.zeros_like(windows.valid_NL)
    at_end[:, -1] = True
    return windows._replace(label_NL=at_end).label_features()


def with_channel(features_NF: Floats, channel: Any, actions: int) -> Floats:
    """The features beside the channel, as one column a channel."""
    shown_NA = np.zeros((len(features_NF), actions), np.float32)
    shown_NA[np.arange(len(features_NF)), channel] = 1.0
    return np.concatenate([features_NF, shown_NA], axis=1)


def _spec(users: int, training: int) -> FeatureSpec:
    """Vocabularies from the world; scales and the span of rewards from the training users' past."""
    channels = Simulator(1, 0).world.channels
    hours = tuple(str(h) for h in range(0, 24, HOURS))
    rough = FeatureSpec(
        DATASET.name, "2017-01-01", "2017-01-08", channels, DATASET.gain_names, tuple(WEIGHTS.tolist()),
        RewardScale(PENALTY, -1.0, float(WEIGHTS.sum())),
        (
            Feature("hour", "categorical", False, True, vocabulary=hours),
            Feature(last_column("channel"), "categorical", False, True, vocabulary=channels),
            *(Feature(n, "numeric", False, True, mean=0.0, std=_WIDE, unit=_UNITS.get(n)) for n in _NUMBERS),
        ),
    )  # fmt: skip
    log = _log(Encoder(rough, DATASET, MODEL.form.inputs), min(users, 500), TRAIN_SEED + training)
    numbers = _WIDE * log.windows.numeric_NLF[log.windows.label_NL][:, : len(_NUMBERS)].astype(np.float64)
    scaled = {n: (float(x.mean()), float(x.std())) for n, x in zip(_NUMBERS, numbers.T, strict=True)}
    features = tuple(replace(f, mean=scaled[f.name][0], std=scaled[f.name][1]) if f.name in scaled else f
                     for f in rough.features)  # fmt: skip
    labels = log.windows.label_NL
    penalised = log.windows.gains_NLG[labels] @ WEIGHTS - PENALTY * log.cost_nano_WL[labels] / 1e9
    scale = RewardScale(PENALTY, float(penalised.min()), float(penalised.max()))
    return replace(rough, features=features, reward=scale)


def _log(encoder: Encoder, users: int, seed: int, maturity: Maturity | None = None) -> Log:
    """The past of a seed's users: every exposure after a user's first is a label once, as in `sequences`.

    maturity: None to estimate it here; never on validation users.
    """
    simulator = Simulator(users, seed)
    memory = JourneyMemory(encoder, DATASET, simulator.profile, users, STEPS)
    parts: dict[str, list[Any]] = {name: [] for name in (*Encoded._fields, "user", "cost", "age_s", "delay_s")}
    for k, (moment, outcome) in enumerate(simulator.reset()):
        memory.add_late_gains(moment.late)
        step = memory.observe(outcome, moment.context)
        known_at_ms_N = simulator.past_known_at_ms[k]
        gains_NG = simulator.past_gains[k].copy()
        gains_NG[:, _CONVERSION] *= known_at_ms_N < simulator.start_ms
        scale = encoder.spec.reward
        reward_N = (gains_NG @ WEIGHTS - scale.penalty * outcome.cost_nano_N / 1e9 - scale.low) / (
            scale.high - scale.low
        )
        labels = {
            "action_NL": outcome.channel_N.astype(np.int32), "gains_NLG": gains_NG.astype(np.float32),
            "reward_NL": np.clip(reward_N, 0.0, 1.0).astype(np.float32),
        }  # fmt: skip
        for name in Encoded._fields:
            value = getattr(step, name)
            parts[name].append(labels.get(name, value if name.startswith("profile") else value[:, 0]))
        parts["age_s"].append((simulator.start_ms - outcome.at_ms_N) / 1000)
        parts["delay_s"].append((known_at_ms_N - outcome.at_ms_N) / 1000)
        parts["user"].append(outcome.user_N)
        parts["cost"].append(outcome.cost_nano_N)
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    if maturity is None:
        heard_R = arrays["gains_NLG"][:, _CONVERSION] > 0
        maturity = estimate_delays(arrays["delay_s"][heard_R], arrays["age_s"][heard_R])
    arrays["maturity_NLG"] = np.ones_like(arrays["gains_NLG"])
    arrays["maturity_NLG"][:, _CONVERSION] = maturity.share_known(arrays["age_s"])
    order = np.argsort(arrays["user"], kind="stable")  # rounds stay in order
    row_WL, label_WL = _windows(arrays["user"][order])
    real_WL = row_WL >= 0
    row_WL = order[np.maximum(row_WL, 0)]

    def cut(name: str) -> Any:
        taken = arrays[name][row_WL]
        taken[~real_WL] = -1 if name == "action_NL" else 0
        return taken

    fields = {
        name: arrays[name][row_WL[:, -1]] if name.startswith("profile") else cut(name) for name in Encoded._fields
    }
    return Log(Encoded(**{**fields, "label_NL": label_WL, "valid_NL": real_WL}), cut("cost"), maturity)


def _windows(user_R: Any) -> tuple[Any, Any]:
    """[W, L]: rows of each window, -1 for padding, and which of them are labels."""
    rows, labels = [], []
    starts = np.flatnonzero(np.append(True, user_R[1:] != user_R[:-1]))
    for start, end in zip(starts, np.append(starts[1:], len(user_R)), strict=True):
        for first in range(start + 1, end, STEPS // 2):
            stop = min(first + STEPS // 2, end)
            shown = np.arange(max(start, stop - STEPS), stop)
            padding = STEPS - len(shown)
            rows.append(np.concatenate([np.full(padding, -1), shown]))
            labels.append(np.concatenate([np.zeros(padding, np.bool_), shown >= first]))
    return np.array(rows), np.array(labels)


def _pair_boosting(windows: Encoded) -> tuple[HistGradientBoostingClassifier, ...]:
    """As many labels and the same settings as Boosting, and the channel beside the inputs."""
    config = BoostingConfig()
    features_NF, label_WL = windows.label_features(), windows.label_NL
    actions = windows.action_in_NLA.shape[-1]
    chosen = np.random.default_rng(0).permutation(len(features_NF))[: config.most_labels]
    inputs = with_channel(features_NF, windows.action_NL[label_WL], actions)[chosen]
    return tuple(
        classifier(config, config.gain_iterations, config.gain_rate).fit(inputs, gain_N[chosen])
        for gain_N in windows.gains_NLG[label_WL].T
    )
