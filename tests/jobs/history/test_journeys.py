"""Journeys that are folded in any parts are the journeys that are computed from the whole history together."""

import re
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bucket_lake import BucketLake
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from random_exposures import day, random_exposures

import lakehouse.journeys
from jobs import build_journeys
from jobs.history import bucket_exposures, bucket_journeys, journey_summaries
from jobs.history.resume import newest_fresh_journeys_day
from jobs.quality.day_rules import day_bounds_ms
from lakehouse.journeys import read_journeys, snapshot_before
from lakehouse.manifest import DAYS_READ
from lakehouse.storage.data_files import read_file
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError
from schemas.steps import MEMORY_STEPS
from schemas.tables import JOURNEYS
from schemas.tables.journeys import journeys

DAYS = 5


@pytest.mark.slow
@settings(max_examples=15, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    name=st.sampled_from(["kuairand", "criteo"]),
    seed=st.integers(0, 99),
    users=st.integers(1, 12),
    cuts=st.sets(st.integers(1, DAYS - 1)),
    start=st.integers(-1, DAYS - 2),
    chunk_rows=st.integers(1, 80),
    journeys_at_once=st.integers(1, 8),
)
@example(name="criteo", seed=0, users=30, cuts={1, 2, 3, 4}, start=-1, chunk_rows=20, journeys_at_once=3)
@example(name="kuairand", seed=0, users=30, cuts=set(), start=1, chunk_rows=7, journeys_at_once=2)
@example(name="criteo", seed=0, users=2, cuts={2}, start=1, chunk_rows=20, journeys_at_once=9)  # more than the memory
def test_any_fold_gives_the_journeys_of_the_whole_history(
    name, seed, users, cuts, start, chunk_rows, journeys_at_once
):  # fmt: skip
    """With late gains, equal times, and users who are new, or absent on a day. start: day of earlier journeys."""
    frame = random_exposures(get_dataset(name), users=users, rows=120, days=DAYS, seed=seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        lake = BucketLake(Path(folder), get_dataset(name), frame)
        last = lake.days[-1]
        journeys_day = lake.days[start] if 0 <= start < len(lake.days) - 1 else None
        if journeys_day:
            lake.publish_journeys(journeys_day)
        days = [d for d in lake.days if d > (journeys_day or "")]
        patch.setattr(bucket_exposures, "CHUNK_ROWS", chunk_rows)
        for module in (bucket_journeys, journey_summaries):
            patch.setattr(module, "JOURNEYS_PER_READ", journeys_at_once)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(days)), len(days)]
        chunks = [days[a:b] for a, b in pairwise(bounds)]
        folded = read_file(
            lake.lake.table(JOURNEYS, name), lake.build_journeys(last, chunks=chunks, journeys_day=journeys_day)
        )
        lake.publish_journeys(last)
        expected = lake.lake[JOURNEYS, name, last].read()
    assert folded.equals(expected)
    lengths = [len(memory) for memory in folded.column("memory").to_pylist()]
    assert max(lengths) <= MEMORY_STEPS
    if users == 2:
        assert min(lengths) == MEMORY_STEPS


def test_journeys_stay_on_a_day_without_exposures_of_the_bucket(tmp_path):
    criteo = get_dataset("criteo")
    frame = random_exposures(criteo, users=3, rows=60, days=2, seed=2)
    lake = BucketLake(tmp_path, criteo, frame[frame.ds == day(0)])
    lake.publish_journeys(day(0))
    lake.days.append(day(1))
    folded = read_file(lake.lake.table(JOURNEYS, criteo), lake.build_journeys(day(1), journeys_day=day(0)))
    lake.publish_journeys(day(1))
    assert folded.equals(lake.lake[JOURNEYS, criteo, day(1)].read())


