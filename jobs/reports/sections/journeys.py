"""The section about journeys: how many users there are, and how long their journeys are."""

from jobs.reports.charts import columns
from jobs.reports.content import Picture, Section, TrendFigure
from jobs.reports.day_view import DayView
from jobs.reports.formats import count, share_of
from jobs.reports.svg import Series
from lakehouse.journeys import count_users
from schemas.days import day_before
from schemas.tables import JOURNEYS


def journeys_section(view: DayView) -> Section:
    """Users by the length of their journey. Needs next_step.seen_exposures of `journeys`."""
    manifest = view.manifests.get(JOURNEYS)
    if manifest is None:
        text = "This day has no journeys: the run has not built them yet, or was stopped before."
        return Section("journeys", "Journeys", (text,))
    users_per_bucket = _users_per_bucket(view)
    buckets = range(max(users_per_bucket, default=0) + 1)
    users = sum(users_per_bucket.values())
    single = users_per_bucket.get(0, 0)
    users_before = _users_before(view)
    new_users = f" {users - users_before:,} of them are new on this day." if users_before else ""
    title = "Users by number of exposures so far"
    series = [Series("", [users_per_bucket.get(k, 0) for k in buckets])]
    return Section(
        "journeys", "Journeys",
        (f"A journey is everything that one user was shown until the end of the day, in order of time. There are "
         f"{users:,} users.{new_users} {single:,} ({share_of(single, users)}) have seen a single exposure, so the "
         "model cannot learn from them yet.",),
        (Picture(title, columns(title, [_bucket_name(k) for k in buckets], series, count),
                 "Look for columns that get lower to the right. A peak at 1 means that the user ids have changed."),),
        trend_figures=(TrendFigure("Users with a journey", "", users, "count",
                                   "Look for a steady rise: users are added, and never removed.", True),),
    )  # fmt: skip


def _users_before(view: DayView) -> int:
    """The users at the end of the day before; 0 if it has no journeys."""
    return count_users(view.lake, view.dataset, day_before(view.day))


def _users_per_bucket(view: DayView) -> dict[int, int]:
    """Users with 1, 2, 3 to 4, 5 to 8, ... exposures; bucket k ends at 2^k."""
    return dict(view.query(
        JOURNEYS,
        """SELECT CAST(ceil(log2(next_step.seen_exposures)) AS int) AS bucket, count(*) FROM "partition"
           WHERE next_step.seen_exposures > 0 GROUP BY ALL""",
    ))  # fmt: skip


def _bucket_name(k: int) -> str:
    first, last = (2 ** (k - 1) + 1 if k else 1), 2**k
    return str(last) if first >= last else f"{first}-{last}"
