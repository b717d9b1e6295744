"""Training windows from a simulated log: the past of the users of a seed, as the model reads it.

The inputs come from the journey memories, which give the same inputs as the nightly run, so no Spark is needed. The
feature spec keeps the columns that the simulator has. Labels are those that are known when the campaigns begin: a
conversion that becomes known later is missing, and the maturity of the label is the probability that it would be known
by then (`delayed_feedback`).

Shapes: R steps of all users, W windows of L steps, N users of a round, G gains.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtorl_model.budget.click_record import ClickRecord
from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.data.delayed_feedback import Maturity, estimate_delays
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.reward_inputs import RewardInputs
from mtorl_model.data.windows.store import WindowsInMemory
from schemas.steps import last_column, mean_column, switches_column
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale
from simulation.simulator import DATASET, HOURS, WEIGHTS, Simulator

STEPS = 20
CLICK, CONVERSION = DATASET.gain_names.index("click"), DATASET.gain_names.index("conversion")
_PENALTY = 0.5
_UNITS = {
    last_column("cost"): 1e-4,
    mean_column("cost"): 1e-4,
    switches_column("channel"): None,
    "gap_s": 3600.0,
    "since_click_s": 3600.0,
    "since_conversion_s": 3600.0,
}
_UNCLIPPED_STD = 1000.0  # with this scale no value is clipped, so the true scale can be measured
_USERS_FOR_SCALES = 500


@dataclass(frozen=True)
class Log:
    """Windows of a simulated log, their users, costs and propensities of their steps, and the users' records."""

    windows: Encoded
    cost_nano_WL: Any
    maturity: Maturity  # of a conversion
    user_W: Any
    propensity_WL: Any
    record: ClickRecord  # of all users

    def store(self, *, with_propensities: bool = False) -> WindowsInMemory:
        """The windows to learn from. with_propensities: the learner may know them."""
        propensity_WL = (self.propensity_WL * self.windows.label_NL).astype(np.float32)
        return WindowsInMemory(self.windows, self.user_W, propensity_WL if with_propensities else None)


def fit_spec(users: int, seed: int, reward_inputs: RewardInputs) -> FeatureSpec:
    """Vocabularies from the world; scales and the range of rewards from the past of the training users."""
    unscaled = _unscaled_spec()
    log = simulate_log(Encoder(unscaled, DATASET, reward_inputs), min(users, _USERS_FOR_SCALES), seed)
    labels = log.windows.label_NL
    values = _UNCLIPPED_STD * log.windows.numeric_NLF[labels][:, : len(_UNITS)].astype(np.float64)
    scales = {name: (float(x.mean()), float(x.std())) for name, x in zip(_UNITS, values.T, strict=True)}
    features = tuple(
        replace(feature, mean=scales[feature.name][0], std=scales[feature.name][1])
        if feature.name in scales
        else feature
        for feature in unscaled.features
    )
    penalised = log.windows.gains_NLG[labels] @ WEIGHTS - _PENALTY * log.cost_nano_WL[labels] / 1e9
    scale = RewardScale(_PENALTY, float(penalised.min()), float(penalised.max()))
    return replace(unscaled, features=features, reward=scale)


def _unscaled_spec() -> FeatureSpec:
    channels = Simulator(1, 0).world.channels
    hours = tuple(str(hour) for hour in range(0, 24, HOURS))
    features = (
        Feature("hour", "categorical", False, True, vocabulary=hours),
        Feature(last_column("channel"), "categorical", False, True, vocabulary=channels),
        *(
            Feature(name, "numeric", False, True, mean=0.0, std=_UNCLIPPED_STD, unit=unit)
            for name, unit in _UNITS.items()
        ),
    )
    weights, reward = tuple(WEIGHTS.tolist()), RewardScale(_PENALTY, -1.0, float(WEIGHTS.sum()))
    return FeatureSpec(
        DATASET.name, "2017-01-01", "2017-01-08", channels, DATASET.gain_names, weights, reward, features
    )


