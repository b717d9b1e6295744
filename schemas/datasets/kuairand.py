"""KuaiRand (Pure, 1K, 27K): short-video exposures of the Kuaishou app; kuairand.com, CC BY-SA 4.0.

Every outcome is known as soon as its exposure has happened; the log has no cost. In the dataset `kuairand` the channel
is the duration class of the video, as in the sample of the MTORL paper. The datasets `kuairand_tab` and
`kuairand_upload_type` read the same log with the page of the app and the upload type as channel.
The month-long video statistics look into the future and are never read.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from schemas.candidates import ImpliedLabel, Objective, SessionEnd, Sessions
from schemas.contract import Column, DuckDbSql, Known, Role
from schemas.dataset import Dataset, Derived, Gain, Lookup, RawColumn, RawFile, Refusal
from schemas.quality import CALENDAR, Quality, RowRule
from schemas.times import day_of, hour_of, weekday_of

_TIMEZONE = "Asia/Shanghai"
_FLAGS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view")

LOG = RawFile(
    view="log",
    patterns=("log_random_*.csv", "log_standard_*.csv"),
    not_read=("video_features_statistic_*.csv",),
    columns=tuple(
        RawColumn(name)
        for name in (
            "user_id",
            "video_id",
            "date",
            "hourmin",
            "time_ms",
            *_FLAGS,
            "play_time_ms",
            "duration_ms",
            "profile_stay_time",
            "comment_stay_time",
            "is_profile_enter",
            "is_rand",
            "tab",
        )
    ),
)

USERS = RawFile(
    view="users",
    patterns=("user_features_*.csv",),
    columns=(
        RawColumn("user_id"),
        *(
            RawColumn(name, "string", nullable=True)
            for name in ("user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author")
        ),
        *(
            column
            for count in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
            for column in (
                RawColumn(count, "double", nullable=True),
                RawColumn(f"{count}_range", "string", nullable=True),
            )
        ),
        *(RawColumn(f"onehot_feat{k}", "string", nullable=True) for k in range(18)),
    ),
)

VIDEOS = RawFile(
    view="videos",
    patterns=("video_features_basic_*.csv",),
    columns=(
        RawColumn("video_id"),
        RawColumn("author_id", "string", nullable=True),
        RawColumn("video_type", "string", nullable=True),
        RawColumn("upload_dt", "string", nullable=True),
        RawColumn("upload_type", "string", nullable=True),
        RawColumn("visible_status", "string", nullable=True),
        RawColumn("video_duration", "double", nullable=True),
        RawColumn("server_width", "double", nullable=True),
        RawColumn("server_height", "double", nullable=True),
        RawColumn("music_id", "string", nullable=True),
        RawColumn("music_type", "string", nullable=True),
        RawColumn("tag", "string", nullable=True),
    ),
)

# Terciles of the duration over the video pool; a video without a duration has no channel.
# `pool_share` is the probability that a video drawn at random from the pool has that channel.
_VIDEO_CHANNELS = """
WITH cut AS (SELECT quantile_cont(video_duration, [1 / 3, 2 / 3]) AS terciles FROM videos),
classed AS (
  SELECT videos.*, CASE WHEN video_duration <= terciles[1] THEN 'short' WHEN video_duration <= terciles[2] THEN 'mid'
                        WHEN video_duration IS NOT NULL THEN 'long' END AS duration_class
  FROM videos CROSS JOIN cut),
pool AS (SELECT duration_class, count(*) / sum(count(*)) OVER () AS pool_share
         FROM classed GROUP BY duration_class)
SELECT classed.*, pool_share FROM classed LEFT JOIN pool USING (duration_class)
"""


_DATE = "try_strptime(cast(log.date AS varchar), '%Y%m%d')"


def _known_before(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.BEFORE, role=role), duckdb_sql)


def _profile(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql = "") -> Derived:
    """A column of the user's profile; without duckdb_sql, the column of the same name in `users`."""
    return Derived(
        Column(name, dtype, doc, Known.BEFORE, nullable=True, role=role, static=True), duckdb_sql or f"users.{name}"
    )


def _known_with(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.WITH, nullable=True, role=role), duckdb_sql)


def _known_after(name: str, dtype: str, doc: str, role: Role, duckdb_sql: DuckDbSql) -> Derived:
    return Derived(Column(name, dtype, doc, Known.AFTER, nullable=True, role=role), duckdb_sql)


_GAINS = (
    Derived(
        Column("click", "int", "1 if clicked (or played for more than 7 s in the single-column view)", Known.AFTER),
        "cast(log.is_click AS int)",
    ),
    Derived(
        Column("long_view", "int", "1 if watched for 18 s or to the end", Known.AFTER),
        "cast(log.long_view AS int)",
    ),
)

