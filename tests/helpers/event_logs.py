"""Invented logs with separate rows of outcomes: an event log, and impressions with a file of clicks."""

from schemas.contract import Column
from schemas.dataset import Dataset, Derived, Gain, Outcome, RawColumn, RawFile
from schemas.times import digits_time, milliseconds

USER = Derived(Column("user_id", "bigint", "the visitor"), "log.visitor")
EVENTS = Dataset(
    name="events",
    title="An event log: view, cart, buy",
    log=RawFile(
        "log",
        ("events*.csv",),
        (RawColumn("ts"), RawColumn("visitor"), RawColumn("event", "string"), RawColumn("item"),
         RawColumn("order", nullable=True)),
    ),
    log_key=("visitor", "ts", "item"),
    user_id=USER,
    exposed_at_ms=milliseconds("log.ts"),
    timezone="UTC",
    channel="CASE WHEN log.item < 100 THEN 'a' ELSE 'b' END",
    gains=(Gain("cart", 1.0), Gain("buy", 5.0)),
    columns=(),
    is_exposure="log.event = 'view'",
    outcomes=(
        Outcome("cart", "1 if put into the cart", ("visitor", "item"), 2, "log.event = 'addtocart'"),
        Outcome("buy", "1 if bought", ("visitor", "item"), 24, "log.event = 'transaction'"),
    ),
)  # fmt: skip

CLICKS = Dataset(
    name="clicks",
    title="Impressions, with their clicks in another file",
    log=RawFile(
        "log",
        ("imp*.txt",),
        (RawColumn("bid", "string"), RawColumn("ts", "string"), RawColumn("cookie", "string"),
         RawColumn("exchange", "string"), RawColumn("price", "double")),
        separator="\t",
    ),
    log_key=("bid", "ts"),
    user_id=Derived(Column("user_id", "string", "the cookie"), "log.cookie"),
    exposed_at_ms=digits_time("log.ts", "yyyyMMddHHmmssSSS", "Asia/Shanghai"),
    timezone="Asia/Shanghai",
    channel="log.exchange",
    gains=(Gain("click", 1.0),),
    columns=(),
    cost="log.price",
    outcomes=(
        Outcome(
            "click", "1 if clicked", ("bid",), 24,
            file=RawFile("clicks", ("clk*.txt",), (RawColumn("click_bid", "string"), RawColumn("clicked")), "\t"),
            file_match=("click_bid",),
            at_ms=digits_time("clicks.clicked", "yyyyMMddHHmmssSSS", "Asia/Shanghai"),
        ),
    ),
)  # fmt: skip
