"""Separate rows of outcomes: each belongs to one exposure, is a repeat, or has a reason."""

import random
from collections import Counter

import pyarrow as pa
import pytest
from event_logs import EVENTS

from jobs.raw.joins.outcomes import DUPLICATE, JOINED, JOINED_ROW, join_outcomes, join_sorted
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE, typed_schema
from jobs.raw.row_work import OUTCOME, log_rows
from schemas.tables.exposures import matches

HOUR_MS = 3_600_000
WITHIN_MS = {"cart": 2 * HOUR_MS, "buy": 5 * HOUR_MS}
SCHEMA = pa.schema([
    ("_key", pa.int64()), ("_is_quarantined", pa.bool_()), ("exposed_at_ms", pa.int64()), ("_is_outcome", pa.bool_()),
    ("exposure_id", pa.int64()), (OUTCOME, pa.string()), (REASON, pa.string()),
    ("cart", pa.int32()), ("cart_at_ms", pa.int64()), ("buy", pa.int32()), ("buy_at_ms", pa.int64()),
    (JOINED, pa.string()),
])  # fmt: skip


def row(key, hour, row_id, outcome=None, reason=None, cart_at=None):
    is_exposure = outcome is None and reason is None
    return {
        "_key": key, "_is_quarantined": reason is not None, "exposed_at_ms": hour * HOUR_MS,
        "_is_outcome": outcome is not None, "exposure_id": row_id, OUTCOME: outcome, REASON: reason,
        "cart": int(cart_at is not None) if is_exposure else None,
        "cart_at_ms": None if cart_at is None else cart_at * HOUR_MS, "buy": 0 if is_exposure else None,
    }  # fmt: skip


def in_order(rows):
    names = ("_key", "_is_quarantined", "exposed_at_ms", "_is_outcome", "exposure_id")
    return sorted(rows, key=lambda r: (*(r[name] for name in names), r[OUTCOME] or ""))


def joined(rows):
    table = join_sorted(pa.Table.from_pylist(in_order(rows), SCHEMA), WITHIN_MS)
    assert table.schema == SCHEMA
    return table.to_pylist()


def naive(rows):
    """The same, row by row: the gain times of each exposure, and the fate of each outcome."""
    exposures = [r for r in rows if r[OUTCOME] is None and r[REASON] is None]
    times, fates, outcomes_read = {}, [], set()
    for r in in_order(r for r in rows if r[OUTCOME] is not None and r[REASON] is None):
        earlier = [e for e in exposures if e["_key"] == r["_key"] and e["exposed_at_ms"] <= r["exposed_at_ms"]]
        owner = max(earlier, key=lambda e: (e["exposed_at_ms"], e["exposure_id"]), default=None)
        if owner and r["exposed_at_ms"] - owner["exposed_at_ms"] > WITHIN_MS[r[OUTCOME]]:
            owner = None
        row_id = (r["_key"], r["exposed_at_ms"], r["exposure_id"], r[OUTCOME])
        if row_id in outcomes_read:
            fates.append((r[OUTCOME], DUPLICATE))
            continue
        outcomes_read.add(row_id)
        fates.append((r[OUTCOME], JOINED_ROW if owner else None))
        if owner:
            place = (owner["_key"], owner["exposed_at_ms"], owner["exposure_id"], f"{r[OUTCOME]}_at_ms")
            times[place] = min(times.get(place, r["exposed_at_ms"]), r["exposed_at_ms"])
    return times, fates


