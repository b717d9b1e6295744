"""Journeys, journey memories and a log of exposures give the same record."""

import numpy as np
import pyarrow as pa
import pytest
from synthetic_journeys import CHANNELS, SPEC, Shown, journeys, toy_dataset

from features.channel_counts import dense_counts
from mtorl_model.budget.click_record import NO_EXPOSURE, ClickRecord, remembered_steps
from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.data.encoding import Encoder
from schemas.steps import MEMORY_STEPS

TOY = toy_dataset()


def random_users(longest: int) -> dict[int, list[Shown]]:
    rng = np.random.default_rng(0)
    lengths = [0, 1, longest, *rng.integers(1, longest, 9)]
    return {
        number: [
            Shown(rng.choice([*CHANNELS, None, "pop-up"]), int(rng.random() < 0.4), int(rng.random() < 0.2))
            for _ in range(length)
        ]
        for number, length in enumerate(lengths)
    }


def index_of(channel: str | None) -> int:
    return CHANNELS.index(channel) if channel in CHANNELS else NO_EXPOSURE


def record_of_log(users: dict[int, list[Shown]]) -> ClickRecord:
    rows = [(u, 60_000 * t, index_of(e.channel), e.click) for u, es in users.items() for t, e in enumerate(es)]
    shuffled = np.random.default_rng(1).permutation(np.array(rows))
    return ClickRecord.from_exposures(*shuffled.T, users=len(users), actions=len(CHANNELS))


def record_of_journeys(users: dict[int, list[Shown]]) -> ClickRecord:
    table = journeys(users)
    seen = pa.chunked_array([table.column("next_step").combine_chunks().field("seen_by_channel")]).combine_chunks()
    exposures, clicks = (n.astype(np.int64) for n in dense_counts(seen, ("exposures", "click"), CHANNELS))
    steps = remembered_steps(table.column("memory").combine_chunks(), "click", CHANNELS)
    return ClickRecord.from_totals(*steps, exposures, clicks)


def record_of_memory(users: dict[int, list[Shown]]) -> ClickRecord:
    memory = JourneyMemory(Encoder(SPEC, TOY), TOY, {"age": pa.array([30.0 + u for u in users])}, len(users), 4)
    for user, exposures in users.items():
        for t, e in enumerate(exposures):
            outcome = Outcome(
                np.array([user]), np.array([60_000 * t]), np.array([index_of(e.channel)]), np.array([True]),
                np.array([[e.click, e.sale]]), np.array([0]),
            )  # fmt: skip
            memory.observe(outcome, {"hour": pa.array([t % 24], pa.int32())})
    return memory.record(np.arange(len(users)))


@pytest.mark.slow
@pytest.mark.parametrize("longest", [9, MEMORY_STEPS + 17])
def test_all_sources_give_the_same_record(longest):
    users = random_users(longest)
    expected = record_of_log(users)
    for record in (record_of_journeys(users), record_of_memory(users)):
        known = expected.channel_NT != NO_EXPOSURE  # the time and click of other steps have no meaning
        np.testing.assert_array_equal(record.channel_NT, expected.channel_NT)
        for name in ("at_ms_NT", "click_NT"):
            np.testing.assert_array_equal(getattr(record, name)[known], getattr(expected, name)[known], err_msg=name)
        for name in ("earlier_exposures_NA", "earlier_clicks_NA"):
            np.testing.assert_array_equal(getattr(record, name), getattr(expected, name), err_msg=name)


def test_every_exposure_in_a_known_channel_counts_once():
    users = random_users(MEMORY_STEPS + 17)
    record = record_of_log(users)
    remembered = (record.channel_NT != NO_EXPOSURE).sum(axis=1) + record.earlier_exposures_NA.sum(axis=1)
    assert remembered.tolist() == [sum(e.channel in CHANNELS for e in exposures) for exposures in users.values()]
    assert record.earlier_exposures_NA.sum() > 5
    assert record.channel_NT[2].tolist() == [index_of(e.channel) for e in users[2][-MEMORY_STEPS:]]
