"""The Criteo layout: display ads of a sticky policy, with conversions that come days after their clicks.

A conversion that one click causes marks the user's whole path: every click in the 30 days before it and after the
previous conversion has its flag, time and id. A conversion after the end of the log is not in the log.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.generator.behaviour import DAY_S, BehaviourModel, Floats, criteo_world
from jobs.generator.files import SortedLog, with_duplicates, write_log
from jobs.generator.journeys import DAY_MS, Ints, Journeys, Visits, draw_visits, simulate
from jobs.generator.policy import LoggingPolicy
from jobs.generator.size import Size
from jobs.generator.truth import truth_columns
from schemas.dataset import get_dataset
from schemas.datasets.criteo import LONGEST_DAYS
from schemas.errors import UserError

FILE = "criteo_attribution_dataset.tsv.gz"
ABSENT = -1
MAX_USERS = 32_452_843  # a prime: user ids below it, as in the published log, without repetition
_ID_STEP = 20_073_966
_PATH_S = int(30 * DAY_S)
_MEAN_GAP_S = 3_600  # between two ads of one session
_ATTRIBUTED = 0.55
_CAMPAIGNS = 675
_MAIN_CAMPAIGN = 0.8  # probability that an exposure belongs to the user's usual campaign
_CARDINALITIES = {"cat1": 9, "cat2": 70, "cat3": 1829, "cat4": 21, "cat5": 51, "cat6": 30, "cat7": 57196, "cat9": 30}
_USER_CATEGORIES = (
    "cat1",
    "cat4",
    "cat5",
    "cat6",
    "cat9",
)  # the campaign determines the others; for cat7, campaign and user

# cat8 shares: one channel holds three fifths, as in the published log.
POLICY = LoggingPolicy(
    share_C=np.array([0.60, 0.06, 0.05, 0.045, 0.04, 0.04, 0.035, 0.035, 0.035, 0.03, 0.03]),
    greed=0.3,
    stickiness=0.5,
)


def write_criteo(folder: Path, size: Size, *, truth: bool, effect: float = 1.0) -> int:
    """Write the one file and return its number of rows. effect: one of CHANNEL_EFFECTS."""
    if size.users > MAX_USERS:
        raise UserError(f"--users {size.users}: the criteo layout has ids for {MAX_USERS} users")
    if size.days > LONGEST_DAYS:
        raise UserError(f"--days {size.days}: the criteo layout has room for {LONGEST_DAYS}")
    model = criteo_world(effect)
    end_s = size.days * DAY_MS // 1000
    log = SortedLog(folder / ".scratch", "timestamp", 0, end_s, size.rows)
    for user_U, rng in size.blocks():
        visits = draw_visits(len(user_U), size.rows_per_user, 0, size.days, _MEAN_GAP_S, rng)
        policy_R = np.zeros(len(visits.user_R), np.int64)
        journeys = simulate(model, visits, [POLICY], policy_R, rng)
        rows = log_rows(model, visits, journeys, user_ids(user_U, size.seed)[visits.user_R], end_s, rng)
        if truth:
            rows |= truth_columns(
                model, journeys, "conversion", model.channels, journeys.propensity_RC, np.ones(len(policy_R), np.bool_)
            )
            rows["sets_off"] = journeys.conversion_R.astype(np.int8)
        log.add(with_duplicates(pa.table(rows), rng))
    columns = [c.name for c in get_dataset("criteo").log.columns]
    return write_log(log, folder / FILE, columns, "\t", ("uid", "timestamp"))


def user_ids(user_U: Ints, seed: int) -> Ints:
    """Distinct ids below MAX_USERS. Other seeds give other ids, apart from chance collisions."""
    return (user_U * _ID_STEP + seed % MAX_USERS * 7_919) % MAX_USERS


def log_rows(
    model: BehaviourModel, visits: Visits, journeys: Journeys, uid_R: Ints, end_s: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The log's columns by name."""
    rows, users = len(visits.user_R), visits.user_R[-1] + 1
    timestamp_R = visits.time_ms_R // 1000
    click_R = journeys.click_R.astype(np.int64)
    channel_ids = np.array([int(name) for name in model.channels])

    main_R = _skewed(rng.random(users), _CAMPAIGNS)[visits.user_R]
    campaign_R = np.where(rng.random(rows) < _MAIN_CAMPAIGN, main_R, _skewed(rng.random(rows), _CAMPAIGNS))
    ad_code_R = {"cat2": campaign_R, "cat3": campaign_R, "cat7": uid_R + campaign_R}
    categories = {
        name: _category_values(name, size)[
            _skewed(rng.random(users), size)[visits.user_R]
            if name in _USER_CATEGORIES
            else _scramble(ad_code_R[name]) % size
        ]
        for name, size in _CARDINALITIES.items()
    }
    # The cost per order is fixed for a campaign and a day, like the advertiser's bids.
    day_R = timestamp_R // int(DAY_S)
    cpo_R = 0.05 + 0.55 * _fraction(campaign_R + 1) + 0.1 * _fraction((campaign_R + 1) * 5_000 + day_R)
    return {
        "timestamp": timestamp_R,
        "uid": uid_R,
        "campaign": _category_values("campaign", _CAMPAIGNS)[campaign_R],
        **_paths(visits.user_R, timestamp_R, journeys, end_s, rng),
        "click": click_R,
        "cost": journeys.cost_R.round(9),
        "cpo": cpo_R.round(12),
        "time_since_last_click": _since_last_click(visits.user_R, timestamp_R, journeys.click_R),
        **categories,
        "cat8": channel_ids[journeys.channel_R],
    }


