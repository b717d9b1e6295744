"""Typed records become exposures: identity, required columns, zones, lookups, contract faults.

All kinds of row are in the log of one invented dataset, which is read once.
"""

import os
from dataclasses import replace

import pytest
from fates import DUPLICATE, EXPOSURE, FATE, QUARANTINED, with_fate

from jobs.raw.files import find_raw_files
from jobs.raw.rows import read_rows
from schemas.contract import Column, Known
from schemas.dataset import Dataset, Derived, Gain, Lookup, RawColumn, RawFile, Refusal
from schemas.errors import UserError
from schemas.times import digits_time, hour_of, iso_time, microseconds, milliseconds, pattern_time, seconds, weekday_of

# Keys with characters that mean something in SQL.
ADS = RawFile("ads", ("ads*.csv",), (RawColumn("ad.no"), RawColumn("brand", "string", nullable=True)))
USERS = RawFile("users", ("users*.csv",), (RawColumn("user", "string"), RawColumn("age"), RawColumn("ver.sion")))
# How the time of a log row is written.
FORMS = {
    "ms": milliseconds("log.sent"),
    "s": seconds("log.sent"),
    "us": microseconds("log.sent"),
    "iso": iso_time("log.sent"),
    "local": iso_time("log.sent", zone="Asia/Shanghai"),
    "digits": digits_time("log.sent", "yyyyMMddHHmmssSSS", zone="Asia/Shanghai"),
    "hours": digits_time("log.sent", "yyMMddHH", zone="America/Sao_Paulo"),
    "german": pattern_time("log.sent", "d.M.yyyy H:mm:ss", zone="Asia/Shanghai"),
    "american": pattern_time("log.sent", "M/d/yyyy h:mm a", zone="America/New_York"),
    "quoted": pattern_time("log.sent", "d MMM yyyy'T'H:mm XX"),
    "naive": "epoch_ms(try_cast(log.sent AS timestamptz))",
    "pattern": "epoch_ms(try_strptime(log.sent, '%Y%m%d%H%M%S'))",
}
AT_MS = "CASE log.form " + " ".join(f"WHEN '{form}' THEN {sql}" for form, sql in FORMS.items()) + " END"
MIXED = Dataset(
    name="mixed",
    title="Every kind of row",
    log=RawFile(
        "log",
        ("shown*.csv",),
        (RawColumn("label", "string"), RawColumn("form", "string"), RawColumn("sent", "string"),
         RawColumn("user", "string"), RawColumn("a d.", nullable=True), RawColumn("spare_ad", nullable=True),
         RawColumn("click", nullable=True)),
    ),
    log_key=("user", "sent", "a d.", "spare_ad"),
    user_id=Derived(Column("user_id", "string", "the user"), "nullif(log.user, 'unknown')"),
    exposed_at_ms=AT_MS,
    timezone="Asia/Shanghai",
    channel="log.form",
    gains=(Gain("click", 1.0),),
    columns=(
        Derived(Column("click", "int", "1 if clicked", Known.AFTER), "cast(log.click AS int)"),
        Derived(Column("brand", "string", "its brand", Known.AFTER, nullable=True), "ads.brand"),
        Derived(Column("age", "int", "the age", Known.BEFORE, nullable=True), "cast(users.age AS int)"),
        Derived(Column("hour", "int", "the hour", Known.BEFORE), hour_of(AT_MS, "Asia/Shanghai")),
        Derived(Column("weekday", "int", "the weekday", Known.BEFORE), weekday_of(AT_MS, "Asia/Shanghai")),
        Derived(Column("label", "string", "of the test", Known.NEVER), "log.label"),
    ),
    lookups=(Lookup(ADS, "ad.no", "a d.", "ad", optional=True),
             Lookup(USERS, "user", "user", "user", newest_by="ver.sion")),
)  # fmt: skip

