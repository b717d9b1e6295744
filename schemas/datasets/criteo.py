"""Criteo Attribution Modeling for Bidding: 31 days of display ads; CC BY-NC-SA 4.0.

A conversion becomes known at conversion_timestamp, up to 30 days after the exposure. The attributes of the ad that the
channel showed are known with it (campaign, categories) or after it (cost). attribution, click_pos and click_nb are
written when the path has ended, so they are never an input. Timestamps are seconds since the start of the log.
"""

from datetime import UTC, datetime

from schemas.candidates import ImpliedLabel, Objective, SessionEnd, Sessions
from schemas.contract import Column, DuckDbSql, Known, Role
from schemas.dataset import Dataset, Derived, Gain, RawColumn, RawFile, Refusal
from schemas.quality import CALENDAR, Quality, RowRule
from schemas.times import hour_of, weekday_of

# Second 0 of the log. The publisher does not name the day; any fixed day serves.
START = datetime(2017, 1, 1, tzinfo=UTC)
LONGEST_DAYS = 366  # the published log spans 31 days; a later time stamp is a broken cell
_START_S = int(START.timestamp())
_LONGEST_S = LONGEST_DAYS * 86_400

_CATEGORIES = tuple(f"cat{k}" for k in range(1, 10))
_CATEGORY_DOC = "contextual feature of the ad shown"

LOG = RawFile(
    view="log",
    patterns=("criteo_attribution_dataset.tsv.gz", "criteo_attribution_dataset*.tsv"),
    separator="\t",
    columns=(
        RawColumn("timestamp"),
        RawColumn("uid"),
        RawColumn("campaign"),
        RawColumn("conversion"),
        RawColumn("conversion_timestamp"),
        RawColumn("conversion_id"),
        RawColumn("attribution"),
        RawColumn("click"),
        RawColumn("click_pos"),
        RawColumn("click_nb"),
        RawColumn("cost", "double"),
        RawColumn("cpo", "double"),
        RawColumn("time_since_last_click"),
        *map(RawColumn, _CATEGORIES),
    ),
)

_EXPOSED_AT_MS = f"((log.timestamp + {_START_S}) * 1000)"


def _never_known(name: str, dtype: str, doc: str) -> Derived:
    return Derived(Column(name, dtype, doc, Known.NEVER, nullable=True), f"nullif(log.{name}, -1)")


def _known_after(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.AFTER, nullable=True, role=role), duckdb_sql)


def _known_with(name: str, doc: str) -> Derived:
    """An attribute of the ad, known once the ad is chosen."""
    column = Column(name, "string", doc, Known.WITH, nullable=True, role=Role.CATEGORICAL)
    return Derived(column, f"cast(log.{name} AS varchar)")


def _clock(name: str, doc: str, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, "int", doc, Known.BEFORE, role=Role.CATEGORICAL), duckdb_sql)


QUALITY = Quality(
    rows=(
        RowRule(
            "hour_is_of_the_time_stamp",
            "hour = exposed_at_ms // 3600000 % 24",
            "a shifted hour tells the model a wrong time of day",
        ),
        # In the published log each conversion's exposure was clicked.
        RowRule(
            "conversion_follows_a_click",
            "conversion = 0 OR click = 1",
            "a conversion without a click is one that this log cannot have brought",
        ),
        RowRule(
            "conversion_comes_within_30_days",
            "conversion_at_ms IS NULL OR conversion_at_ms <= exposed_at_ms + 2592000000",
            "the log counts conversions for 30 days: a later one has a broken time",
        ),
    ),
    max_missing_share={"cpo": 0.1, "campaign": 0.1, **dict.fromkeys(_CATEGORIES, 0.1)},
    # In the published log the stability index of cpo is 0.7 from the first day to the second.
    not_compared={**CALENDAR, "cpo": "each campaign's cost per order is set again every day: a handful of new values"},
)

# The parts of an ad with the most values: a model learns the few values of the others as categories.
ITEMS = ("campaign", "cat3", "cat7")
SESSIONS = Sessions(
    SessionEnd.DAY,
    "ads follow a user over many sites, so a gap does not end a visit; a path to a conversion has no "
    "marked end; bids are planned by the day",
)