_COLUMNS = (
    *_GAINS,
    _known_after("like", "int", "1 if liked", Role.NUMERIC, "cast(log.is_like AS int)"),
    _known_after("follow", "int", "1 if the author was followed", Role.NUMERIC, "cast(log.is_follow AS int)"),
    _known_after("comment", "int", "1 if commented", Role.NUMERIC, "cast(log.is_comment AS int)"),
    _known_after("forward", "int", "1 if forwarded", Role.NUMERIC, "cast(log.is_forward AS int)"),
    _known_after("hate", "int", "1 if disliked", Role.NUMERIC, "cast(log.is_hate AS int)"),
    _known_after("play_time_ms", "double", "time watched, ms", Role.NUMERIC, "cast(log.play_time_ms AS double)"),
    _known_after(
        "watched_share",
        "double",
        "time watched over duration, at most 5; null without a duration",
        Role.NUMERIC,
        "CASE WHEN videos.video_duration > 0 THEN least(log.play_time_ms / videos.video_duration, 5) END",
    ),
    _known_with("video_id", "bigint", "the video shown", Role.CATEGORICAL, "log.video_id"),
    _known_with("author_id", "string", "its author", Role.CATEGORICAL, "videos.author_id"),
    _known_with("video_type", "string", "NORMAL, AD or UNKNOWN", Role.CATEGORICAL, "videos.video_type"),
    _known_with("music_type", "string", "kind of its music", Role.CATEGORICAL, "videos.music_type"),
    _known_with("tag", "string", "its first tag", Role.CATEGORICAL, "split_part(videos.tag, ',', 1)"),
    _known_with(
        "video_duration_ms",
        "double",
        "its duration, ms; null for the videos without one",
        Role.NUMERIC,
        "videos.video_duration",
    ),
    _known_before(
        "hour",
        "int",
        "hour of the exposure, Asia/Shanghai, 0-23",
        Role.CATEGORICAL,
        hour_of("log.time_ms", _TIMEZONE),
    ),
    _known_before(
        "weekday", "int", "day of the week, Monday 0", Role.CATEGORICAL, weekday_of("log.time_ms", _TIMEZONE)
    ),
    _profile("user_active_degree", "string", "activity class of the user", Role.CATEGORICAL),
    _profile("is_lowactive_period", "string", "in a period of low activity", Role.CATEGORICAL),
    _profile(
        "is_live_streamer",
        "string",
        "1 if a live streamer; -124 in the log means missing",
        Role.CATEGORICAL,
        "nullif(users.is_live_streamer, '-124')",
    ),
    _profile("is_video_author", "string", "1 if the user has uploaded a video", Role.CATEGORICAL),
    *(
        column
        for count, doc in (
            ("follow_user_num", "accounts followed"),
            ("fans_user_num", "followers"),
            ("friend_user_num", "friends"),
            ("register_days", "days since registration"),
        )
        for column in (
            _profile(count, "double", doc, Role.NUMERIC),
            _profile(f"{count}_range", "string", f"{doc}, as a range", Role.CATEGORICAL),
        )
    ),
    *(_profile(f"onehot_feat{k}", "string", "encrypted profile feature", Role.CATEGORICAL) for k in range(18)),
    Derived(
        Column("log_hour", "int", "hour of the exposure as the log itself writes it (hourmin)", Known.NEVER),
        "try_cast(log.hourmin // 100 AS int)",
    ),
    Derived(Column("is_random", "int", "1 if the video was drawn at random", Known.NEVER), "cast(log.is_rand AS int)"),
)

_TAB = ("tab", "string", "page of the app, 0-14", Role.CATEGORICAL, "cast(log.tab AS varchar)")
_UPLOAD_TYPE = ("upload_type", "string", "how it was uploaded", Role.CATEGORICAL, "videos.upload_type")

# The published logs cover April and May 2022, and a generated log may reach the next year. Any other time is a broken
# cell, such as seconds in place of milliseconds. Such a row is refused; it would otherwise wait for its day.
FIRST_YEAR, LAST_YEAR = 2022, 2023
_FIRST_MS, _END_MS = (
    int(datetime(year, 1, 1, tzinfo=ZoneInfo(_TIMEZONE)).timestamp()) * 1000 for year in (FIRST_YEAR, LAST_YEAR + 1)
)

