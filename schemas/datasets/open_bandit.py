"""Open Bandit Dataset: recommendations of fashion items on ZOZOTOWN; CC BY 4.0, research.zozo.com/data.html.

Two logs with the same columns: in `open_bandit_random` each of the 80 items is drawn with the same probability, in
`open_bandit_bts` by Bernoulli Thompson sampling. The channel is the item, since `propensity_score` is the probability
of the item: so the propensities of both logs are exact, and a policy that is valued on one log can be compared with
what happened in the other.

The log has no user id. A user is a context here, the combination of the four hashed user features: several people can
share it, and a journey is what was shown to all of them. Reports have this as a note.
"""

from schemas.candidates import SessionEnd, Sessions
from schemas.contract import Column, DuckDbSql, Known, Role, quoted_name
from schemas.dataset import Dataset, Derived, Gain, Lookup, RawColumn, RawFile, Refusal
from schemas.quality import CALENDAR, Quality
from schemas.times import hour_of, iso_time, weekday_of

_TIMEZONE = "Asia/Tokyo"
_ITEMS = 80  # in the campaign `all`; `men` has 34, `women` 46
_EXPOSED_AT_MS = iso_time("log.timestamp")
_USER_FEATURES = tuple(f"user_feature_{k}" for k in range(4))
_AFFINITIES = tuple(f"user-item_affinity_{k}" for k in range(_ITEMS))
_AFFINITY_LIST = f"[{', '.join(f'log.{quoted_name(name)}' for name in _AFFINITIES)}]"


def _log(policy: str, other_policy: str) -> RawFile:
    """The log of the campaign `all`, by its published name, and by that of its folders joined with _."""
    return RawFile(
        view="log",
        patterns=("all.csv", f"{policy}_all_all.csv"),
        # The first column of the file, which counts its rows, has no name and is not read.
        columns=(
            RawColumn("timestamp", "string"),
            RawColumn("item_id"),
            RawColumn("position"),
            RawColumn("click"),
            RawColumn("propensity_score", "double"),
            *(RawColumn(name, "string") for name in _USER_FEATURES),
            *(RawColumn(name, "double") for name in _AFFINITIES),
        ),
        not_read=(f"{other_policy}_*",),
    )


def _item_context(policy: str) -> RawFile:
    return RawFile(
        view="items",
        patterns=("item_context.csv", f"{policy}_all_item_context.csv"),
        columns=(
            RawColumn("item_id"),
            RawColumn("item_feature_0", "double", nullable=True),
            *(RawColumn(f"item_feature_{k}", "string", nullable=True) for k in (1, 2, 3)),
        ),
    )


def _clock(name: str, doc: str, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, "int", doc, Known.BEFORE, role=Role.CATEGORICAL), duckdb_sql)


def _of_item(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.WITH, nullable=True, role=role), duckdb_sql)


_COLUMNS = (
    Derived(Column("click", "int", "1 if clicked", Known.AFTER), "cast(log.click AS int)"),
    _clock("position", "place of the recommendation on the page, 1 to 3", "cast(log.position AS int)"),
    _clock("hour", "hour of the exposure, Asia/Tokyo, 0-23", hour_of(_EXPOSED_AT_MS, _TIMEZONE)),
    _clock("weekday", "day of the week, Monday 0", weekday_of(_EXPOSED_AT_MS, _TIMEZONE)),
    *(
        Derived(
            Column(name, "string", "hashed feature of the user", Known.BEFORE, role=Role.CATEGORICAL, static=True),
            f"log.{name}",
        )
        for name in _USER_FEATURES
    ),
    Derived(
        Column("affinity_sum", "double", "earlier clicks of the user on any item", Known.BEFORE, role=Role.NUMERIC),
        f"list_sum({_AFFINITY_LIST})",
    ),
    _of_item("affinity", "double", "earlier clicks of the user on the item", Role.NUMERIC,
             f"{_AFFINITY_LIST}[log.item_id + 1]"),
    _of_item("item_feature_0", "double", "continuous feature of the item", Role.NUMERIC, "items.item_feature_0"),
    *(
        _of_item(name, "string", "hashed feature of the item", Role.CATEGORICAL, f"items.{name}")
        for name in ("item_feature_1", "item_feature_2", "item_feature_3")
    ),
)  # fmt: skip

_REFUSALS = (
    Refusal("click is neither 0 nor 1", "log.click NOT IN (0, 1)"),
    Refusal("propensity_score is not above 0", "log.propensity_score <= 0"),
    Refusal("propensity_score is above 1", "log.propensity_score > 1"),
    Refusal(f"item_id is not from 0 to {_ITEMS - 1}", f"log.item_id NOT BETWEEN 0 AND {_ITEMS - 1}"),
    Refusal("position is not from 1 to 3", "log.position NOT BETWEEN 1 AND 3"),
    # The published logs are of one week, 24 to 30 November 2019 in UTC.
    Refusal("the time is not in 2019", f"{_EXPOSED_AT_MS} NOT BETWEEN 1546300800000 AND 1577836799999"),
)  # fmt: skip

QUALITY = Quality(
    # In the published logs .35 % to .5 % of the recommendations are clicked, and a day of the small version has a
    # thousand of them.
    min_gain_rate=0.0002,
    not_compared=CALENDAR,
)


def _open_bandit(policy: str, other_policy: str, title: str) -> Dataset:
    return Dataset(
        name=f"open_bandit_{policy}",
        title=title,
        log=_log(policy, other_policy),
        log_key=("timestamp", "position", "item_id", *_USER_FEATURES),
        user_id=Derived(
            Column("user_id", "string", "the context: the first 8 digits of each hashed user feature"),
            f"concat_ws('-', {', '.join(f'left(log.{name}, 8)' for name in _USER_FEATURES)})",
        ),
        exposed_at_ms=_EXPOSED_AT_MS,
        timezone=_TIMEZONE,
        channel="cast(log.item_id AS varchar)",
        channels=tuple(str(item) for item in range(_ITEMS)),
        propensity="log.propensity_score",
        gains=(Gain("click", 1.0),),
        columns=_COLUMNS,
        lookups=(Lookup(_item_context(policy), "item_id", "item_id", "item"),),
        refusals=_REFUSALS,
        notes=("The log has no user ids: a user is a combination of hashed features, which several people can share.",),
        quality=QUALITY,
        sessions=Sessions(SessionEnd.NEVER, "the rows of a context belong to several people, so it has no visits"),
    )


DATASETS = (
    _open_bandit("random", "bts", "Open Bandit, items drawn at random, channel = item"),
    _open_bandit("bts", "random", "Open Bandit, items drawn by Thompson sampling, channel = item"),
)
