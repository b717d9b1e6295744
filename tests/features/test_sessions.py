"""Sessions: their ends, the place of an exposure, the history of its session; without Spark."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_exposures import day, random_exposures
from user_chunks import summaries_of, user_chunk

from features.point_in_time import EXPOSURE, KIND, point_in_time_steps
from features.visibility import STRICTLY_BEFORE
from schemas.candidates import SessionEnd, Sessions
from schemas.dataset import Dataset, get_dataset
from schemas.quality import Quality
from schemas.steps import session_inputs

DAYS = 3
RULES = {
    "gap": Sessions(SessionEnd.GAP, "x", gap_s=1800.0),
    "day": Sessions(SessionEnd.DAY, "x"),
    "column": Sessions(SessionEnd.COLUMN, "x", column="weekday"),
    "never": Sessions(SessionEnd.NEVER, "x"),
}
ANY_RULE = st.sampled_from(sorted(RULES))
SEEDS = st.integers(0, 10_000)


def with_rule(rule: str, name: str = "criteo") -> Dataset:
    dataset = get_dataset(name)
    kept_names = {*dataset.gain_names, *dataset.late_gain_times.values(), "weekday", "hour"}
    columns = tuple(d for d in dataset.columns if d.column.name in kept_names)
    return replace(dataset, columns=columns, sessions=RULES[rule], items=(), objectives=(), quality=Quality())


def steps_of(frame: pd.DataFrame, dataset: Dataset, days: int = 1) -> list[dict]:
    """The session columns of each exposure, computed from `days` chunks, one after another."""
    names = ["user_id", "exposure_id", "exposed_at_ms", *(c.name for c in session_inputs(dataset))]
    rows, summaries = [], None
    for first in range(0, DAYS, DAYS // days):
        last = first + DAYS // days - 1
        part = frame[(frame.ds >= day(first)) & (frame.ds <= day(last))]
        chunk = user_chunk(part, dataset, dataset.end_of_day_ms(day(last)), summaries)
        steps = point_in_time_steps(chunk, dataset, STRICTLY_BEFORE).to_pylist()
        rows += [{name: step[name] for name in names} for step in steps if step[KIND] == EXPOSURE]
        summaries = summaries_of(chunk, dataset)
    return sorted(rows, key=lambda row: (row["user_id"], row["exposed_at_ms"], row["exposure_id"]))


def naive_sessions(frame: pd.DataFrame, dataset: Dataset) -> list[dict]:
    """The same columns, row by row."""
    sessions, rows = dataset.sessions, []
    for user_id, user in frame.sort_values(["exposed_at_ms", "exposure_id"]).groupby("user_id"):
        previous, session = None, []
        for row in user.to_dict("records"):
            is_new = previous is None or {
                SessionEnd.GAP: lambda a, b: b["exposed_at_ms"] - a["exposed_at_ms"] > sessions.gap_s * 1000,
                SessionEnd.DAY: lambda a, b: b["ds"] != a["ds"],
                SessionEnd.COLUMN: lambda a, b: b["weekday"] != a["weekday"],
                SessionEnd.NEVER: lambda a, b: False,
            }[sessions.end](previous, row)
            session = [row] if is_new else [*session, row]
            began_ms, now_ms = session[0]["exposed_at_ms"], row["exposed_at_ms"]
            expected = {
                "user_id": user_id,
                "exposure_id": row["exposure_id"],
                "exposed_at_ms": now_ms,
                "session_id": session[0]["exposure_id"],
                "position": len(session) - 1,
                "session_age_s": (now_ms - began_ms) / 1000,
                "session_exposures": int(((user.exposed_at_ms >= began_ms) & (user.exposed_at_ms < now_ms)).sum()),
            }
            for gain in dataset.gain_names:
                known_at = dataset.late_gain_times.get(gain)
                known_ms = user.exposed_at_ms if known_at is None else user[known_at]
                is_gain = (user[gain] == 1) & (known_ms >= began_ms) & (known_ms < now_ms)
                expected[f"session_{gain}"] = int(is_gain.fillna(False).sum())
            rows.append(expected)
            previous = row
    return rows


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(rule=ANY_RULE, seed=SEEDS)
def test_sessions_equal_those_of_an_obvious_loop(rule, seed):
    dataset = with_rule(rule)
    frame = random_exposures(dataset, users=3, rows=60, days=DAYS, seed=seed)
    assert steps_of(frame, dataset) == naive_sessions(frame, dataset)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(rule=ANY_RULE, seed=SEEDS)
def test_a_day_at_a_time_gives_the_same_sessions(rule, seed):
    dataset = with_rule(rule)
    frame = random_exposures(dataset, users=3, rows=60, days=DAYS, seed=seed)
    assert steps_of(frame, dataset, days=DAYS) == steps_of(frame, dataset)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(rule=ANY_RULE, seed=SEEDS)
def test_later_exposures_change_no_earlier_session(rule, seed):
    dataset = with_rule(rule)
    frame = random_exposures(dataset, users=3, rows=60, days=DAYS, seed=seed)
    cut_ms = int(frame.exposed_at_ms.median())
    until_cut = steps_of(frame[frame.exposed_at_ms <= cut_ms], dataset)
    assert until_cut == [row for row in steps_of(frame, dataset) if row["exposed_at_ms"] <= cut_ms]


def test_a_gap_of_exactly_the_limit_does_not_end_a_session():
    dataset = with_rule("gap", "kuairand")
    frame = random_exposures(dataset, users=1, rows=3, days=1, seed=0)
    start = int(frame.exposed_at_ms.min())
    frame["exposed_at_ms"] = [start, start + 1_800_000, start + 3_600_001]
    frame["exposure_id"] = [7, 8, 9]
    frame["ds"] = day(0)
    assert [row["session_id"] for row in steps_of(frame, dataset)] == [7, 7, 9]


@pytest.mark.parametrize("rule", sorted(RULES))
def test_journeys_without_a_session_begin_a_new_one(rule):
    """Journeys that an earlier version of the code has published."""
    dataset = with_rule(rule)
    frame = random_exposures(dataset, users=2, rows=40, days=2, seed=3)
    first = user_chunk(frame[frame.ds == day(0)], dataset, dataset.end_of_day_ms(day(0)))
    summaries = summaries_of(first, dataset)
    rows = summaries.to_pylist()
    for row in rows:
        row["_summary"]["session"] = None
    old_summaries = type(summaries).from_pylist(rows, summaries.schema)
    second = user_chunk(frame[frame.ds == day(1)], dataset, dataset.end_of_day_ms(day(1)), old_summaries)
    steps = [s for s in point_in_time_steps(second, dataset, STRICTLY_BEFORE).to_pylist() if s[KIND] == EXPOSURE]
    first_steps = {step["user_id"]: step for step in reversed(steps)}
    assert len(first_steps) == 2
    assert all(step["session_id"] == step["exposure_id"] for step in first_steps.values())
