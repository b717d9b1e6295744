"""Windows label each exposure once, and are the same whether their day is built alone or with others."""

import numpy as np
import pytest
from folded_journeys import DAYS, folded
from random_exposures import day, random_exposures, to_spark, typed

from jobs.history.windows import cut_windows
from schemas.dataset import get_dataset
from schemas.splits import split_of
from schemas.steps import profile_inputs
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale
from schemas.tables.sequences import sequences


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


@pytest.mark.parametrize("name", ["kuairand", "criteo"])
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
    all_days = cut_windows(exposures, None, dataset, spec, n, [day(k) for k in range(DAYS)]).to_dataframe()
    windows = sorted(all_days.collect(), key=lambda w: (w.user_id, w.ds, w.window))

    order = frame.sort_values(["user_id", "exposed_at_ms", "exposure_id"])
    journeys = {u: rows.exposure_id.tolist() for u, rows in order.groupby("user_id")}
    day_of = frame.set_index("exposure_id").ds
    labels = {user: [] for user in journeys}
    for w in windows:
        assert len(w.valid) == len(w.is_label) == len(w.exposure_id) == len(w.seen_exposures_by_channel) == n
        assert w.valid == sorted(w.valid)
        assert w.split == split_of(w.user_id)
        real = [e for e, v in zip(w.exposure_id, w.valid, strict=True) if v]
        first = journeys[w.user_id].index(real[0])
        assert real == journeys[w.user_id][first : first + len(real)]
        label_positions = [p for p in range(n) if w.is_label[p]]
        assert label_positions
        assert label_positions == list(range(label_positions[0], n))
        assert {day_of[w.exposure_id[p]] for p in label_positions} == {w.ds}
        for p in label_positions:
            t = journeys[w.user_id].index(w.exposure_id[p])
            assert sum(w.valid[:p]) >= min(t, n / 2)
            assert w.seen_exposures[p] == sum(w.seen_exposures_by_channel[p]) + _unknown_channels(frame, w, p)
        labels[w.user_id] += [w.exposure_id[p] for p in label_positions]
        assert all(value is None for p in range(n) if not w.valid[p] for value in (w.click[p], w.hour[p], w.gap_s[p]))
    assert labels == {user: ids[1:] for user, ids in journeys.items()}

    # As of the window's own day, whatever later days bring.
    last_of_day = order.groupby(["user_id", "ds"])[profile].last()
    assert all([w[c] for c in profile] == last_of_day.loc[(w.user_id, w.ds)].tolist() for w in windows)

    table = sequences(dataset, spec, n)
    earlier_journeys = folded(spark, exposures, dataset, DAYS - 2)
    last_day_exposures = exposures.where(f"ds = '{day(DAYS - 1)}'")
    alone = cut_windows(last_day_exposures, earlier_journeys, dataset, spec, n, [day(DAYS - 1)]).to_dataframe()
    expected = [w for w in windows if w.ds == day(DAYS - 1)]
    actual = sorted(alone.collect(), key=lambda w: (w.user_id, w.ds, w.window))
    assert [[w[c] for c in table.column_names] for w in actual] == [
        [w[c] for c in table.column_names] for w in expected
    ]


def _unknown_channels(frame, w, p) -> int:
    """How many exposures of unknown channel the step at this position sees."""
    seen = frame[(frame.user_id == w.user_id) & (frame.exposed_at_ms < w.exposed_at_ms[p])]
    return int(seen.channel.isna().sum())
