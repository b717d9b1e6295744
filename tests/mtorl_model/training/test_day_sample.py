"""The samples of a day: the day and a limited replay, only training users, equal in every run."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
import synthetic
from lakes import republish

from lakehouse.lake import Lake
from lakehouse.reading import consistent_read
from mtorl_model.data.delayed_feedback import FeedbackConfig
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.reading import draw_windows
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import DaySample, draw_day, mixed_batches, quotas, replay_days, steps_of
from schemas.dataset import get_dataset
from schemas.days import day_plus, days_between
from schemas.errors import Busy

CRITEO = get_dataset("criteo")
CONFIG = FineTuneConfig(batch_size=16, replay_days=2, device="cpu")
FIRST, LAST = "2022-04-10", "2022-04-14"


@pytest.fixture(scope="module")
def criteo_lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Encoder]:
    lake, spec = synthetic.write_lake(tmp_path_factory.mktemp("criteo"), "criteo", FIRST, LAST, users=30)
    return lake, Encoder(spec, CRITEO)


@pytest.fixture(autouse=True)
def calendar(monkeypatch: pytest.MonkeyPatch) -> None:
    """All synthetic lakes begin at the same time stamp, whatever the names of their days."""
    days = days_between(FIRST, LAST)
    monkeypatch.setattr(
        type(CRITEO), "end_of_day_ms",
        lambda self, day: synthetic.FIRST_DAY_MS + (days.index(day) + 1) * synthetic.DAY_MS,
    )  # fmt: skip


def draw(lake: Lake, encoder: Encoder, day: str = "2022-04-13", config: FineTuneConfig = CONFIG) -> DaySample:
    return draw_day(lake, encoder, CRITEO, day, config, FeedbackConfig("none"))


def days_of(sample: DaySample) -> list[str]:
    """The days of which windows were read."""
    return sorted({path.rpartition("=")[2] for path in sample.inputs if "/sequences/" in path})


def equal(sample: DaySample, expected: DaySample) -> bool:
    pairs = zip((*sample.new, *sample.replay), (*expected.new, *expected.replay), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_day_always_has_the_same_sample_and_another_day_a_different_one(criteo_lake):
    lake, encoder = criteo_lake
    assert equal(draw(lake, encoder), draw(lake, encoder))
    assert not equal(draw(lake, encoder), draw(lake, encoder, "2022-04-14"))
    batches = [list(mixed_batches(draw(lake, encoder), CONFIG, seed=seed)) for seed in (1, 1, 2)]
    assert all((a.gains_BLG == b.gains_BLG).all() for a, b in zip(batches[0], batches[1], strict=True))
    assert any((a.gains_BLG != b.gains_BLG).any() for a, b in zip(batches[0], batches[2], strict=True))


def test_only_training_users_and_only_earlier_days(criteo_lake):
    lake, encoder = criteo_lake
    sample = draw(lake, encoder, config=replace(CONFIG, replay_days=9))
    assert days_of(sample) == ["2022-04-10", "2022-04-11", "2022-04-12", "2022-04-13"]
    splits = lake["sequences", "criteo", "2022-04-13"].read(["split"]).column("split").to_pylist()
    assert len(sample.new.valid_NL) == splits.count("train") < len(splits)


def test_a_conversion_of_a_later_day_is_a_label_only_from_that_day_on(criteo_lake):
    lake, encoder = criteo_lake
    today = draw(lake, encoder, "2022-04-12", replace(CONFIG, replay_days=9, max_steps=10_000))
    # Two days later more conversions of the replayed windows are known.
    later = draw(lake, encoder, "2022-04-14", replace(CONFIG, replay_days=9, max_steps=10_000, passes=50))
    conversions = [s.gains_NLG[s.label_NL][:, 1].mean() for s in (today.new, later.replay)]
    final = draw_day(
        lake, encoder, CRITEO, "2022-04-12", replace(CONFIG, max_steps=10_000), FeedbackConfig("none"),
        known_at_ms=2**62,
    ).new  # fmt: skip
    full = final.gains_NLG[final.label_NL][:, 1].mean()
    assert conversions[0] < 0.6 * full
    assert conversions[0] < 0.8 * conversions[1] < full


def test_steps_and_partitions_do_not_grow_with_the_history():
    config = FineTuneConfig()
    days = [day_plus("2019-01-01", k) for k in range(1500)]
    for known in (20, 100, 1500):
        chosen = replay_days(days[:known], days[known - 1], config.recent_days, config, np.random.default_rng(0))
        assert len(set(chosen)) == len(chosen) <= config.replay_days
        assert chosen == sorted(chosen)
        assert chosen[-1] < days[known - 1]
    recent = [d for d in chosen if d >= day_plus(days[-1], -config.recent_days)]
    assert len(recent) == config.replay_days // 2
    assert steps_of(10**9, config) == config.max_steps
    assert steps_of(0, config) == 0


def test_every_batch_has_its_share_of_replayed_windows(criteo_lake):
    lake, encoder = criteo_lake
    sample = draw(lake, encoder)
    marked = sample._replace(
        new=sample.new._replace(reward_NL=np.full_like(sample.new.reward_NL, 1.0)),
        replay=sample.replay._replace(reward_NL=np.full_like(sample.replay.reward_NL, 0.0)),
    )
    batches = list(mixed_batches(marked, replace(CONFIG, replay_share=0.25), seed=0))
    assert {len(b.reward_BL) for b in batches} == {16}
    assert {int(b.reward_BL[:, 0].sum()) for b in batches} == {12}
    assert len(batches) == steps_of(len(sample.new.valid_NL), replace(CONFIG, replay_share=0.25))
    without_replay = marked._replace(replay=marked.replay.take(slice(0, 0)))
    assert all(b.reward_BL.all() for b in itertools.islice(mixed_batches(without_replay, CONFIG, seed=0), 3))


@pytest.mark.parametrize("table", ["sequences", "steps", "exposures"])
@pytest.mark.parametrize("day", ["2022-04-13", "2022-04-12"])  # the day itself, a day of the replay
def test_a_partition_that_is_replaced_while_it_is_read_raises_busy(criteo_lake, tmp_path, monkeypatch, table, day):
    """Otherwise the steps of one edition could be read as those of another."""
    shutil.copytree(criteo_lake[0].root, tmp_path / "lake")
    lake, encoder = Lake(tmp_path / "lake"), criteo_lake[1]

    def replacing(*args):
        drawn = draw_windows(*args)
        republish(lake[table, "criteo", day], reverse=True)
        return drawn

    with monkeypatch.context() as patch:
        patch.setattr("mtorl_model.training.day_sample.draw_windows", replacing)
        with pytest.raises(Busy, match=f"ds={day} was published again while it was read: run again"):
            draw(lake, encoder, config=replace(CONFIG, replay_days=9))


def test_a_file_that_was_removed_after_it_was_replaced_raises_busy(criteo_lake, tmp_path):
    shutil.copytree(criteo_lake[0].root, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    partition = lake["sequences", "criteo", "2022-04-13"]

    def read() -> None:
        with consistent_read([partition]):
            listed = partition.files()
            republish(partition)
            listed[0].unlink()  # as `vacuum` does
            listed[0].read_bytes()

    with pytest.raises(Busy, match="was published again"):
        read()
    with pytest.raises(FileNotFoundError), consistent_read([partition]):
        (partition.path / "none").read_text()


def test_the_latest_windows_are_of_training_users_of_the_day_and_of_days_before_it(criteo_lake, tmp_path):
    shutil.copytree(criteo_lake[0].root, tmp_path / "lake")
    lake, encoder = Lake(tmp_path / "lake"), criteo_lake[1]
    day, day_before = "2022-04-13", "2022-04-12"
    rows = {d: lake["sequences", "criteo", d].require().rows for d in (day, day_before)}
    synthetic.publish_propensities(lake, CRITEO, day, lambda _: 0.25)

    def latest(windows: int) -> DaySample:
        config = replace(CONFIG, latest_windows=windows, fewest_latest_days=1)
        return draw_day(lake, encoder, CRITEO, day, config, FeedbackConfig("none"), with_latest=True)

    one_day, two_days = latest(rows[day]), latest(rows[day] + 1)
    train = lake["sequences", "criteo", day].read(["split"]).column("split").to_pylist().count("train")
    assert len(one_day.latest) == train
    labels = one_day.latest.windows.label_NL
    np.testing.assert_array_equal(one_day.latest.propensity_NL(slice(None)), np.where(labels, np.float32(0.25), 0))
    assert len(np.unique(one_day.latest.user_N)) < len(one_day.latest)  # users have several windows
    assert len(two_days.latest) > train
    assert lake["exposures", "criteo", day].key in one_day.inputs
    assert lake["sequences", "criteo", day_before].key in two_days.inputs
    assert equal(one_day, draw(lake, encoder))  # the other samples do not change
    assert len(draw(lake, encoder).latest) == 0


def test_a_large_day_is_not_all_that_is_learned_from(criteo_lake):
    lake, encoder = criteo_lake
    day, days_before = "2022-04-13", ("2022-04-11", "2022-04-12")
    config = replace(CONFIG, latest_windows=30, fewest_latest_days=3)
    assert min(lake["sequences", "criteo", d].require().rows for d in (day, *days_before)) > 30  # each would be enough
    sample = draw_day(lake, encoder, CRITEO, day, config, FeedbackConfig("none"), with_latest=True)
    assert len(sample.latest) == 30
    assert {lake["sequences", "criteo", d].key for d in (day, *days_before)} <= set(sample.inputs)


@pytest.mark.parametrize(
    ("rows", "total", "expected"),
    [
        ([100_000, 100_000, 100_000], 60_000, [20_000, 20_000, 20_000]),
        ([1_000, 500_000, 2_000], 60_000, [1_000, 57_000, 2_000]),  # the large day fills up what small days lack
        ([5, 7], 60_000, [5, 7]),
        ([3, 3], 5, [2, 3]),
        ([], 10, []),
    ],
)
def test_each_day_gives_as_many_windows_as_the_others_or_all_that_it_has(rows, total, expected):
    assert quotas(rows, total) == expected
