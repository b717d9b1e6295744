"""Every raw row has one fate: an exposure, a duplicate, or refused with a reason."""

import pytest
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

from jobs.exposures import DS, DUPLICATE, FATE, KEPT, RAW, REASON, REFUSED, with_fate
from jobs.raw_files import find_raw_files, read_raw
from schemas.dataset import get_dataset

HOUR_MS = 3_600_000


def fates(spark, name, folder):
    dataset = get_dataset(name)
    raw = {view: read_raw(spark, files) for view, files in find_raw_files(dataset, folder).items()}
    return with_fate(spark, dataset, raw).collect()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"video_id": "abc"}, "video_id is not a whole number: abc"),
        ({"time_ms": "9" * 25}, "time_ms is not a whole number: " + "9" * 25),
        ({"user_id": ""}, "user_id is missing"),
        ({"time_ms": -5}, "time_ms is negative"),
        ({"user_id": 77}, "unknown user"),
        ({"video_id": 77}, "unknown video"),
        ({"is_click": 2}, "is_click is neither 0 nor 1"),
        ({"date": 20220501}, "date and time_ms are more than a day apart"),
    ],
)
def test_a_bad_kuairand_row_is_refused_with_its_reason(spark, tmp_path, values, reason):
    good, bad = kuairand_row(), kuairand_row(**values)
    rows = fates(spark, "kuairand", write_kuairand(tmp_path, [good, bad]))
    assert sorted((row[FATE], row[REASON], row[RAW]) for row in rows if row[FATE] != KEPT) == [(REFUSED, reason, bad)]
    assert [row[RAW] for row in rows if row[FATE] == KEPT] == [good]


@pytest.mark.parametrize("bad", ["1,2,3", kuairand_row() + ",5", "", "garbage"])
def test_a_wrong_number_of_fields_is_refused_as_it_stands(spark, tmp_path, bad):
    rows = fates(spark, "kuairand", write_kuairand(tmp_path, [kuairand_row(), bad]))
    refused = [(row[REASON], row[RAW]) for row in rows if row[FATE] == REFUSED]
    # An empty line is no row at all.
    assert refused == ([("the row does not have 19 fields", bad)] if bad else [])
    assert sum(row[FATE] == KEPT for row in rows) == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"cost": "NaN"}, "cost is negative or not a number"),
        ({"cost": "-1"}, "cost is negative or not a number"),
        ({"timestamp": -1}, "timestamp is negative"),
        ({"conversion": 1, "click": 1}, "a conversion without its time"),
        ({"conversion": 1, "click": 1, "timestamp": 9, "conversion_timestamp": 8}, "a conversion before its exposure"),
        ({"cat8": "x"}, "cat8 is not a whole number: x"),
    ],
)  # fmt: skip
def test_a_bad_criteo_row_is_refused_with_its_reason(spark, tmp_path, values, reason):
    rows = fates(spark, "criteo", write_criteo(tmp_path, [criteo_row(), criteo_row(**values)]))
    assert [row[REASON] for row in rows if row[FATE] == REFUSED] == [reason]


def test_duplicates_are_counted_and_the_same_copy_stays(spark, tmp_path):
    first, second = kuairand_row(play_time_ms=10), kuairand_row(play_time_ms=20)
    for folder, order in (("a", [first, second, first]), ("b", [second, first, first])):
        rows = fates(spark, "kuairand", write_kuairand(tmp_path / folder, order))
        assert sorted(row[FATE] for row in rows) == [DUPLICATE, DUPLICATE, KEPT]
        assert [row.play_time_ms for row in rows if row[FATE] == KEPT] == [20.0]


def test_a_refused_row_is_no_duplicate_of_a_good_one(spark, tmp_path):
    good, bad = kuairand_row(is_click=0), kuairand_row(is_click=7)
    rows = fates(spark, "kuairand", write_kuairand(tmp_path, [bad, good]))
    assert sorted(row[FATE] for row in rows) == [KEPT, REFUSED]


def test_kuairand_columns(spark, tmp_path):
    videos = {10: "short", 11: "mid", 12: "long", 13: None}
    log = [kuairand_row(video_id=v, is_click=1, play_time_ms=2500) for v in videos]
    rows = {row.video_id: row for row in fates(spark, "kuairand", write_kuairand(tmp_path, log))}
    assert {v: row.channel for v, row in rows.items()} == videos
    assert rows[10].propensity == pytest.approx(1 / 4)  # one of four videos in the pool is short
    assert rows[13].propensity is None or rows[13].channel is None
    assert (rows[10].watched_share, rows[13].watched_share) == (0.5, None)
    assert (rows[10].click, rows[10].long_view, rows[10].hour, rows[10].weekday) == (1, 0, 11, 4)
    assert rows[10][DS] == "2022-04-22"


def test_the_day_is_the_one_of_the_time_stamp_in_the_logs_own_calendar(spark, tmp_path):
    midnight = 1650556800000  # 2022-04-22 00:00 in Shanghai
    log = [kuairand_row(time_ms=midnight), kuairand_row(time_ms=midnight - 1, video_id=11)]
    rows = {row.video_id: row for row in fates(spark, "kuairand", write_kuairand(tmp_path, log))}
    assert {v: row[DS] for v, row in rows.items()} == {10: "2022-04-22", 11: "2022-04-21"}
    assert all(row[FATE] == KEPT for row in rows.values())  # the evening before `date` is no error


def test_criteo_columns(spark, tmp_path):
    log = [
        criteo_row(timestamp=86_400 + 7200, click=1, conversion=1, conversion_timestamp=86_400 * 3, cost=0.25),
        criteo_row(timestamp=0),
    ]
    late, early = sorted(fates(spark, "criteo", write_criteo(tmp_path, log)), key=lambda row: -row.exposed_at_ms)
    assert (late[DS], early[DS]) == ("2017-01-02", "2017-01-01")
    assert late.conversion_at_ms - late.exposed_at_ms == (2 * 86_400 - 7200) * 1000
    assert (early.conversion, early.conversion_at_ms, early.click_pos, early.time_since_last_click_s) == (
        0, None, None, None,
    )  # fmt: skip
    assert (late.channel, late.cost, late.hour) == ("3", 0.25, 2)
