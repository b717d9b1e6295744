"""Journey memories step by step give the same windows as the nightly way from exposures to windows."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from naive_history import naive_inputs
from random_exposures import day, random_exposures
from synthetic import as_table
from synthetic_journeys import CHANNELS, GAINS, SPEC, Shown, journeys, toy_dataset
from user_chunks import user_chunk

from features.channel_counts import dense_counts
from features.point_in_time import EXPOSURE, KIND, QUERY, point_in_time_steps
from features.visibility import STRICTLY_BEFORE
from lakehouse.arrow_types import arrow_type
from mtorl_model.budget.environment import LateGain, Moment, Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows.next_steps import journeys_to_windows
from schemas.contract import Known, Role
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.steps import counted_by_channel, feature_inputs, known_after_columns
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

TOY = toy_dataset()
STEPS = 5
INPUTS = (
    "categorical_NLK", "profile_categorical_NK", "numeric_NLF", "profile_numeric_NF", "action_in_NLA",
    "reward_in_NLR", "valid_NL",
)  # fmt: skip


def outcome(user, at_ms, index, gains, cost=0.25, **attributes) -> Outcome:
    return Outcome(
        np.array([user]), np.array([at_ms]), np.array([index]), np.array([True]), np.array([gains]),
        np.array([round(cost * 1e9)]), {name: [value] for name, value in attributes.items()},
    )  # fmt: skip


def hour(value: int) -> dict[str, pa.Array]:
    return {"hour": pa.array([value], pa.int32())}


def test_it_gives_the_windows_of_the_nightly_run():
    rng = np.random.default_rng(0)
    users = {
        number: [
            Shown(
                rng.choice([*CHANNELS, None, "pop-up"]), int(rng.random() < 0.4), int(rng.random() < 0.2),
                rng.choice(["spring", "summer", "unseen", None]), float(rng.integers(0, 9)) / 8,
            )
            for _ in range(rng.integers(1, 9))
        ]
        for number in range(12)
    }  # fmt: skip
    nightly = Encoder(SPEC, TOY).encode(journeys_to_windows(journeys(users), SPEC, TOY, STEPS))

    memory = JourneyMemory(Encoder(SPEC, TOY), TOY, {"age": pa.array([30.0 + n for n in users])}, len(users), STEPS)
    for user, exposures in users.items():
        for t, exposure in enumerate(exposures):
            channel = CHANNELS.index(exposure.channel) if exposure.channel in CHANNELS else -1
            gains = [getattr(exposure, g) for g in GAINS]
            at_ms = int(t * 60_000)
            attributes = {"campaign": exposure.campaign}
            memory.observe(outcome(user, at_ms, channel, gains, exposure.cost, **attributes), hour(t % 24))
    lengths = np.array([len(exposures) for exposures in users.values()])
    moment = Moment(np.arange(len(users)), lengths * 60_000, {"hour": pa.array((lengths - 1) % 24, pa.int32())})
    online = memory.windows(moment)
    for name in INPUTS:
        np.testing.assert_array_equal(getattr(online, name), getattr(nightly, name), err_msg=name)
    for name in online._fields:  # the fields of labels are empty, with their full shape
        assert getattr(online, name).shape == getattr(nightly, name).shape, name


def spec_of_all_candidates(dataset) -> FeatureSpec:
    """A spec that keeps every candidate feature."""
    features = [
        Feature(c.name, c.role.value, False, True, vocabulary=("a", "b", "c", "v0", "v1", "v2", "3", "7"))
        if c.role is Role.CATEGORICAL
        else Feature(c.name, c.role.value, False, True, mean=2.0, std=3.0)
        for c in feature_inputs(dataset)
    ]
    return FeatureSpec(
        dataset.name, "2022-05-01", "2022-05-03", ("a", "b"), dataset.gain_names,
        tuple(g.weight for g in dataset.gains), RewardScale(0.5, 0.0, 1.0), tuple(features),
    )  # fmt: skip


def test_every_input_of_the_criteo_contract_equals_a_naive_computation():
    """Late conversions, means, switches, missing values, and a channel that the spec does not contain."""
    criteo = get_dataset("criteo")
    spec, rng = spec_of_all_candidates(criteo), np.random.default_rng(3)
    categories = [f"cat{k}" for k in range(1, 10)]
    rows = 14
    log = pd.DataFrame({
        "exposure_id": np.arange(rows), "exposed_at_ms": 1_000_000 + np.cumsum(rng.integers(1, 90, rows)) * 1000,
        "channel": rng.choice(["a", "b", "c", None], rows), "cost": rng.integers(0, 9, rows) / 8,
        "click": rng.integers(0, 2, rows), "cpo": np.where(rng.random(rows) < 0.3, np.nan, rng.random(rows)),
        "campaign": rng.choice(["v0", "v1", None], rows),
        **{cat: rng.choice(["v0", "v1", "v2"], rows) for cat in categories},
    })  # fmt: skip
    log["conversion"] = log["click"] * rng.integers(0, 2, rows)
    log["conversion_at_ms"] = (log["exposed_at_ms"] + rng.integers(0, 400, rows) * 1000).where(log["conversion"] == 1)
    encoder = Encoder(spec, criteo)
    memory = JourneyMemory(encoder, criteo, {}, 1, STEPS)
    context = [
        {"time_since_last_click_s": pa.array([float(t) if t % 3 else None], pa.float64()),
         "hour": pa.array([t % 9], pa.int32()), "weekday": pa.array([t % 7], pa.int32())}
        for t in range(rows + 1)
    ]  # fmt: skip
    late = [
        LateGain(0, "ab".find(channel or "-"), 1, int(known_at_ms))
        for channel, known_at_ms in zip(log["channel"], log["conversion_at_ms"], strict=True)
        if known_at_ms == known_at_ms
    ]
    windows = []
    times = [*log["exposed_at_ms"], int(log["exposed_at_ms"].max()) + 7_000]
    for t, at_ms in enumerate(times):
        memory.add_late_gains([gain for gain in late if (times[t - 1] if t else 0) <= gain.known_at_ms < at_ms])
        window = memory.windows(Moment(np.array([0]), np.array([at_ms]), context[t]))
        inputs = naive_inputs(log, criteo, int(at_ms), int(times[t - 1]) if t else None)
        inputs |= {name: values[0].as_py() for name, values in context[t].items()}
        for period, counted in counted_by_channel(criteo).items():
            dense = {row[0]: row[1:] for row in inputs[f"{period}_by_channel"]}
            for k, name in enumerate(counted):
                inputs[f"{period}_{name}_by_channel"] = [dense.get(c, (0, 0, 0))[k] for c in spec.channels]
        windows.append({name: [value] for name, value in inputs.items()} | {"valid": [True], "is_label": [False]})
        expected = encoder.encode(as_table(criteo, spec, windows[-1:], steps=1))
        for name in INPUTS:
            values = getattr(window, name)
            last_step = values[:, -1:] if "L" in name.split("_")[-1] else values
            np.testing.assert_array_equal(last_step, getattr(expected, name), err_msg=f"step {t}: {name}")
        if t < rows:
            row = log.iloc[t]
            memory.observe(
                outcome(0, int(at_ms), "ab".find(row.channel or "-"), [int(row.click), 0], row.cost,
                        **{name: row[name] for name in ("channel", "cpo", "campaign", *categories)}), context[t],
            )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kuairand", "criteo"])
def test_running_totals_give_the_inputs_that_are_computed_from_all_exposures(name):
    """One exposure at a time here, all together in features/point_in_time.py: the same inputs at every step."""
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=4, rows=80, days=3, seed=7)
    frame = frame.drop_duplicates(["user_id", "exposed_at_ms"]).sort_values(["exposed_at_ms", "user_id"])
    spec = dataclasses.replace(spec_of_all_candidates(dataset), channels=dataset.channels or ("a", "b"))
    as_of_ms = dataset.end_of_day_ms(day(2))
    chunk = user_chunk(frame, dataset, as_of_ms)
    table = point_in_time_steps(chunk, dataset, STRICTLY_BEFORE)
    for period, counted in counted_by_channel(dataset).items():
        lists = table.column(f"{period}_by_channel").combine_chunks()
        for count, counts in zip(counted, dense_counts(lists, counted, spec.channels), strict=True):
            table = table.append_column(f"{period}_{count}_by_channel", pa.array(counts.tolist()))
    steps = {step["exposure_id"]: step for step in table.to_pylist() if step[KIND] == EXPOSURE}
    queries = [step for step in table.to_pylist() if step[KIND] == QUERY]
    users = {user_id: number for number, user_id in enumerate(chunk.user_id_U.to_pylist())}
    encoder = Encoder(spec, dataset)
    memory = JourneyMemory(encoder, dataset, {}, len(users), STEPS)

    def context_of(steps: list[dict]) -> dict[str, pa.Array]:
        columns = dataset.features(Known.BEFORE)
        return {c.name: pa.array([step[c.name] for step in steps], arrow_type(c.dtype)) for c in columns}

    def compare(encoded: Encoded, steps: list[dict]) -> None:
        real = {"valid": [True], "is_label": [False]}
        windows = [{key: [value] for key, value in step.items() if key != "user_id"} | real for step in steps]
        expected = encoder.encode(as_table(dataset, spec, windows, steps=1))
        for field in INPUTS:
            np.testing.assert_array_equal(getattr(encoded, field)[:, -1:], getattr(expected, field), err_msg=field)

    plain = frame.astype(object).where(frame.notna(), None).to_dict("records")
    late_gains = [
        LateGain(users[row["user_id"]], index_of(row["channel"], spec), k, row[dataset.late_gain_times[gain]])
        for row in plain
        for k, gain in enumerate(dataset.gain_names)
        if gain in dataset.late_gains and row[gain]
    ]
    since_ms = 0
    for row in plain:
        at_ms, step = row["exposed_at_ms"], steps[row["exposure_id"]]
        memory.add_late_gains([late for late in late_gains if since_ms <= late.known_at_ms < at_ms])
        since_ms = at_ms
        gains = [0 if gain in dataset.late_gains else row[gain] for gain in dataset.gain_names]
        attributes = {c.name: row[c.name] for c in known_after_columns(dataset) if c.name != "cost"}
        observed = outcome(
            users[row["user_id"]], at_ms, index_of(row["channel"], spec), gains, row["cost"], **attributes
        )
        compare(memory.observe(observed, context_of([step])), [step])
    memory.add_late_gains([late for late in late_gains if since_ms <= late.known_at_ms < as_of_ms])
    moment = Moment(np.arange(len(users)), np.full(len(users), as_of_ms), context_of(queries))
    compare(memory.windows(moment), queries)
    assert len(plain) > 40
    assert bool(late_gains) == bool(dataset.late_gains)


def index_of(channel: str | None, spec: FeatureSpec) -> int:
    return spec.channels.index(channel) if channel in spec.channels else -1


def test_offers_without_an_exposure_leave_no_trace():
    memory = JourneyMemory(Encoder(SPEC, TOY), TOY, {"age": pa.array([30.0, 31.0])}, 2, STEPS)
    two_offers = Outcome(
        np.array([0, 1]), np.array([10, 10]), np.array([0, 0]), np.array([True, False]), np.array([[1, 0], [1, 0]]),
        np.array([5, 5]), {"campaign": ["spring", "summer"]},
    )  # fmt: skip
    memory.observe(two_offers, {"hour": pa.array([1, 1], pa.int32())})
    assert memory.exposures_UA.sum(axis=1).tolist() == [1, 0]
    assert memory.gains_UAG[:, :, 0].sum(axis=1).tolist() == [1, 0]
    window = memory.windows(Moment(np.array([0, 1]), np.array([20, 20]), {"hour": pa.array([1, 1], pa.int32())}))
    assert window.valid_NL.sum(axis=1).tolist() == [2, 1]


def test_time_does_not_run_backwards():
    memory = JourneyMemory(Encoder(SPEC, TOY), TOY, {"age": pa.array([30.0])}, 1, STEPS)
    memory.observe(outcome(0, 10, 0, [0, 0]), hour(1))
    with pytest.raises(UserError, match="in order and at distinct times"):
        memory.windows(Moment(np.array([0]), np.array([10]), hour(1)))


def test_the_moment_must_have_what_the_model_reads():
    memory = JourneyMemory(Encoder(SPEC, TOY), TOY, {"age": pa.array([30.0])}, 1, STEPS)
    with pytest.raises(UserError, match="does not give hour"):
        memory.windows(Moment(np.array([0]), np.array([10])))