_REFUSALS = (
    Refusal(
        f"time_ms is outside the years {FIRST_YEAR} to {LAST_YEAR}",
        f"log.time_ms < {_FIRST_MS} OR log.time_ms >= {_END_MS}",
    ),
    Refusal("date is not a day", f"{_DATE} IS NULL"),
    *(Refusal(f"{flag} is neither 0 nor 1", f"log.{flag} NOT IN (0, 1)") for flag in (*_FLAGS, "is_rand")),
    Refusal("play_time_ms is negative", "log.play_time_ms < 0"),
    # In the standard logs time_ms can be on the evening before `date`; a larger difference means a broken row.
    Refusal(
        "date and time_ms are more than a day apart",
        f"abs(date_diff('day', {_DATE}, cast({day_of('log.time_ms', _TIMEZONE)} AS date))) > 1",
    ),
)

# Shanghai has had no summer time since 1991: eight hours ahead of UTC all year round.
_HOUR_SQL = "(exposed_at_ms // 3600000 + 8) % 24"
_HOURS_AHEAD = f"(log_hour - {_HOUR_SQL} + 24) % 24"

QUALITY = Quality(
    rows=(
        RowRule(
            "hour_is_of_the_time_stamp",
            f"hour = {_HOUR_SQL}",
            "a shifted hour tells the model a wrong time of day",
        ),
        # In the published log 0.3 % of the rows are further apart.
        RowRule(
            "log_clock_agrees",
            f"{_HOURS_AHEAD} IN (23, 0, 1)",
            "time stamps shifted by a time zone put exposures on the wrong day and in the wrong order",
            0.9,
        ),
        # In the published log 0.03 % of the rows are clicks on a video that was never played.
        RowRule(
            "click_was_played",
            "click = 0 OR play_time_ms IS NULL OR play_time_ms > 0",
            "a video that was not played cannot have been clicked",
            0.99,
        ),
        RowRule(
            "play_ends_within_a_day",
            "play_time_ms IS NULL OR play_time_ms BETWEEN 0 AND 86400000",
            "a play longer than a day is a broken cell, and one such number is a feature's whole scale",
        ),
    ),
    max_missing_share={"author_id": 0.1, "tag": 0.2, "music_type": 0.2, "video_duration_ms": 0.2},
    not_compared=CALENDAR,
)


# KuaiRand-Pure keeps 7,583 videos only, so the sessions of its standard log are thin: 1.2 exposures a session. A day of
# a user has 1.9, a user 8.8.
SESSIONS = Sessions(
    SessionEnd.GAP,
    "people open the app several times a day, and a visit ends without a trace in the log; 30 minutes without an "
    "exposure is the usual limit",
    gap_s=1800.0,
)

# Follows, comments and forwards have rates of .0009 to .0025. The weights are named, because they cannot be fitted
# here: on the published standard log, no objective goes with more exposures left in the session.
OBJECTIVES = (
    Objective("long_view", ("long_view",), 1.0),
    Objective("click", ("click",), 0.3),
    Objective("like", ("like",), 1.5),
    Objective("social", ("follow", "comment", "forward"), 2.0),
)


def _kuairand(name: str, title: str, channel: DuckDbSql, columns: tuple[Derived, ...], **fields: object) -> Dataset:
    return Dataset(
        name=name,
        title=title,
        log=LOG,
        log_key=("user_id", "video_id", "time_ms"),
        user_id=Derived(Column("user_id", "bigint", "the user"), "log.user_id"),
        exposed_at_ms="log.time_ms",
        timezone=_TIMEZONE,
        channel=channel,
        gains=(Gain("click", 1.0), Gain("long_view", 1.0)),
        columns=columns,
        lookups=(
            Lookup(USERS, "user_id", "user_id", "user"),
            Lookup(VIDEOS, "video_id", "video_id", "video", _VIDEO_CHANNELS),
        ),
        refusals=_REFUSALS,
        quality=QUALITY,
        sessions=SESSIONS,
        # 0.1 % of the published rows are watched to the end without a click.
        implied_label=ImpliedLabel("click", "long_view"),
        items=("video_id", "author_id", "tag"),
        objectives=OBJECTIVES,
        **fields,  # type: ignore[arg-type]
    )


DATASETS = (
    _kuairand(
        "kuairand",
        "KuaiRand, channel = duration class of the video",
        "videos.duration_class",
        (*_COLUMNS, _known_before(*_TAB), _known_with(*_UPLOAD_TYPE)),
        channels=("short", "mid", "long"),
        # A random exposure draws its video uniformly from the pool, so the propensity of a channel is its pool share.
        propensity="CASE WHEN log.is_rand = 1 THEN videos.pool_share END",
    ),
    _kuairand(
        "kuairand_tab",
        "KuaiRand, channel = page of the app",
        "cast(log.tab AS varchar)",
        (*_COLUMNS, _known_with(*_UPLOAD_TYPE)),
    ),
    _kuairand(
        "kuairand_upload_type",
        "KuaiRand, channel = upload type of the video",
        "videos.upload_type",
        (*_COLUMNS, _known_before(*_TAB)),
    ),
)
