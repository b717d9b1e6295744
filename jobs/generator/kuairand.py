"""The KuaiRand layout: short videos of one fixed pool, shown at random or by a policy that knows the user's taste.

Each video is truly short, mid or long (terciles of the duration). For 3 % of them the duration is missing from the
video table and 0 in the log, so that a reader cannot know the channel of their exposures.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.generator.behaviour import kuairand_world
from jobs.generator.files import SortedLog, with_duplicates, write_log
from jobs.generator.journeys import DAY_MS, HOUR_MS, Ints, Journeys, Visits, draw_visits, simulate
from jobs.generator.policy import LoggingPolicy
from jobs.generator.size import Size
from jobs.generator.truth import truth_columns
from jobs.generator.users import user_rows
from jobs.generator.videos import Pool, draw_pool
from schemas.dataset import get_dataset
from schemas.datasets.kuairand import FIRST_YEAR, LAST_YEAR
from schemas.days import day_plus
from schemas.errors import UserError

STANDARD_EARLY = "log_standard_4_08_to_4_21_pure.csv"
STANDARD_LATE = "log_standard_4_22_to_5_08_pure.csv"
RANDOM = "log_random_4_22_to_5_08_pure.csv"
USERS = "user_features_pure.csv"
VIDEOS = "video_features_basic_pure.csv"
RANDOM_FROM = "2022-04-22"  # the first day with random exposures, and of the later log files

_RANDOM_SHARE = 0.8  # of the exposures from that day on
_SHANGHAI_MS = 8 * HOUR_MS  # ahead of UTC, all year round
_MEAN_GAP_S = 60  # between two videos of one session
_OTHER_TABS = np.array([0, 2, 4, 6, 7, 8])
_LATE_DATE = 0.1  # of the standard exposures after 23:00 carry the date of the next day
_GIVEN_CLICK = {
    "is_like": 0.027,
    "is_follow": 0.004,
    "is_comment": 0.006,
    "is_forward": 0.003,
    "is_profile_enter": 0.02,
}


def write_kuairand(
    folder: Path, size: Size, first_day: str, *, standard: bool, truth: bool, effect: float = 1.0
) -> int:
    """Write the five files and return the number of log rows.

    As in the published log, random exposures begin on RANDOM_FROM; the file names stay as published whatever
    the days. Without `standard` the standard logs hold only their header. effect: one of CHANNEL_EFFECTS.
    """
    if not f"{FIRST_YEAR}-01-01" <= first_day <= day_plus(first_day, size.days - 1) <= f"{LAST_YEAR}-12-31":
        raise UserError(
            f"--first-day {first_day} with --days {size.days}: choose days from {FIRST_YEAR} to {LAST_YEAR}, the years "
            "that the contract of kuairand accepts"
        )
    model, pool = kuairand_world(effect), draw_pool()
    columns = [c.name for c in get_dataset("kuairand").log.columns]
    first_ms, random_from_ms = _shanghai_midnight_ms(first_day), _shanghai_midnight_ms(RANDOM_FROM)
    end_ms = first_ms + size.days * DAY_MS
    if not standard:
        first_ms = max(first_ms, random_from_ms)
        if first_ms >= end_ms:
            raise UserError(f"--no-standard-log leaves no rows before {RANDOM_FROM}: choose a later --first-day or "
                            "more --days")  # fmt: skip
    days = (end_ms - first_ms) // DAY_MS
    random_share = _RANDOM_SHARE if standard else 1.0
    # Standard exposures follow the user's taste, random ones the pool alone.
    policies = (LoggingPolicy(pool.shares, greed=0.7), LoggingPolicy(pool.shares))
    names = (STANDARD_EARLY, STANDARD_LATE, RANDOM)
    scratch = folder / ".scratch"
    logs = [SortedLog(scratch / name, "time_ms", first_ms, end_ms - first_ms, size.rows) for name in names]

    for user_U, rng in size.blocks():
        visits = draw_visits(len(user_U), size.rows_per_user, first_ms, days, _MEAN_GAP_S, rng)
        is_late_R = visits.time_ms_R >= random_from_ms
        is_random_R = is_late_R & (rng.random(len(is_late_R)) < random_share)
        journeys = simulate(model, visits, policies, is_random_R.astype(np.int64), rng)
        rows = log_rows(pool, visits, journeys, user_U[visits.user_R], is_random_R, rng)
        if truth:
            known_RC = journeys.propensity_RC * pool.known_shares.astype(np.float32)
            rows |= truth_columns(
                model, journeys, "long_view", [*model.channels, "unknown"],
                np.column_stack([known_RC, 1 - known_RC.sum(axis=1)]), pool.is_known[rows["video_id"]],
            )  # fmt: skip
        table = with_duplicates(pa.table(rows), rng)
        is_late_R, is_random_R = (table["time_ms"].to_numpy() >= random_from_ms), table["is_rand"].to_numpy() == 1
        for log, in_log_R in zip(logs, (~is_late_R, is_late_R & ~is_random_R, is_random_R), strict=True):
            log.add(table.filter(pa.array(in_log_R)))

        is_first = user_U[0] == 0
        user_rows(user_U, journeys.home_UD, rng).to_csv(
            folder / USERS, mode="a", header=is_first, index=False, lineterminator="\n"
        )
    pool.table.to_csv(folder / VIDEOS, index=False, lineterminator="\n")
    keys = ("user_id", "time_ms")
    return sum(write_log(log, folder / name, columns, ",", keys) for log, name in zip(logs, names, strict=True))


def _shanghai_midnight_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000 - _SHANGHAI_MS


def log_rows(
    pool: Pool,
    visits: Visits,
    journeys: Journeys,
    user_id_R: Ints,
    is_random_R: NDArray[np.bool_],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The log's columns by name."""
    rows = len(user_id_R)
    video_R = _draw_videos(pool, journeys.channel_R, rng)
    click_R, long_view_R = journeys.click_R, journeys.conversion_R

    local_ms_R = visits.time_ms_R + _SHANGHAI_MS
    hour_R = local_ms_R % DAY_MS // HOUR_MS
    late_R = ~is_random_R & (hour_R == 23) & (rng.random(rows) < _LATE_DATE)
    day_R = local_ms_R // DAY_MS + late_R
    # A log has few days: each date is formatted once.
    days, day_index_R = np.unique(day_R, return_inverse=True)
    dates = np.array([int(str(day).replace("-", "")) for day in days.astype("datetime64[D]")])

    tab_R = np.where(rng.random(rows) < np.where(is_random_R, 0.993, 0.6), 1, rng.choice(_OTHER_TABS, rows))
    reactions = {name: (click_R & (rng.random(rows) < rate)).astype(np.int64) for name, rate in _GIVEN_CLICK.items()}
    stay_ms_R = 1_000 + rng.exponential(15_000, rows).astype(np.int64)
    return {
        "user_id": user_id_R,
        "video_id": video_R,
        "date": dates[day_index_R],
        "hourmin": np.where(late_R, 0, hour_R) * 100,
        "time_ms": visits.time_ms_R,
        "is_click": click_R.astype(np.int64),
        **reactions,
        "is_hate": (rng.random(rows) < 2e-4).astype(np.int64),
        "long_view": long_view_R.astype(np.int64),
        "play_time_ms": _play_time(pool.duration_ms[video_R], click_R, long_view_R, rng),
        "duration_ms": np.where(pool.is_known[video_R], pool.duration_ms[video_R], 0),
        "profile_stay_time": reactions["is_profile_enter"] * stay_ms_R,
        "comment_stay_time": reactions["is_comment"] * stay_ms_R,
        "is_rand": is_random_R.astype(np.int64),
        "tab": tab_R,
    }


def _draw_videos(pool: Pool, channel_R: Ints, rng: np.random.Generator) -> Ints:
    """Uniformly among the videos of the channel."""
    by_channel = np.argsort(pool.channel, kind="stable")
    size_C = np.bincount(pool.channel, minlength=3)
    first_C = np.cumsum(size_C) - size_C
    return by_channel[first_C[channel_R] + rng.integers(size_C[channel_R])]


def _play_time(
    duration_R: Ints, click_R: NDArray[np.bool_], long_view_R: NDArray[np.bool_], rng: np.random.Generator
) -> Ints:
    """Milliseconds watched, as the flags require: a click from 7 s on, a long view from 18 s on or to the end."""
    uniform_R = rng.random(len(duration_R))
    click_from_R, long_from_R = np.minimum(7_000, duration_R), np.minimum(18_000, duration_R)
    long_R = long_from_R + uniform_R**2 * (duration_R - long_from_R)
    clicked_R = click_from_R + uniform_R * (long_from_R - click_from_R)
    skipped_R = np.minimum(1_800 * np.exp(0.9 * rng.standard_normal(len(duration_R))), click_from_R - 1)
    return np.where(long_view_R, long_R, np.where(click_R, clicked_R, skipped_R)).astype(np.int64)