DATASETS = (
    Dataset(
        name="criteo",
        title="Criteo attribution, channel = cat8",
        log=LOG,
        # Two equal rows are one exposure that was delivered twice. The columns that change later (conversion*,
        # attribution, click_pos, click_nb) are not part of the key.
        log_key=("uid", "timestamp", "campaign", "click", "cost", "cpo", *_CATEGORIES),
        user_id=Derived(Column("user_id", "bigint", "the user (uid)"), "log.uid"),
        exposed_at_ms=f"TRY({_EXPOSED_AT_MS})",
        timezone="UTC",
        channel="cast(log.cat8 AS varchar)",
        cost="log.cost",
        outcome_days=30,
        quality=QUALITY,
        sessions=SESSIONS,
        # Every conversion of the published log is a click, so the implied label is the conversion.
        implied_label=ImpliedLabel("click", "conversion"),
        items=ITEMS,
        objectives=(Objective("click", ("click",), 1.0), Objective("conversion", ("conversion",), 10.0)),
        gains=(Gain("click", 1.0), Gain("conversion", 10.0)),
        columns=(
            Derived(Column("click", "int", "1 if clicked", Known.AFTER), "cast(log.click AS int)"),
            Derived(
                Column(
                    "conversion",
                    "int",
                    "1 if a conversion followed within 30 days",
                    Known.AT,
                    known_at="conversion_at_ms",
                ),
                "cast(log.conversion AS int)",
            ),
            Derived(
                Column("conversion_at_ms", "bigint", "time of that conversion, ms UTC", Known.NEVER, nullable=True),
                f"CASE WHEN log.conversion = 1 THEN (log.conversion_timestamp + {_START_S}) * 1000 END",
            ),
            _never_known("conversion_id", "bigint", "id of the conversion; some span several users"),
            _never_known("attribution", "int", "1 if the conversion was attributed to Criteo"),
            _never_known("click_pos", "bigint", "position of the click before the conversion"),
            _never_known("click_nb", "bigint", "number of clicks before the conversion"),
            _known_after("cpo", "double", "cost per order, transformed", Role.NUMERIC, "log.cpo"),
            _known_with("campaign", "the campaign shown"),
            *(_known_with(name, _CATEGORY_DOC) for name in _CATEGORIES),
            Derived(
                Column(
                    "time_since_last_click_s",
                    "double",
                    "seconds since the user's last click; null: none",
                    Known.BEFORE,
                    nullable=True,
                    role=Role.NUMERIC,
                ),
                "cast(nullif(log.time_since_last_click, -1) AS double)",
            ),
            _clock("hour", "hour of the exposure, counted from the log's start, 0-23", hour_of(_EXPOSED_AT_MS, "UTC")),
            _clock("weekday", "day of the week, counted from the configured start", weekday_of(_EXPOSED_AT_MS, "UTC")),
        ),
        refusals=(
            Refusal(f"timestamp is not from 0 to {_LONGEST_S:,}", f"log.timestamp NOT BETWEEN 0 AND {_LONGEST_S}"),
            Refusal("click is neither 0 nor 1", "log.click NOT IN (0, 1)"),
            Refusal("conversion is neither 0 nor 1", "log.conversion NOT IN (0, 1)"),
            Refusal("attribution is neither -1, 0 nor 1", "log.attribution NOT IN (-1, 0, 1)"),
            Refusal("a conversion without its time", "log.conversion = 1 AND log.conversion_timestamp < 0"),
            Refusal(
                "a conversion before its exposure", "log.conversion = 1 AND log.conversion_timestamp < log.timestamp"
            ),
            Refusal(
                f"conversion_timestamp is above {2 * _LONGEST_S:,}",
                f"log.conversion = 1 AND log.conversion_timestamp > {2 * _LONGEST_S}",
            ),
        ),
        notes=("Conversions come up to 30 days late: the labels of the log's last 30 days are censored.",),
    ),
)
