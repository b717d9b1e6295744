"""Facts of `exposures` that compare a day with its trailing baseline: the latest days before it that are usable.

The baseline is a median over these days. Each limit gets a margin for chance, so that a small log does not fail for
being small.
"""

from collections.abc import Iterator
from math import sqrt
from statistics import median

from jobs.quality.audit_results import ABOUT_COLUMNS
from jobs.quality.chance import STANDARD_ERRORS, share_margin
from jobs.quality.day_profile import DayProfile, day_profile, sum_of_profiles
from jobs.quality.facts import Fact, limit_fact
from lakehouse.lake import Lake
from schemas.contract import Severity
from schemas.dataset import Dataset
from schemas.quality import Limit
from schemas.tables import EXPOSURES


def baseline_facts(lake: Lake, dataset: Dataset, day: str) -> Iterator[Fact]:
    """The day's rows, missing values and channels compared with its trailing baseline.

    If there are fewer trailing days than the dataset requires, only columns with a declared limit of missing values
    are checked.
    """
    quality = dataset.quality
    today = day_profile(lake, dataset, day)
    profiles = (day_profile(lake, dataset, earlier) for earlier in trailing_days(lake, dataset, day))
    trailing = [profile for profile in profiles if profile is not None]
    has_baseline = len(trailing) >= quality.min_trailing_days
    if has_baseline:
        yield from _row_facts(today.exposures if today else 0, trailing, dataset, day)
    if today is None:
        return
    yield from _missing_value_facts(today, trailing if has_baseline else [], dataset)
    if has_baseline and (total := sum_of_profiles(trailing)) is not None:
        yield _channel_fact(today, total, quality.moved_channels)


def trailing_days(lake: Lake, dataset: Dataset, day: str) -> list[str]:
    """The latest earlier days with published rows and without a failed audit, oldest first."""
    days: list[str] = []
    for earlier in reversed([d for d in lake.days(EXPOSURES, dataset) if d < day]):
        manifest = lake[EXPOSURES, dataset, earlier].manifest
        if manifest is not None and manifest.rows and lake.failed_audit(manifest) is None:
            days.append(earlier)
        if len(days) == dataset.quality.trailing_days:
            break
    return days[::-1]


def _row_facts(rows: int, trailing: list[DayProfile], dataset: Dataset, day: str) -> Iterator[Fact]:
    """Limits on the number of rows. A day with too few rows breaks only one of the two lower limits."""
    quality, excuse = dataset.quality, dataset.quality.excused.get(day)
    baseline = median(profile.exposures for profile in trailing)
    is_lost = rows < quality.lost_rows.value * baseline
    # A day without a row is valid, though unusual. A day with a few rows is a part of a delivery.
    severity = Severity.WARNING if excuse or not rows else quality.lost_rows.severity
    observed = f"{rows:,} rows, usually {baseline:,.0f}"
    yield limit_fact(
        "expect_day_to_be_delivered", not is_lost, observed,
        f"at least {quality.lost_rows.value * baseline:,.0f} rows",
        f"There are at least {quality.lost_rows.value:.0%} of the usual rows" + (f" ({excuse})." if excuse else "."),
        Limit(quality.lost_rows.value, quality.lost_rows.rationale, severity),
    )  # fmt: skip
    is_enough = is_lost or rows >= quality.fewer_rows.value * baseline
    for name, limit, is_met, bound in (
        ("expect_rows_not_to_be_few", quality.fewer_rows, is_enough, "at least"),
        ("expect_rows_not_to_be_many", quality.more_rows, rows <= quality.more_rows.value * baseline, "at most"),
    ):
        yield limit_fact(
            name, is_met, observed, f"{bound} {limit.value * baseline:,.0f} rows",
            f"There are {bound} {limit.value:g} times the usual rows.", limit,
        )  # fmt: skip


def _missing_value_facts(today: DayProfile, trailing: list[DayProfile], dataset: Dataset) -> Iterator[Fact]:
    """A limit on each column's share of missing values: declared by the dataset, or a little above the baseline."""
    quality = dataset.quality
    for column, counts in today.columns.items():
        if column in quality.max_missing_share:
            baseline, allowed = None, quality.max_missing_share[column]
        elif trailing:
            baseline = median(profile.missing_share(column) for profile in trailing if column in profile.columns)
            allowed = baseline + quality.newly_missing.value
        else:
            continue
        share, users = today.missing_share(column), min(today.users, sum(counts.values()))
        usually = "" if baseline is None else f", usually {baseline:.1%}"
        yield limit_fact(
            f"expect_column_values_to_be_filled_as_usual({column})",
            share <= allowed + share_margin(allowed, users) if allowed < 1 else True,
            f"{share:.1%} missing{usually}", f"at most {allowed:.1%} missing",
            f"{column} is missing in at most {allowed:.1%} of the day.", quality.newly_missing, ABOUT_COLUMNS,
        )  # fmt: skip


def _channel_fact(today: DayProfile, trailing_total: DayProfile, limit: Limit) -> Fact:
    """The total variation of the channels: the share of exposures in other channels than in the trailing days."""
    names = sorted(today.channels.keys() | trailing_total.channels.keys())
    shares = {c: today.channels.get(c, 0) / today.exposures for c in names}
    baseline = {c: trailing_total.channels.get(c, 0) / trailing_total.exposures for c in names}
    moved = sum(abs(shares[c] - baseline[c]) for c in names) / 2
    margin = STANDARD_ERRORS / 2 * sqrt(sum(p * (1 - p) for p in baseline.values()) / today.users)
    channel = max(names, key=lambda c: abs(shares[c] - baseline[c]))
    return limit_fact(
        "expect_channel_shares_to_be_usual(channel)", moved <= limit.value + margin,
        f"{moved:.0%} moved, most of it in {channel or 'no channel'}: {shares[channel]:.0%}, usually "
        f"{baseline[channel]:.0%}",
        f"at most {limit.value:.0%} moved",
        f"At most {limit.value:.0%} of the exposures are in other channels than usual.", limit, ABOUT_COLUMNS,
    )  # fmt: skip