NOON = 1650600000000  # 2022-04-22 12:00 in Shanghai, 04:00 UTC
# label: form, sent, user, ad, spare_ad, click -> fate, and the time or the reason
CASES = {
    "7 and nothing": ("ms", NOON, "ann", 7, "", 1, EXPOSURE, NOON),
    "nothing and 7": ("ms", NOON, "ann", "", 7, 0, EXPOSURE, NOON),
    "nothing at all": ("ms", NOON, "ann", "", "", 0, EXPOSURE, NOON),
    "7 and 7": ("ms", NOON, "ann", 7, 7, 0, EXPOSURE, NOON),
    "0 and nothing": ("ms", NOON, "ann", 0, "", 0, EXPOSURE, NOON),
    "nothing and 0": ("ms", NOON, "ann", "", 0, 0, EXPOSURE, NOON),
    "a": ("ms", NOON, "ann", 9, "", 1, EXPOSURE, NOON),
    "copy of a": ("ms", NOON, "ann", 9, "", 0, DUPLICATE, NOON),
    "no user": ("ms", NOON, "unknown", 7, "", 0, QUARANTINED, "user_id is missing"),
    "no click": ("ms", NOON, "ann", 8, "", "", QUARANTINED, "click is missing"),
    "no such user": ("ms", NOON, "zoe", 7, "", 0, QUARANTINED, "unknown user"),
    "user with two rows": ("ms", NOON, "two", 7, "", 0, QUARANTINED,
                           "the user's own row: its key has different rows in one file"),
    "no such ad": ("ms", NOON, "ann", 77, "", 0, EXPOSURE, NOON),
    "seconds": ("s", NOON // 1000, "ann", 7, "", 0, EXPOSURE, NOON),
    "fractions": ("s", f"{NOON // 1000}.2504", "ann", 7, "", 0, EXPOSURE, NOON + 250),
    "microseconds": ("us", f"{NOON}999", "ann", 7, "", 0, EXPOSURE, NOON),
    "utc": ("iso", "2022-04-22T04:00:00Z", "ann", 7, "", 0, EXPOSURE, NOON),
    "utc in words": ("iso", "2022-04-22 04:00:00 UTC", "ann", 7, "", 0, EXPOSURE, NOON),
    "offset": ("iso", "2022-04-22 00:00:00.493870-04:00", "ann", 7, "", 0, EXPOSURE, NOON + 493),
    "short offset": ("iso", "2022-04-22 09:30+0530", "ann", 7, "", 0, EXPOSURE, NOON),
    "iso without zone": ("iso", "2022-04-22 12:00:00", "ann", 7, "", 0, QUARANTINED, "the time cannot be read"),
    "clock alone": ("iso", "12:00:00", "ann", 7, "", 0, QUARANTINED, "the time cannot be read"),
    "local": ("local", "2022-04-22 12:00:00", "ann", 7, "", 0, EXPOSURE, NOON),
    "local with zone": ("local", "2022-04-22T04:00:00+00:00", "ann", 7, "", 1, EXPOSURE, NOON),
    "local day": ("local", "2022-04-22", "ann", 7, "", 0, EXPOSURE, NOON - 12 * 3_600_000),
    "digits": ("digits", "20220422120000250", "ann", 7, "", 0, EXPOSURE, NOON + 250),
    "too few digits": ("digits", "20220422120000", "ann", 7, "", 0, QUARANTINED, "the time cannot be read"),
    "no such hour": ("hours", "22042225", "ann", 7, "", 0, QUARANTINED, "the time cannot be read"),
    "hours": ("hours", "22042201", "ann", 7, "", 0, EXPOSURE, NOON),
    "german": ("german", "22.4.2022 12:00:00", "ann", 7, "", 0, EXPOSURE, NOON),
    "no such day": ("german", "32.4.2022 12:00:00", "ann", 7, "", 0, QUARANTINED, "the time cannot be read"),
    "american": ("american", "4/22/2022 12:00 AM", "ann", 7, "", 0, EXPOSURE, NOON),
    "with its zone": ("quoted", "22 Apr 2022T04:00 +0000", "ann", 7, "", 0, EXPOSURE, NOON),
    "naive": ("naive", "2022-04-22 12:00:00", "ann", 7, "", 0, QUARANTINED, "the time has no zone"),
    "not naive": ("naive", "2022-04-22 12:00:00+08:00", "ann", 7, "", 0, EXPOSURE, NOON),
    "pattern without zone": ("pattern", "20220422120000", "ann", 7, "", 0, QUARANTINED, "the time has no zone"),
}  # fmt: skip


def write_csv(path, layout, rows):
    lines = [",".join(column.name for column in layout.columns), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write_csv(folder / "shown.csv", MIXED.log, [(label, *values[:6]) for label, values in CASES.items()])
    write_csv(folder / "ads_b.csv", ADS, [(7, "newer"), (9, "same"), ("x9", "unreadable")])
    write_csv(folder / "ads_a.csv", ADS, [(7, "older"), (8, "eight"), (9, "same"), (9, "same")])
    os.utime(folder / "ads_b.csv", (2_000_000, 2_000_000))
    os.utime(folder / "ads_a.csv", (1_000_000, 1_000_000))
    users = [("ann", 20, 1), ("ann", 30, 3), ("ann", 40, 2), ("unknown", 1, 1), ("two", 1, 5), ("two", 2, 5)]
    write_csv(folder / "users.csv", USERS, users)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    with pytest.MonkeyPatch.context() as patch:
        notes = []
        patch.setattr("builtins.print", lambda *words, **_: notes.append(" ".join(words)))
        fated = with_fate(read_rows(MIXED, find_raw_files(MIXED, folder)), MIXED)
    return fated, notes


def label_of(row):
    """The first field: of a quarantined row, only its raw form is sure to be filled."""
    raw = row["_raw"] or b""
    return row.label or (raw if isinstance(raw, str) else bytes(raw).decode()).split(",")[0]


def test_every_row_has_its_fate(rows):
    fates = {label_of(row): row for row in rows[0]}
    assert fates.keys() == CASES.keys()
    outcomes = {
        label: (row[FATE], row["_reason"] if row[FATE] == QUARANTINED else row.exposed_at_ms)
        for label, row in fates.items()
    }
    # The reason of a time without a zone goes on with an advice.
    outcomes = {
        label: (fate, value[:20] if isinstance(value, str) and "zone" in value else value)
        for label, (fate, value) in outcomes.items()
    }
    assert outcomes == {label: values[6:] for label, values in CASES.items()}


def test_the_hour_is_the_one_on_the_clocks_of_the_zone(rows):
    by_label = {row.label: row for row in rows[0]}
    assert (by_label["utc"].hour, by_label["utc"].weekday, by_label["utc"]["ds"]) == (12, 4, "2022-04-22")
    assert (by_label["local day"].hour, by_label["local day"]["ds"]) == (0, "2022-04-22")


def test_a_lookup_may_be_optional_and_its_newest_row_counts(rows):
    by_label = {row.label: row for row in rows[0]}
    assert {label: by_label[label].brand for label in ("7 and nothing", "nothing and 7", "no such ad", "a")} == {
        "7 and nothing": "newer", "nothing and 7": None, "no such ad": None, "a": "same",
    }  # fmt: skip
    assert by_label["utc"].age == 30  # the largest version


def test_each_fault_of_a_lookup_is_one_line(rows):
    assert sorted(rows[1]) == [
        "note: ads: different rows of 1 key; the row of the newest file counts",
        "note: ads: no key can be read in 1 row, most often because: ad.no is not a whole number: x9 (ads_b.csv)",
        "note: users: different rows of 1 key in one file: refused",
        "note: users: different rows of 1 key; the row of the largest ver.sion counts",
    ]


FAULTS = [
    ({"channel": "log.form || frm"}, "dataset mixed, channel: .*frm.* in: log.form"),
    ({"channel": "nosuchfunction(log.form)"}, "dataset mixed, channel: .*nosuchfunction"),
    ({"channel": "log.form +"}, "dataset mixed, channel: .*log.form"),
    ({"refusals": (Refusal("odd", "log.click"),)}, "dataset mixed, refusal 'odd': it must be a condition"),
    ({"cost": "log.form"}, "dataset mixed, cost: it must be a number, and its type is string: use try_cast"),
    ({"lookups": (replace(MIXED.lookups[0], duckdb_sql="SELECT nothing FROM ads"), MIXED.lookups[1])},
     "dataset mixed, the SELECT of a lookup: .*nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "problem"), FAULTS, ids=[problem for _, problem in FAULTS])
def test_an_expression_that_duckdb_refuses_is_named(folder, fields, problem):
    dataset = replace(MIXED, **fields)
    with pytest.raises(UserError, match=problem) as caught:
        read_rows(dataset, find_raw_files(dataset, folder))
    assert "\n" not in str(caught.value)
