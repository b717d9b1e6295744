"""Every raw row is an exposure, a duplicate, or quarantined with a reason.

The rows of each dataset are read together, since no row depends on another one, apart from duplicates.
"""

from dataclasses import replace

import pytest
from fates import DUPLICATE, EXPOSURE, FATE, QUARANTINED, with_fate
from raw_logs import criteo_row, kuairand_row, write_criteo, write_kuairand

from jobs.raw.files import find_raw_files
from jobs.raw.reader.typed_rows import RAW, REASON
from jobs.raw.row_work import DS
from jobs.raw.rows import read_rows
from schemas.dataset import get_dataset

HOUR_MS = 3_600_000
NOON_MS = 1650597047647  # 11:10 in Shanghai on 2022-04-22
MIDNIGHT_MS = 1650556800000  # 00:00 in Shanghai on the same day
YEARS = "time_ms is outside the years 2022 to 2023"
SECONDS = "timestamp is not from 0 to 31,622,400"
COST = "cost is not from 0 to 1,000,000,000"

GOOD_KUAIRAND = kuairand_row()
BAD_KUAIRAND = {
    kuairand_row(**values): reason
    for values, reason in (
        ({"video_id": "abc"}, "video_id is not a whole number: abc"),
        ({"time_ms": "9" * 25}, "time_ms is not a whole number: " + "9" * 25),
        ({"user_id": ""}, "user_id is missing"),
        ({"time_ms": -5}, YEARS),
        ({"time_ms": 0, "date": 19700101}, YEARS),
        ({"time_ms": 1650597047, "date": 19700120}, YEARS),
        ({"time_ms": "9" * 18}, YEARS),
        ({"time_ms": NOON_MS + 1461 * 24 * HOUR_MS, "date": 20260422}, YEARS),
        ({"date": 20221399}, "date is not a day"),
        ({"date": 10**15}, "date is not a day"),
        ({"is_rand": 10**12}, "is_rand is neither 0 nor 1"),
        ({"user_id": 77}, "unknown user"),
        ({"video_id": 77}, "unknown video"),
        ({"is_click": 2}, "is_click is neither 0 nor 1"),
        ({"date": 20220501}, "date and time_ms are more than a day apart"),
        ({"is_click": 9, "time_ms": NOON_MS + 30 * 24 * HOUR_MS}, "is_click is neither 0 nor 1"),
    )
} | {
    "1,2,3": "the row has 3 of 19 fields",
    f"{kuairand_row()},5": "the row has more than 19 fields",
    "garbage": "the row has 1 of 19 fields",
}
CHANNELS = {10: "short", 11: "mid", 12: "long", 13: None}
BY_VIDEO = {v: kuairand_row(video_id=v, time_ms=NOON_MS + 1, is_click=1, play_time_ms=2500) for v in CHANNELS}
AT_MIDNIGHT = kuairand_row(time_ms=MIDNIGHT_MS)
BEFORE_MIDNIGHT = kuairand_row(time_ms=MIDNIGHT_MS - 1, video_id=11)
# Three deliveries of one exposure, in two orders.
DUPLICATES = [
    [kuairand_row(user_id=2, video_id=v, play_time_ms=played) for played in order]
    for v, order in ((10, (10, 20, 10)), (11, (20, 10, 10)))
]

BAD_CRITEO = {
    criteo_row(**values): reason
    for values, reason in (
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
    )
}
CONVERTED = criteo_row(timestamp=86_400 + 7200, click=1, conversion=1, conversion_timestamp=86_400 * 3, cost=0.25)
UNCONVERTED = criteo_row(timestamp=0)


def rows_of(dataset, folder):
    return with_fate(read_rows(dataset, find_raw_files(dataset, folder)), dataset)


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory):
    """The rows of the KuaiRand log by their text."""
    duplicates = [line for deliveries in DUPLICATES for line in deliveries]
    log = [GOOD_KUAIRAND, *BAD_KUAIRAND, "", *BY_VIDEO.values(), AT_MIDNIGHT, BEFORE_MIDNIGHT, *duplicates]
    return by_text(rows_of(get_dataset("kuairand"), write_kuairand(tmp_path_factory.mktemp("kuairand"), log)))


@pytest.fixture(scope="module")
def criteo(tmp_path_factory):
    """The rows of the Criteo log by their text."""
    folder = write_criteo(tmp_path_factory.mktemp("criteo"), [*BAD_CRITEO, CONVERTED, UNCONVERTED])
    return by_text(rows_of(get_dataset("criteo"), folder))


def by_text(fated) -> dict[str, list]:
    rows: dict[str, list] = {}
    for row in fated:
        rows.setdefault(row[RAW].decode(), []).append(row)
    return rows


@pytest.mark.parametrize("bad", BAD_KUAIRAND)
def test_a_bad_kuairand_row_is_quarantined_with_its_reason(kuairand, bad):
    (row,) = kuairand[bad]
    assert (row[FATE], row[REASON]) == (QUARANTINED, BAD_KUAIRAND[bad])