def _paths(
    user_R: Ints, timestamp_R: Ints, journeys: Journeys, end_s: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """conversion*, attribution, click_pos and click_nb: of the next conversion of the user after each click."""
    columns = {
        "conversion": np.zeros(len(user_R), np.int64),
        "conversion_timestamp": np.full(len(user_R), ABSENT),
        "conversion_id": np.full(len(user_R), ABSENT),
        "attribution": np.zeros(len(user_R), np.int64),
        "click_pos": np.full(len(user_R), ABSENT),
        "click_nb": np.full(len(user_R), ABSENT),
    }
    converts_at_R = timestamp_R + 1 + journeys.delay_s_R.astype(np.int64)
    real_R = journeys.conversion_R & (converts_at_R < end_s)
    # A sorted key of user and time: a binary search finds the next conversion of a click.
    key_E = np.unique(user_R[real_R] * (end_s + 1) + converts_at_R[real_R])
    if len(key_E) == 0:
        return columns
    click_R = np.flatnonzero(journeys.click_R)
    event_R = np.searchsorted(key_E, user_R[click_R] * (end_s + 1) + timestamp_R[click_R], side="right")
    has_next_R = event_R < len(key_E)
    click_R, event_R = click_R[has_next_R], event_R[has_next_R]
    user_E, converts_at_E = np.divmod(key_E, end_s + 1)
    on_path_R = (user_E[event_R] == user_R[click_R]) & (converts_at_E[event_R] - timestamp_R[click_R] <= _PATH_S)
    click_R, event_R = click_R[on_path_R], event_R[on_path_R]

    # Clicks are ordered by user and time, so the clicks of one path are adjacent.
    clicks_E = np.bincount(event_R, minlength=len(key_E))
    first_E = np.cumsum(clicks_E) - clicks_E
    columns["conversion"][click_R] = 1
    columns["conversion_timestamp"][click_R] = converts_at_E[event_R]
    columns["conversion_id"][click_R] = rng.integers(1, MAX_USERS, len(key_E))[event_R]
    columns["attribution"][click_R] = (rng.random(len(key_E)) < _ATTRIBUTED)[event_R]
    columns["click_pos"][click_R] = np.arange(len(click_R)) - first_E[event_R]
    columns["click_nb"][click_R] = clicks_E[event_R]
    return columns


def _since_last_click(user_R: Ints, timestamp_R: Ints, click_R: np.ndarray) -> Ints:
    """Seconds since the user's latest click in an earlier row; ABSENT before the first click."""
    rows = np.arange(len(user_R))
    latest_R = np.maximum.accumulate(np.where(click_R, rows, ABSENT))
    latest_before_R = np.concatenate([[ABSENT], latest_R[:-1]])
    known_R = (latest_before_R != ABSENT) & (user_R[latest_before_R] == user_R)
    return np.where(known_R, timestamp_R - timestamp_R[latest_before_R], ABSENT)


def _skewed(uniform: Floats, size: int) -> Ints:
    """Indices below size from uniform numbers in [0, 1); small ones are far more frequent."""
    return (size * uniform**4).astype(np.int64)


def _scramble(number: Ints) -> Ints:
    return (number * 2_654_435_761) % 4_294_967_291


def _fraction(number: Ints) -> Floats:
    """A pseudo-random number in [0, 1) that depends on the argument alone."""
    return (_scramble(number) % 65_521) / 65_521


def _category_values(name: str, size: int) -> Ints:
    """The hashed values of a column: the same ones in every log."""
    rng = np.random.default_rng([size, *name.encode()])
    return rng.choice(MAX_USERS, size, replace=False)
