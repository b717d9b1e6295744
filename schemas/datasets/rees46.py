"""REES46: events of a multi-category shop, October 2019 to April 2020; rees46.com, kaggle.com/mkechinov.

A row is an event: a view, a cart or a purchase. A view is an exposure. A cart and a purchase are outcomes of the user's
latest view of the same product. The channel is the top level of the product's category: it is what a shop chooses when
it decides what to show. A third of the products are in categories without a code; they are a channel together.
"""

from schemas.candidates import ImpliedLabel, Objective, SessionEnd, Sessions
from schemas.contract import Column, DuckDbSql, Known, Role
from schemas.dataset import Dataset, Derived, Gain, Outcome, RawColumn, RawFile, Refusal
from schemas.quality import CALENDAR, Quality
from schemas.times import hour_of, iso_time, weekday_of

_EXPOSED_AT_MS = iso_time("log.event_time")
_MATCH = ("user_id", "product_id")
_WITHIN_HOURS = 71  # a cart is filled and paid within three days

LOG = RawFile(
    view="log",
    patterns=("20??-???.csv", "20??-???_*.csv"),
    columns=(
        RawColumn("event_time", "string"),
        RawColumn("event_type", "string"),
        RawColumn("product_id"),
        RawColumn("category_id"),
        RawColumn("category_code", "string", nullable=True),
        RawColumn("brand", "string", nullable=True),
        RawColumn("price", "double", nullable=True),
        RawColumn("user_id"),
        RawColumn("user_session", "string", nullable=True),
    ),
)


def _of_product(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.WITH, nullable=True, role=role), duckdb_sql)


def _clock(name: str, doc: str, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, "int", doc, Known.BEFORE, role=Role.CATEGORICAL), duckdb_sql)


DATASETS = (
    Dataset(
        name="rees46",
        title="REES46 shop events, channel = top category",
        log=LOG,
        log_key=("user_id", "event_time", "product_id"),
        user_id=Derived(Column("user_id", "bigint", "the user"), "log.user_id"),
        exposed_at_ms=_EXPOSED_AT_MS,
        timezone="UTC",
        channel="coalesce(split_part(log.category_code, '.', 1), 'uncoded')",
        is_exposure="log.event_type = 'view'",
        outcomes=(
            Outcome("cart", "1 if put into the cart", _MATCH, _WITHIN_HOURS, "log.event_type = 'cart'"),
            Outcome("purchase", "1 if bought", _MATCH, _WITHIN_HOURS, "log.event_type = 'purchase'"),
        ),
        gains=(Gain("cart", 1.0), Gain("purchase", 5.0)),
        columns=(
            _of_product("product", "string", "the product viewed", Role.CATEGORICAL, "cast(log.product_id AS varchar)"),
            _of_product("category", "string", "its category", Role.CATEGORICAL, "cast(log.category_id AS varchar)"),
            _of_product("brand", "string", "its brand", Role.CATEGORICAL, "log.brand"),
            _of_product("price", "double", "its price", Role.NUMERIC, "log.price"),
            Derived(
                Column("user_session", "string", "the visit, which ends with a long pause", nullable=True),
                "log.user_session",
            ),
            _clock("hour", "hour of the view, UTC, 0-23", hour_of(_EXPOSED_AT_MS, "UTC")),
            _clock("weekday", "day of the week, Monday 0", weekday_of(_EXPOSED_AT_MS, "UTC")),
        ),
        refusals=(
            Refusal("the time is not in 2019 or 2020", f"{_EXPOSED_AT_MS} NOT BETWEEN 1546300800000 AND 1609459199999"),
            Refusal("price is below 0", "log.price < 0"),
        ),
        notes=("Carts and purchases count for the latest view of the same product, within three days.",),
        # A third of the products have no brand or category code. In October 2019 a view has a cart in 2 %.
        quality=Quality(max_missing_share={"brand": 0.3, "price": 0.1}, not_compared=CALENDAR),
        sessions=Sessions(SessionEnd.COLUMN, "the shop marks the visits", column="user_session"),
        # As on the shop log of RMTL's paper: a cart is the click, and the purchase after it is the conversion.
        implied_label=ImpliedLabel("cart", "purchase"),
        items=("product", "brand"),
        objectives=(Objective("purchase", ("purchase",)), Objective("cart", ("cart",))),
    ),
)  # fmt: skip