@pytest.mark.parametrize("bad", BAD_CRITEO)
def test_a_bad_criteo_row_is_quarantined_with_its_reason(criteo, bad):
    (row,) = criteo[bad]
    assert (row[FATE], row[REASON]) == (QUARANTINED, BAD_CRITEO[bad])


def test_every_row_has_one_fate_and_empty_lines_are_skipped(kuairand, criteo):
    rows = sum(len(group) for group in kuairand.values())
    assert rows == 1 + len(BAD_KUAIRAND) + len(BY_VIDEO) + 2 + 6
    assert "" not in kuairand
    assert sum(len(group) for group in criteo.values()) == len(BAD_CRITEO) + 2


def test_a_quarantined_row_is_no_duplicate_of_a_good_one(kuairand):
    (good,) = kuairand[GOOD_KUAIRAND]
    (bad,) = kuairand[kuairand_row(is_click=2)]
    assert good.exposure_id == bad.exposure_id
    assert (good[FATE], bad[FATE]) == (EXPOSURE, QUARANTINED)


@pytest.mark.parametrize("deliveries", DUPLICATES)
def test_duplicates_are_counted_and_the_same_row_is_kept_in_any_order(kuairand, deliveries):
    rows = [row for text in set(deliveries) for row in kuairand[text]]
    assert sorted(row[FATE] for row in rows) == [DUPLICATE, DUPLICATE, EXPOSURE]
    assert [row.play_time_ms for row in rows if row[FATE] == EXPOSURE] == [20.0]


def test_kuairand_columns(kuairand):
    rows = {video: row for video, text in BY_VIDEO.items() for row in kuairand[text]}
    assert {video: row.channel for video, row in rows.items()} == CHANNELS
    assert rows[10].propensity == pytest.approx(1 / 4)  # one of four videos in the pool is short
    assert rows[13].propensity is None or rows[13].channel is None
    assert (rows[10].watched_share, rows[13].watched_share) == (0.5, None)
    assert (rows[10].click, rows[10].long_view, rows[10].hour, rows[10].weekday) == (1, 0, 11, 4)
    assert rows[10][DS] == "2022-04-22"


def test_the_day_follows_from_the_time_stamp_in_the_logs_own_calendar(kuairand):
    for text, day in ((AT_MIDNIGHT, "2022-04-22"), (BEFORE_MIDNIGHT, "2022-04-21")):
        (row,) = kuairand[text]
        assert (row[DS], row[FATE]) == (day, EXPOSURE)  # `date` may be a day later


def test_criteo_columns(criteo):
    (late,), (early,) = criteo[CONVERTED], criteo[UNCONVERTED]
    assert (late[FATE], early[FATE]) == (EXPOSURE, EXPOSURE)
    assert (late[DS], early[DS]) == ("2017-01-02", "2017-01-01")
    assert late.conversion_at_ms - late.exposed_at_ms == (2 * 86_400 - 7200) * 1000
    assert (early.conversion, early.conversion_at_ms, early.click_pos, early.time_since_last_click_s) == (
        0, None, None, None,
    )  # fmt: skip
    assert (late.channel, late.cost, late.hour) == ("3", 0.25, 2)


WITHOUT_TIME = [
    kuairand_row(time_ms=time_ms)
    for time_ms in (
        7,
        -1,
        2**43 - 86_400_000,  # the end of its day would not fit into a number with the user
        "9" * 18,
    )
]
COSTS = {2: "cast('NaN' AS double)", 3: "-1", 4: "1e9 + 1", 5: "cast(NULL AS double)"}
WITH_BAD_COST = [kuairand_row(tab=tab) for tab in COSTS]


def test_rows_without_a_day_or_with_a_cost_that_cannot_be_summed_are_quarantined_in_every_dataset(tmp_path):
    """The contract of this dataset has no refusals; its costs depend on the column `tab`."""
    costs = " ".join(f"WHEN {tab} THEN {sql}" for tab, sql in COSTS.items())
    dataset = replace(
        get_dataset("kuairand"),
        refusals=(),
        exposed_at_ms="nullif(log.time_ms, 7)",
        cost=f"CASE log.tab {costs} ELSE 0 END",
    )
    log = [GOOD_KUAIRAND, *WITHOUT_TIME, *WITH_BAD_COST]
    rows = by_text(rows_of(dataset, write_kuairand(tmp_path, log)))
    fates = {text: (row[FATE], row[REASON], row[DS]) for text, (row,) in rows.items()}
    assert fates == {
        GOOD_KUAIRAND: (EXPOSURE, None, "2022-04-22"),
        **dict.fromkeys(WITHOUT_TIME, (QUARANTINED, "the time cannot be read", None)),
        **dict.fromkeys(WITH_BAD_COST, (QUARANTINED, COST, "2022-04-22")),
    }
