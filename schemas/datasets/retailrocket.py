"""RetailRocket: events of an online shop, May to September 2015; kaggle.com/retailrocket, CC BY-NC-SA 4.0.

A row is an event: a view, an addtocart or a transaction. A view is an exposure. A cart and a transaction are outcomes
of the visitor's latest view of the same item. The events name no channel: the channel is the part of the day, the one
choice that an advertiser has with these columns. Item properties are hashed, change over time and are not read.
"""

from schemas.candidates import ImpliedLabel, Objective, SessionEnd, Sessions
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset, Derived, Gain, Outcome, RawColumn, RawFile, Refusal
from schemas.quality import CALENDAR, Quality
from schemas.times import hour_of, milliseconds, weekday_of

_EXPOSED_AT_MS = milliseconds("log.timestamp")
_HOUR = hour_of(_EXPOSED_AT_MS, "UTC")
_PARTS_OF_THE_DAY = ("night", "morning", "afternoon", "evening")  # six hours each, from midnight
_MATCH = ("visitorid", "itemid")
_WITHIN_HOURS = 71

LOG = RawFile(
    view="log",
    patterns=("events*.csv",),
    columns=(
        RawColumn("timestamp"),
        RawColumn("visitorid"),
        RawColumn("event", "string"),
        RawColumn("itemid"),
        RawColumn("transactionid", nullable=True),
    ),
    not_read=("item_properties*.csv", "category_tree.csv"),
)

DATASETS = (
    Dataset(
        name="retailrocket",
        title="RetailRocket shop events, channel = part of the day",
        log=LOG,
        log_key=("visitorid", "timestamp", "itemid"),
        user_id=Derived(Column("user_id", "bigint", "the visitor"), "log.visitorid"),
        exposed_at_ms=_EXPOSED_AT_MS,
        timezone="UTC",
        channel=f"[{', '.join(map(repr, _PARTS_OF_THE_DAY))}][{_HOUR} // 6 + 1]",
        channels=_PARTS_OF_THE_DAY,
        is_exposure="log.event = 'view'",
        outcomes=(
            Outcome("cart", "1 if put into the cart", _MATCH, _WITHIN_HOURS, "log.event = 'addtocart'"),
            Outcome("bought", "1 if bought", _MATCH, _WITHIN_HOURS, "log.event = 'transaction'"),
        ),
        gains=(Gain("cart", 1.0), Gain("bought", 5.0)),
        columns=(
            Derived(
                Column("item", "string", "the item viewed", Known.WITH, role=Role.CATEGORICAL),
                "cast(log.itemid AS varchar)",
            ),
            Derived(
                Column("weekday", "int", "day of the week, Monday 0", Known.BEFORE, role=Role.CATEGORICAL),
                weekday_of(_EXPOSED_AT_MS, "UTC"),
            ),
        ),
        refusals=(
            Refusal("the time is not in 2015", f"{_EXPOSED_AT_MS} NOT BETWEEN 1420070400000 AND 1451606399999"),
        ),
        notes=("Carts and transactions count for the latest view of the same item, within three days.",),
        quality=Quality(not_compared=CALENDAR),
        # RMTL's published code takes all events of a visitor as one session, months apart.
        sessions=Sessions(
            SessionEnd.GAP, "the log does not mark visits; half an hour without a view is the usual end", gap_s=1800.0
        ),
        # As on this log in RMTL's paper: a cart is the click, and the transaction after it is the conversion.
        implied_label=ImpliedLabel("cart", "bought"),
        items=("item",),
        objectives=(Objective("bought", ("bought",)), Objective("cart", ("cart",))),
    ),
)  # fmt: skip
