"""Bring your own log: a contract is all it takes, whatever the log's shape."""

import pytest
from raw_logs import header

from jobs.days import end_of_day_ms
from jobs.exposures import DS, FATE, KEPT, with_fate
from jobs.history import with_history
from jobs.journeys import channel_names, fold
from jobs.raw_files import find_raw_files, read_raw
from jobs.windows import cut_windows
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, Derived, Gain, RawColumn, RawFile, Refusal
from schemas.tables.feature_spec import Feature, FeatureSpec, RewardScale

# Semicolons, ISO times, text ids, money, an outcome that arrives late, and no side tables.
SHOP = Dataset(
    name="shop",
    title="An invented shop's newsletters",
    log=RawFile(
        "log",
        ("sent-*.txt",),
        (
            RawColumn("customer", "string"), RawColumn("sent", "string"), RawColumn("medium", "string"),
            RawColumn("price", "double"), RawColumn("opened"), RawColumn("bought", "string", nullable=True),
            RawColumn("age", "double", nullable=True),
        ),
        separator=";",
    ),
    log_key=("customer", "sent", "medium"),
    user_id=Derived(Column("user_id", "string", "the customer"), "log.customer"),
    exposed_at_ms="unix_millis(try_cast(log.sent AS timestamp))",
    timezone="Europe/Berlin",
    channel="lower(log.medium)",
    cost="log.price",
    gains=(Gain("open", 1.0), Gain("order", 5.0)),
    columns=(
        Derived(Column("open", "int", "1 if opened", Known.AFTER), "cast(log.opened AS int)"),
        Derived(Column("order", "int", "1 if ordered", Known.AT, known_at="order_at_ms"),
                "cast(log.bought IS NOT NULL AS int)"),
        Derived(Column("order_at_ms", "bigint", "when ordered", Known.NEVER, nullable=True),
                "unix_millis(try_cast(log.bought AS timestamp))"),
        Derived(Column("age", "double", "age in years", Known.BEFORE, True, Role.NUMERIC, static=True), "log.age"),
    ),
    refusals=(Refusal("sent is no time", "try_cast(log.sent AS timestamp) IS NULL"),),
)  # fmt: skip

ROWS = [
    "ann;2024-03-30T23:30:00Z;Mail;0.1;1;2024-03-31T10:00:00Z;41",
    "ann;2024-03-31T09:00:00Z;SMS;0.5;0;;41",
    "ann;2024-03-31T12:00:00Z;mail;0.1;0;;41",
    "bob;2024-03-31T08:00:00Z;push;0.0;1;;",
    "bob;yesterday;push;0.0;1;;",
    "bob;2024-03-31T08:00:00Z;push;free;1;;",
]


@pytest.fixture
def shop_rows(spark, tmp_path):
    (tmp_path / "sent-2024.txt").write_text("\n".join([header(SHOP.log), *ROWS]) + "\n")
    raw = {view: read_raw(spark, files) for view, files in find_raw_files(SHOP, tmp_path).items()}
    return with_fate(spark, SHOP, raw)


def test_an_invented_log_becomes_exposures(shop_rows):
    rows = shop_rows.collect()
    assert sorted(row["_reason"] for row in rows if row[FATE] != KEPT) == [
        "price is not a number: free",
        "sent is no time",
    ]
    kept = sorted(
        (row.user_id, row.exposed_at_ms, row.channel, row.order, row[DS]) for row in rows if row[FATE] == KEPT
    )
    assert [(user, channel, order, day) for user, _, channel, order, day in kept] == [
        ("ann", "mail", 1, "2024-03-31"),  # half past midnight in Berlin
        ("ann", "sms", 0, "2024-03-31"),
        ("ann", "mail", 0, "2024-03-31"),
        ("bob", "push", 0, "2024-03-31"),
    ]


def test_and_goes_all_the_way_to_windows(shop_rows):
    exposures = shop_rows.where(f"{FATE} = '{KEPT}'")
    channels = channel_names(exposures, None, SHOP)
    as_of = end_of_day_ms(SHOP, "2024-03-31")
    journeys = {row.user_id: row for row in fold(exposures, None, SHOP, channels, as_of).collect()}
    assert set(journeys) == {"ann", "bob"}
    assert journeys["ann"].next_step.seen_order == 1
    assert journeys["ann"].age == 41

    spec = FeatureSpec(
        "shop", "2024-03-31", "2024-03-31", ("mail", "push", "sms"), ("open", "order"), (1.0, 5.0),
        RewardScale(0.5, -0.25, 6.0), (Feature("age", "numeric", True, True, mean=0.0, std=1.0),),
    )  # fmt: skip
    steps = with_history(exposures, None, SHOP, channels, as_of)
    (window,) = cut_windows(steps, None, SHOP, spec, 4).collect()
    assert window.user_id == "ann"
    assert window.channel == [None, "mail", "sms", "mail"]
    assert window.is_label == [False, False, True, True]
    # The order came at ten: after the second newsletter, before the third.
    assert window.seen_order == [None, 0, 0, 1]
    assert window.new_order_by_channel[-1] == [1, 0, 0]