@pytest.mark.parametrize("seed", range(60))
def test_outcomes_join_as_a_search_row_by_row_joins_them(seed):
    draw = random.Random(seed)
    rows = []
    for _ in range(draw.randint(1, 60)):
        kind = draw.choice([None, None, "cart", "buy"])
        reason = "broken" if draw.random() < 0.1 else None
        rows += [row(draw.randint(0, 3), draw.randint(0, 40), draw.randint(0, 3), kind, reason)] * draw.choice(
            [1, 1, 2]
        )
    draw.shuffle(rows)
    times, fates = naive(rows)
    result = joined(rows)

    assert len(result) == len(rows)
    outcomes = [r for r in result if r[OUTCOME] and r["_is_quarantined"] is False]
    assert Counter((r[OUTCOME], r[JOINED]) for r in outcomes) == Counter(fates)
    assert {r[REASON] for r in outcomes if r[JOINED] is None} <= {
        "no exposure for this cart in the 2 hours before it", "no exposure for this buy in the 5 hours before it"
    }  # fmt: skip
    assert all(r[REASON] is None for r in outcomes if r[JOINED])
    for r in result:
        if r[OUTCOME] is None and not r["_is_quarantined"]:
            for gain in WITHIN_MS:
                time = times.get((r["_key"], r["exposed_at_ms"], r["exposure_id"], f"{gain}_at_ms"))
                assert (r[gain], r[f"{gain}_at_ms"]) == (int(time is not None), time)
    unchanged = [r for r in result if r["_is_quarantined"]]
    assert Counter(map(str, unchanged)) == Counter(str(dict.fromkeys(SCHEMA.names) | r) for r in rows if r[REASON])


def test_an_exposure_keeps_a_gain_that_it_has_already():
    """A row that was published before its file was removed."""
    result = joined([row(1, 0, 1, cart_at=1), row(1, 2, 9, "cart")])
    assert (result[0]["cart"], result[0]["cart_at_ms"]) == (1, HOUR_MS)


def test_all_copies_of_an_exposure_have_the_gain_of_one_of_them():
    copies = joined([row(1, 0, 5, cart_at=1), row(1, 0, 5), row(1, 1, 6), row(1, 2, 7, "buy")])
    exposures = [(r["exposure_id"], r["cart"], r["cart_at_ms"]) for r in copies if r[OUTCOME] is None]
    assert exposures == [(5, 1, HOUR_MS), (5, 1, HOUR_MS), (6, 0, None)]


def test_an_outcome_at_the_time_of_its_exposure_belongs_to_it():
    result = joined([row(1, 3, 5), row(1, 3, 2, "buy"), row(1, 2, 4)])
    assert [(r["exposure_id"], r["buy"]) for r in result if r[OUTCOME] is None] == [(4, 0), (5, 1)]


def event(hour, kind, item=1):
    return {"ts": hour * HOUR_MS, "visitor": 1, "event": kind, "item": item, "order": None}


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_a_log_are_joined_in_any_order(seed):
    rows = [
        event(1, "view"), event(2, "addtocart"), event(3, "view"), event(4, "transaction"), event(5, "addtocart"),
        event(6, "addtocart"), event(4, "view", 2),
    ]  # fmt: skip
    random.Random(seed).shuffle(rows)
    raw = {REASON: None, RAW: b"", SOURCE: "events.csv"}
    table = log_rows(pa.Table.from_pylist([row | raw for row in rows], typed_schema(EVENTS.log)), EVENTS, {})
    for match in range(len(matches(EVENTS))):
        table = join_outcomes(table, EVENTS, match)
    views = {
        (row["exposed_at_ms"] // HOUR_MS, row["cart_at_ms"], row["buy_at_ms"])
        for row in table.to_pylist()
        if row[OUTCOME] is None
    }
    assert views == {(1, 2 * HOUR_MS, None), (3, 5 * HOUR_MS, 4 * HOUR_MS), (4, None, None)}
    lone = [row["exposed_at_ms"] // HOUR_MS for row in table.to_pylist() if row[REASON]]
    assert lone == [6]  # more than two hours after the view


def test_which_copy_of_a_lone_outcome_is_quarantined_does_not_depend_on_the_order_of_files():
    copies = [event(2, "addtocart") | {REASON: None, RAW: raw, SOURCE: name} for raw, name in
              ((b"x", "a.csv"), (b"x", "b.csv"), (b"w", "b.csv"))]  # fmt: skip
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        table = pa.Table.from_pylist([copies[k] for k in order], typed_schema(EVENTS.log))
        joined_rows = join_outcomes(log_rows(table, EVENTS, {}), EVENTS, 0).to_pylist()
        assert [(row[SOURCE], row[RAW]) for row in joined_rows if row[REASON]] == [("a.csv", b"x")]