@pytest.mark.slow
@settings(max_examples=12, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(
    name=st.sampled_from(["kuairand", "criteo"]),
    seed=st.integers(0, 99),
    users=st.integers(1, 40),
    snapshot_days=st.integers(1, 5),
    built=st.sets(st.integers(0, DAYS - 2)),
    rows_per_read=st.integers(1, 9),
)
@example(name="criteo", seed=0, users=30, snapshot_days=4, built={0, 1, 2, 3}, rows_per_read=4)
@example(name="criteo", seed=0, users=30, snapshot_days=3, built=set(), rows_per_read=4)
def test_journeys_as_of_a_day_are_those_of_the_whole_history(name, seed, users, snapshot_days, built, rows_per_read):
    """Row by row, in any order of building. built: the days that are built before the last one."""
    dataset = get_dataset(name)
    frame = random_exposures(dataset, users=users, rows=100, days=DAYS, seed=seed)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(lakehouse.journeys, "SNAPSHOT_DAYS", snapshot_days)
        lake = BucketLake(Path(folder) / "lake", dataset, frame)
        for number in sorted(k for k in built if k < len(lake.days)):
            lake.update_journeys(lake.days[number])
        lake.update_journeys(lake.days[-1])
        expected = BucketLake(Path(folder) / "expected", dataset, frame)
        columns = journeys(dataset).column_names
        for date in lake.lake.days(JOURNEYS, dataset):
            expected.publish_journeys(date)
            full = expected.lake[JOURNEYS, dataset, date].read()
            tables = list(read_journeys(lake.lake, dataset, date, columns, rows_per_read))
            assert pa.concat_tables(tables).equals(full)
            assert max(map(len, tables)) <= rows_per_read
            written = lake.lake[JOURNEYS, dataset, date].read(["user_id"]).column(0).to_pylist()
            if date != snapshot_before(date, lake.days[0]):
                assert set(written) == changed_users(frame, dataset, date)
            else:
                assert written == full.column("user_id").to_pylist()


def changed_users(frame: pd.DataFrame, dataset: Dataset, date: str) -> set[int]:
    """The users with an exposure on this day, and those of whom a late gain is known since then."""
    start, end = day_bounds_ms(dataset, date)
    changed = set(frame[frame.ds == date].user_id)
    for gain, known_at in dataset.late_gain_times.items():
        times = frame[(frame[gain] == 1) & (frame.ds < date)].set_index("user_id")[known_at].astype("int64")
        changed |= set(times[(times >= start) & (times < end)].index)
    return changed


@pytest.mark.slow
def test_journeys_are_stale_if_exposures_come_while_they_are_built(tmp_path):
    dataset = get_dataset("criteo")
    frame = random_exposures(dataset, users=20, rows=90, days=3, seed=4)
    lake = BucketLake(tmp_path, dataset, frame[frame.index % 5 > 0])
    edition = build_journeys.present_edition(lake.lake, dataset, day(2))
    job = build_journeys.journey_job(lake.lake, dataset, day(2), None)
    stored = list(job(0))
    lake.publish_exposures(day(1), frame)
    build_journeys.publish(lake.lake, job, {date: (file,) for _, date, file in stored}, edition)
    assert newest_fresh_journeys_day(lake.lake, dataset, day(3)) == day(0)
    lake.update_journeys(day(2))
    assert newest_fresh_journeys_day(lake.lake, dataset, day(3)) == day(2)


def test_changed_rows_are_not_read_without_all_rows_before_them(tmp_path):
    """A lake of a version in which each partition has all users, of which the first day is then built again."""
    dataset = get_dataset("criteo")
    lake = BucketLake(tmp_path, dataset, random_exposures(dataset, users=20, rows=90, days=4, seed=4))
    lake.publish_journeys(day(1))
    lake.update_journeys(day(2))
    first, second = (lake.lake[JOURNEYS, dataset, day(k)] for k in (1, 2))
    assert second.require().days[-2:] == [day(1), day(2)]
    with work_folder() as work:
        pq.write_table(first.read(), work / "part-0.parquet")
        first.publish(work, inputs=first.manifest.inputs, code="0", counts={DAYS_READ: 2})
    if second.manifest.days[0] == day(1):
        with pytest.raises(UserError, match=rf"on {day(1)} were published again with changed rows alone"):
            second.require()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(DAYS))
def test_the_query_of_the_docs_reads_all_users(tmp_path, number):
    """Whether a snapshot is near or far, and not the days before it, which may be stale."""
    dataset = get_dataset("kuairand")
    frame = random_exposures(dataset, users=40, rows=120, days=DAYS, seed=3)
    lake = BucketLake(tmp_path / "lake", dataset, frame)
    for date in lake.days:
        lake.update_journeys(date)
    text = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text()
    query = re.search(r"## Journeys as of a day.*?```python\n(.*?)```", text, re.DOTALL)[1]
    settings_of_docs = 'LAKE, DATASET, DAY = "lake", "kuairand", "2022-04-24"'
    assert settings_of_docs in query
    names: dict[str, Any] = {}
    exec(
        query.replace(
            settings_of_docs, f"LAKE, DATASET, DAY = {str(tmp_path / 'lake')!r}, 'kuairand', {day(number)!r}"
        ),
        names,
    )
    columns = ["user_id", "memory", "seen_cost_nano", "session"]
    rows = names["journeys"].order("user_id").select(*columns).to_arrow_table()
    expected = pa.concat_tables(read_journeys(lake.lake, dataset, day(number), columns))
    assert rows.to_pylist() == expected.to_pylist()
