"""A day beside what is usual: facts that compare it with its trailing days, or its predictions with what it brought.

What is usual is the median of the trailing days that hold rows and have not failed an audit. Each limit is widened by
what chance alone does on so few users (three standard errors), so that a small log is not accused of being small.
"""

from collections.abc import Iterator
from math import exp, sqrt
from statistics import median

import duckdb

from jobs.quality.audit_results import ABOUT_COLUMNS
from jobs.quality.day_profile import DayProfile, profile_of, together
from jobs.quality.partition_facts import Fact, verdict
from jobs.quality.partition_view import means
from lakehouse.lake import Lake
from schemas.contract import Severity
from schemas.dataset import Dataset
from schemas.quality import Limit
from schemas.tables import EXPOSURES
from schemas.tables.channel_policies import FROM_MODEL

LUCK = 3.0  # standard errors that are chance


def usual_facts(lake: Lake, dataset: Dataset, ds: str) -> Iterator[Fact]:
    """Of `exposures`: rows, missing values and channels beside the trailing days; nothing where there are too few."""
    quality = dataset.quality
    days = trailing_days(lake, dataset, ds)
    today = profile_of(lake, dataset, ds)
    trailing = [found for day in days if (found := profile_of(lake, dataset, day)) is not None]
    enough = len(trailing) >= quality.min_trailing_days
    if enough:
        yield from _rows(today.exposures if today else 0, trailing, dataset, ds)
    if today is None:
        return
    for column, counts in today.columns.items():
        if column in quality.max_missing_share:
            usual, allowed = None, quality.max_missing_share[column]
        elif enough:
            usual = median(day.missing_share(column) for day in trailing if column in day.columns)
            allowed = usual + quality.newly_missing.value
        else:
            continue
        share, total = today.missing_share(column), min(today.users, sum(counts.values()))
        beside = "" if usual is None else f", usually {usual:.1%}"
        yield verdict(
            f"expect_column_values_to_be_filled_as_usual({column})",
            share <= allowed + LUCK * sqrt(allowed * (1 - allowed) / max(total, 1)) if allowed < 1 else True,
            f"{share:.1%} missing{beside}", f"at most {allowed:.1%} missing",
            f"{column} is missing in no more than {allowed:.1%} of the day.", quality.newly_missing, ABOUT_COLUMNS,
        )  # fmt: skip
    if enough and (past := together(trailing)) is not None:
        yield _channels(today, past, quality.moved_channels)


def trailing_days(lake: Lake, dataset: Dataset, ds: str) -> list[str]:
    """The days before this one that tell what is usual, oldest first: published, with rows, not failed."""
    found = []
    for day in reversed([d for d in lake.days(EXPOSURES, dataset) if d < ds]):
        manifest = lake[EXPOSURES, dataset, day].manifest
        if manifest is not None and manifest.rows and lake.failed_audit(manifest) is None:
            found.append(day)
        if len(found) == dataset.quality.trailing_days:
            break
    return found[::-1]


def _rows(rows: int, trailing: list[DayProfile], dataset: Dataset, ds: str) -> Iterator[Fact]:
    """Of the two rules a day breaks one at most."""
    quality, excuse = dataset.quality, dataset.quality.excused.get(ds)
    usual = median(day.exposures for day in trailing)
    lost = rows < quality.lost_rows.value * usual
    # No row at all is a valid, empty day, though one to look at: a part of a delivery is not.
    severity = Severity.WARNING if excuse or not rows else quality.lost_rows.severity
    found = f"{rows:,} rows, usually {usual:,.0f}"
    yield verdict(
        "expect_day_to_be_delivered", not lost, found, f"at least {quality.lost_rows.value * usual:,.0f} rows",
        f"There are at least {quality.lost_rows.value:.0%} of the usual rows" + (f" ({excuse})." if excuse else "."),
        Limit(quality.lost_rows.value, quality.lost_rows.why, severity),
    )  # fmt: skip
    for name, limit, holds, words in (
        ("expect_rows_not_to_be_few", quality.fewer_rows, lost or rows >= quality.fewer_rows.value * usual, "at least"),
        ("expect_rows_not_to_be_many", quality.more_rows, rows <= quality.more_rows.value * usual, "at most"),
    ):
        yield verdict(
            name, holds, found, f"{words} {limit.value * usual:,.0f} rows",
            f"There are {words} {limit.value:g} times the usual rows.", limit,
        )  # fmt: skip


def _channels(today: DayProfile, past: DayProfile, limit: Limit) -> Fact:
    """Total variation: the share of exposures that would have to change channel for the usual shares."""
    names = sorted(today.channels.keys() | past.channels.keys())
    now = {c: today.channels.get(c, 0) / today.exposures for c in names}
    usual = {c: past.channels.get(c, 0) / past.exposures for c in names}
    moved = sum(abs(now[c] - usual[c]) for c in names) / 2
    luck = LUCK / 2 * sqrt(sum(p * (1 - p) for p in usual.values()) / today.users)
    most = max(names, key=lambda c: abs(now[c] - usual[c]))
    return verdict(
        "expect_channel_shares_to_be_usual(channel)", moved <= limit.value + luck,
        f"{moved:.0%} moved, most of it {most or 'no channel'}: {now[most]:.0%}, usually {usual[most]:.0%}",
        f"at most {limit.value:.0%} moved",
        f"No more than {limit.value:.0%} of the exposures are in other channels than usual.", limit, ABOUT_COLUMNS,
    )  # fmt: skip


def prediction_facts(connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, ds: str) -> Iterator[Fact]:
    """Of `user_reward_ranks`: the model's mean prediction beside the day's rate of each gain that is known at once."""
    today, limit = profile_of(lake, dataset, ds), dataset.quality.mean_prediction
    gains = [gain for gain in dataset.gain_names if gain not in dataset.late_gains]
    found = means(connection, [f"predicted_{gain}" for gain in gains], f"source = '{FROM_MODEL}'")
    for gain in gains if today else []:
        if f"predicted_{gain}" not in found:
            continue
        predicted, users = found[f"predicted_{gain}"]
        hits = today.gains[gain]
        observed = hits / today.exposures
        # Half a gain more on either side keeps a rate of 0 comparable.
        ratio = (predicted * users + 0.5) / (users + 1) / ((hits + 0.5) / (today.exposures + 1))
        bound = limit.value * exp(LUCK * sqrt(1 / (hits + 1) + 1 / (predicted * users + 1)))
        yield verdict(
            f"expect_mean_prediction_to_be_near_observed(predicted_{gain})", 1 / bound <= ratio <= bound,
            f"mean {predicted:.3f}, observed {observed:.3f}", f"within a factor of {limit.value:g}",
            f"The mean prediction of {gain} is within a factor of {limit.value:g} of the day's rate, chance apart.",
            limit, ABOUT_COLUMNS,
        )  # fmt: skip