def simulate_log(
    encoder: Encoder, users: int, seed: int, maturity: Maturity | None = None, simulator: Simulator | None = None
) -> Log:
    """The past of a seed's users. Every exposure after a user's first is a label once, as in `sequences`.

    maturity: None to estimate it from this log, which must not be that of the validation users. simulator: None for the
    users of the seed in the default world.
    """
    simulator = simulator or Simulator(users, seed)
    arrays = _step_arrays(encoder, simulator)
    if maturity is None:
        is_known_R = arrays["gains_NLG"][:, CONVERSION] > 0
        maturity = estimate_delays(arrays["delay_s"][is_known_R], arrays["age_s"][is_known_R])
    arrays["maturity_NLG"] = np.ones_like(arrays["gains_NLG"])
    arrays["maturity_NLG"][:, CONVERSION] = maturity.share_known(arrays["age_s"])
    order = np.argsort(arrays["user"], kind="stable")  # the steps of a user stay in order of time
    row_WL, label_WL = _windows(arrays["user"][order])
    valid_WL = row_WL >= 0
    row_WL = order[np.maximum(row_WL, 0)]

    def cut(name: str) -> Any:
        values = arrays[name][row_WL]
        values[~valid_WL] = -1 if name == "action_NL" else 0
        return values

    fields = {
        name: arrays[name][row_WL[:, -1]] if name.startswith("profile") else cut(name) for name in Encoded._fields
    }
    windows = Encoded(**{**fields, "label_NL": label_WL, "valid_NL": valid_WL})
    record = ClickRecord.from_exposures(
        arrays["user"],
        arrays["at_ms"],
        arrays["action_NL"].astype(np.int64),
        arrays["gains_NLG"][:, CLICK].astype(np.int64),
        users=users,
        actions=len(encoder.spec.channels),
    )
    return Log(windows, cut("cost"), maturity, arrays["user"][row_WL[:, -1]], cut("propensity"), record)


def _step_arrays(encoder: Encoder, simulator: Simulator) -> dict[str, Any]:
    """By name, one entry per step of the past, in order of the rounds: the encoded step, its label, user, cost and age.

    delay_s: of a conversion, from the exposure until it is known; age_s: from the exposure to the campaigns' start.
    """
    memory = JourneyMemory(encoder, DATASET, simulator.profile, len(simulator.users), STEPS)
    parts: dict[str, list[Any]] = {
        name: [] for name in (*Encoded._fields, "user", "cost", "propensity", "at_ms", "age_s", "delay_s")
    }
    for number, (moment, outcome) in enumerate(simulator.reset()):
        memory.add_late_gains(moment.late)
        step = memory.observe(outcome, moment.context)
        known_at_ms_N = simulator.past_known_at_ms[number]
        gains_NG = simulator.past_gains[number].copy()
        gains_NG[:, CONVERSION] *= known_at_ms_N < simulator.start_ms
        labels = _labels(outcome, gains_NG, encoder.spec.reward)
        for name in Encoded._fields:
            value = getattr(step, name)
            parts[name].append(labels.get(name, value if name.startswith("profile") else value[:, 0]))
        parts["at_ms"].append(outcome.at_ms_N)
        parts["age_s"].append((simulator.start_ms - outcome.at_ms_N) / 1000)
        parts["delay_s"].append((known_at_ms_N - outcome.at_ms_N) / 1000)
        parts["user"].append(outcome.user_N)
        parts["cost"].append(outcome.cost_nano_N)
        parts["propensity"].append(simulator.past_propensities[number])
    return {name: np.concatenate(values) for name, values in parts.items()}


def _labels(outcome: Outcome, gains_NG: np.ndarray, scale: RewardScale) -> dict[str, np.ndarray]:
    """The label fields of Encoded."""
    penalised_N = gains_NG @ WEIGHTS - scale.penalty * outcome.cost_nano_N / 1e9
    reward_N = (penalised_N - scale.low) / (scale.high - scale.low)
    return {
        "action_NL": outcome.channel_N.astype(np.int32),
        "gains_NLG": gains_NG.astype(np.float32),
        "reward_NL": np.clip(reward_N, 0.0, 1.0).astype(np.float32),
    }


def _windows(user_R: Any) -> tuple[Any, Any]:
    """[W, L]: the rows of each window, -1 for padding, and which of them are labels."""
    rows, labels = [], []
    starts = np.flatnonzero(np.append(True, user_R[1:] != user_R[:-1]))
    for start, end in zip(starts, np.append(starts[1:], len(user_R)), strict=True):
        for first_label in range(start + 1, end, STEPS // 2):
            stop = min(first_label + STEPS // 2, end)
            window = np.arange(max(start, stop - STEPS), stop)
            padding = STEPS - len(window)
            rows.append(np.concatenate([np.full(padding, -1), window]))
            labels.append(np.concatenate([np.zeros(padding, np.bool_), window >= first_label]))
    return np.array(rows), np.array(labels)
