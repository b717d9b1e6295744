"""Random deliveries of logs with separate outcomes, in a folder from which files of built days disappear.

Whatever was removed, the accounts balance, every exposure is published once, and it has the outcomes that a search row
by row gives it.
"""

import random
from pathlib import Path

import pytest
from event_logs import CLICKS, EVENTS
from in_process import Jobs

import schemas.dataset
from jobs.raw.accounts import log_accounts
from jobs.raw.index import stored_index
from lakehouse.lake import Lake

pytestmark = [pytest.mark.spark, pytest.mark.slow]
HOUR_MS = 3_600_000
MIDNIGHT_MS = 1_714_521_600_000  # 2024-05-01 00:00 UTC
DAYS = ["2024-05-01", "2024-05-02", "2024-05-03"]
WORDS = {"cart": "addtocart", "buy": "transaction"}
# An exposure: its key and its time. An outcome: the key that it shares, its time, its gain.
Exposure = tuple[int, int]
Outcome = tuple[int, int, str]


def joined(exposures: list[Exposure], outcomes: list[Outcome]) -> dict[tuple[Exposure, str], int]:
    """The time of the first outcome of each exposure and gain: it belongs to the latest exposure before it."""
    within_ms = {outcome.gain: outcome.within_hours * HOUR_MS for outcome in EVENTS.outcomes}
    times: dict[tuple[Exposure, str], int] = {}
    for key, time, gain in outcomes:
        earlier = [exposure for exposure in exposures if exposure[0] == key and exposure[1] <= time]
        latest = max(earlier, key=lambda exposure: exposure[1], default=None)
        if latest and time - latest[1] <= within_ms[gain]:
            times[latest, gain] = min(time, times.get((latest, gain), time))
    return times


def delivery(draw: random.Random, day: int, exposures: list[Exposure]) -> tuple[list[Exposure], list[Outcome]]:
    """New exposures of the day, and outcomes of the day that belong to these or to earlier ones."""
    start = MIDNIGHT_MS + 24 * day * HOUR_MS
    new = [(draw.randrange(6), start + draw.randrange(24 * HOUR_MS)) for _ in range(draw.randrange(6, 12))]
    outcomes = []
    for _ in range(draw.randrange(3, 9)):
        key, time = draw.choice(exposures + new)
        time = max(time + draw.randrange(26 * HOUR_MS), start)
        if time < start + 24 * HOUR_MS:
            outcomes.append((key, time, draw.choice([*WORDS])))
    return new, outcomes


def write_events(file: Path, exposures: list[Exposure], outcomes: list[Outcome]) -> None:
    rows = [(time, key, "view") for key, time in exposures] + [(time, key, WORDS[gain]) for key, time, gain in outcomes]
    lines = [f"{time},{key % 3},{word},{key}," for time, key, word in sorted(rows)]
    file.write_text("\n".join(["ts,visitor,event,item,order", *lines]) + "\n")


# With 16 and 33, the file of an exposure stays while that of its outcome disappears.
@pytest.mark.parametrize("seed", [0, 1, 16, 33])
def test_no_row_and_no_outcome_is_lost_with_the_files(spark, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"events": EVENTS, "clicks": CLICKS})
    draw, raw, lake = random.Random(seed), tmp_path / "raw", Lake(tmp_path / "lake")
    raw.mkdir()
    jobs = Jobs(spark, lake, "events", monkeypatch)
    exposures: list[Exposure] = []
    outcomes: list[Outcome] = []
    for day in range(len(DAYS)):
        for file in sorted(raw.iterdir()):
            if draw.random() < 0.6:
                file.unlink()
        new_exposures, new_outcomes = delivery(draw, day, exposures)
        exposures, outcomes = exposures + new_exposures, outcomes + new_outcomes
        write_events(raw / f"events-{day}.csv", new_exposures, new_outcomes)
        jobs.ok("build_exposures", "--raw", str(raw), "--accept-few-rows")

    total = log_accounts(stored_index(lake, EVENTS), lambda table, day: lake[table, EVENTS, day].manifest)
    assert (total.delivered, total.unexplained, total.waiting) == (len(exposures) + len(outcomes), 0, {})
    published = [row for day in DAYS for row in lake["exposures", EVENTS, day].read().to_pylist()]
    assert sorted(row["exposed_at_ms"] for row in published) == sorted(time for _, time in exposures)
    expected = {(exposure[1], gain): time for (exposure, gain), time in joined(exposures, outcomes).items()}
    in_lake = {(row["exposed_at_ms"], gain): row[f"{gain}_at_ms"] for row in published for gain in WORDS if row[gain]}
    assert in_lake == expected
