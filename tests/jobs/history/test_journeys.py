"""Journeys day by day are the journeys of the whole history, and the windows cut from them likewise."""

import numpy as np
import pytest
from random_exposures import day, random_exposures, to_spark, typed

from jobs.history.journeys import fold
from jobs.history.windows import cut_windows
from schemas.dataset import get_dataset
from schemas.splits import split_of
from schemas.steps import MEMORY_STEPS, profile_inputs
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale
from schemas.tables.journeys import journeys
from schemas.tables.sequences import sequences

DATASETS = ["kuairand", "criteo"]
DAYS = 4


def spec_of(dataset) -> FeatureSpec:
    """A spec that keeps a category, a number and the profile."""
    return FeatureSpec(
        dataset=dataset.name, first_day=day(0), last_day=day(DAYS - 1), channels=dataset.channels or ("a", "b", "c"),
        gains=dataset.gain_names, gain_weights=tuple(g.weight for g in dataset.gains),
        reward=RewardScale(0.5, 0.0, 1.0),
        features=(
            Feature("hour", "categorical", False, True, vocabulary=("1",)),
            Feature("gap_s", "numeric", False, True, mean=0.0, std=1.0, unit=1.0),
            *(Feature(c.name, "categorical", True, True, vocabulary=("1",)) for c in profile_inputs(dataset)),
        ),
    )  # fmt: skip


def folded(spark, exposures, dataset, until: int):
    """Journeys as of day `until`, each day from the day before; every day's rows go through real bytes."""
    result = None
    for k in range(until + 1):
        today = exposures.where(f"ds = '{day(k)}'")
        found = fold(today, result, dataset, day(k)).to_dataframe().drop("ds")
        result = spark.createDataFrame(found.collect(), journeys(dataset).ddl)
    return result


def by_user(rows) -> dict:
    return {row["user_id"]: row for row in rows.collect()}


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize(("users", "rows"), [(12, 160), (2, 120)])  # (2, 120): more steps than the memory holds
def test_fold_equals_rebuild(spark, name, users, rows):
    dataset = get_dataset(name)
    exposures = to_spark(spark, random_exposures(dataset, users=users, rows=rows, days=DAYS, seed=5), dataset)
    exposures = exposures.where(f"ds != '{day(2)}'")  # a day without rows
    at_once = fold(exposures, None, dataset, day(DAYS - 1)).to_dataframe().drop("ds")
    day_by_day, rebuilt = by_user(folded(spark, exposures, dataset, DAYS - 1)), by_user(at_once)
    assert day_by_day == rebuilt
    assert max(len(row.memory) for row in rebuilt.values()) <= MEMORY_STEPS
    if users == 2:
        assert all(len(row.memory) == MEMORY_STEPS for row in rebuilt.values())


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("n", [5, 20])
def test_windows(spark, name, n):
    """Every exposure but a user's first is a label exactly once, in order, with enough context; days do not matter."""
    dataset = get_dataset(name)
    spec = spec_of(dataset)
    frame = random_exposures(dataset, users=5, rows=110, days=DAYS, seed=6)
    profile = [c.name for c in profile_inputs(dataset)]
    for column in profile_inputs(dataset):  # a person changes: each row has another value
        frame[column.name] = typed(np.arange(len(frame)), column.dtype)
    exposures = to_spark(spark, frame, dataset)
    at_once = cut_windows(exposures, None, dataset, spec, n, [day(k) for k in range(DAYS)]).to_dataframe()
    windows = sorted(at_once.collect(), key=lambda w: (w.user_id, w.ds, w.window))

    order = frame.sort_values(["user_id", "exposed_at_ms", "exposure_id"])
    journeys_of = {u: rows.exposure_id.tolist() for u, rows in order.groupby("user_id")}
    labels = {user: [] for user in journeys_of}
    for w in windows:
        assert len(w.valid) == len(w.is_label) == len(w.exposure_id) == len(w.seen_exposures_by_channel) == n
        assert w.valid == sorted(w.valid)
        assert w.split == split_of(w.user_id)
        real = [e for e, v in zip(w.exposure_id, w.valid, strict=True) if v]
        first = journeys_of[w.user_id].index(real[0])
        assert real == journeys_of[w.user_id][first : first + len(real)]
        of_label = [p for p in range(n) if w.is_label[p]]
        assert of_label
        assert of_label == list(range(of_label[0], n))
        assert {frame.set_index("exposure_id").ds[w.exposure_id[p]] for p in of_label} == {w.ds}
        for p in of_label:
            t = journeys_of[w.user_id].index(w.exposure_id[p])
            assert sum(w.valid[:p]) >= min(t, n / 2)
            assert w.seen_exposures[p] == sum(w.seen_exposures_by_channel[p]) + _unknown_before(frame, w, p)
        labels[w.user_id] += [w.exposure_id[p] for p in of_label]
        assert all(value is None for p in range(n) if not w.valid[p] for value in (w.click[p], w.hour[p], w.gap_s[p]))
    assert labels == {user: ids[1:] for user, ids in journeys_of.items()}

    # As of the window's own day, whatever comes later.
    of_day = order.groupby(["user_id", "ds"])[profile].last()
    assert all([w[c] for c in profile] == of_day.loc[(w.user_id, w.ds)].tolist() for w in windows)

    table = sequences(dataset, spec, n)
    yesterday = folded(spark, exposures, dataset, DAYS - 2)
    today = exposures.where(f"ds = '{day(DAYS - 1)}'")
    daily = cut_windows(today, yesterday, dataset, spec, n, [day(DAYS - 1)]).to_dataframe()
    of_last_day = [w for w in windows if w.ds == day(DAYS - 1)]
    got = sorted(daily.collect(), key=lambda w: (w.user_id, w.ds, w.window))
    assert [[w[c] for c in table.column_names] for w in got] == [
        [w[c] for c in table.column_names] for w in of_last_day
    ]


def _unknown_before(frame, w, p) -> int:
    mine = frame[(frame.user_id == w.user_id) & (frame.exposed_at_ms < w.exposed_at_ms[p])]
    return int(mine.channel.isna().sum())
