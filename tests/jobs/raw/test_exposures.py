"""Every raw row has one fate: an exposure, a duplicate, or refused with a reason."""

from dataclasses import replace

import pyarrow as pa
import pytest
from fates import DUPLICATE, FATE, KEPT, REFUSED, with_fate
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

from jobs.raw.exposures import DS, RAW, REASON, days_of, log_span, with_reason, without_copies
from jobs.raw.files import find_raw_files, read_raw
from schemas.dataset import get_dataset
from schemas.errors import UserError

HOUR_MS = 3_600_000
YEARS = "time_ms lies outside the years 2011 to 2110"
SECONDS = "timestamp is not from 0 to 31,622,400"
COST = "cost is not from 0 to 1,000,000,000"


def rows_of(spark, dataset, folder):
    raw = {view: read_raw(spark, files) for view, files in find_raw_files(dataset, folder).items()}
    return with_fate(with_reason(spark, dataset, raw), dataset)


def fates(spark, name, folder):
    return rows_of(spark, get_dataset(name), folder).collect()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"video_id": "abc"}, "video_id is not a whole number: abc"),
        ({"time_ms": "9" * 25}, "time_ms is not a whole number: " + "9" * 25),
        ({"user_id": ""}, "user_id is missing"),
        ({"time_ms": -5}, YEARS),
        ({"time_ms": 0, "date": 19700101}, YEARS),
        ({"time_ms": 1650597047, "date": 19700120}, YEARS),
        ({"time_ms": "9" * 18}, YEARS),
        ({"date": 20221399}, "date is not a day"),
        ({"date": 10**15}, "date is not a day"),
        ({"is_rand": 10**12}, "is_rand is neither 0 nor 1"),
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
        ({"cost": "NaN"}, "cost is not a number: NaN"),
        ({"cost": "Infinity"}, "cost is not a number: Infinity"),
        ({"cost": "1e400"}, "cost is not a number: 1e400"),
        ({"cpo": "NaN"}, "cpo is not a number: NaN"),
        ({"cpo": "-Infinity"}, "cpo is not a number: -Infinity"),
        ({"cost": "-1"}, COST),
        ({"cost": "1e10"}, COST),
        ({"timestamp": -1}, SECONDS),
        ({"timestamp": 10**11}, SECONDS),
        ({"timestamp": 10**18}, SECONDS),
        ({"attribution": 3 * 10**9}, "attribution is neither -1, 0 nor 1"),
        ({"conversion": 1, "click": 1, "conversion_timestamp": 10**18}, "conversion_timestamp is above 63,244,800"),
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


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"exposed_at_ms": "nullif(log.time_ms, 7)"}, {"time_ms": 7}),
        ({}, {"time_ms": -1}),
        ({}, {"time_ms": 2**43 - 86_400_000}),  # its day's end would not fit beside a user
        ({}, {"time_ms": "9" * 18}),
    ],
)
def test_a_row_without_a_day_is_refused_though_its_contract_forgets_to(spark, tmp_path, changes, bad):
    forgetful = replace(get_dataset("kuairand"), refusals=(), **changes)
    rows = rows_of(spark, forgetful, write_kuairand(tmp_path, [kuairand_row(), kuairand_row(**bad)])).collect()
    assert sorted((row[FATE], row[REASON], row[DS] is None) for row in rows) == [
        (KEPT, None, False), (REFUSED, "the time cannot be read", True),
    ]  # fmt: skip


@pytest.mark.parametrize("cost", ["cast('NaN' AS double)", "-1D", "1e9 + 1", "cast(NULL AS double)"])
def test_a_cost_that_cannot_be_summed_is_refused_in_every_dataset(spark, tmp_path, cost):
    costly = replace(get_dataset("kuairand"), cost=cost)
    (row,) = rows_of(spark, costly, write_kuairand(tmp_path, [kuairand_row()])).collect()
    assert (row[FATE], row[REASON]) == (REFUSED, COST)


def test_refused_rows_have_no_say_in_how_long_the_log_is(spark, tmp_path):
    log = [kuairand_row(), kuairand_row(time_ms=0), kuairand_row(is_click=9, time_ms=1650597047647 + 30 * 24 * HOUR_MS)]
    rows = rows_of(spark, get_dataset("kuairand"), write_kuairand(tmp_path, log))
    span = rows.agg(*log_span()).first()
    assert (span["rows"], *days_of(span, rows)) == (3, "2022-04-22", "2022-04-22")


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ([kuairand_row(is_click=2), kuairand_row(is_click=3), "garbage"],
         "all 3 are refused, most often because: is_click is neither 0 nor 1"),
        ([], "it is empty"),
    ],
)  # fmt: skip
def test_a_log_without_a_usable_row_is_an_error_that_says_why(spark, tmp_path, log, why):
    rows = rows_of(spark, get_dataset("kuairand"), write_kuairand(tmp_path, log))
    with pytest.raises(UserError, match=why):
        days_of(rows.agg(*log_span()).first(), rows)


@pytest.mark.parametrize("rows_at_once", [1, 2, 10])
def test_copies_are_found_however_the_rows_come(rows_at_once):
    rows = pa.table({
        "user_id": ["ann", "ann", "ann", "ann", "bob", "bob"],
        "exposed_at_ms": [1, 1, 1, 2, 2, 2],
        "exposure_id": [7, 7, 7, 7, 7, 8],
        "value": [1, 2, 3, 4, 5, 6],
    })  # fmt: skip
    found = pa.concat_tables(without_copies(iter(rows.to_batches(rows_at_once))))
    assert found["value"].to_pylist() == [1, 4, 5, 6]
