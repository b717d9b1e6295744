"""Where a build starts: at the newest earlier journeys that are fresh, or at the first exposure."""

from dataclasses import dataclass

from lakehouse.lake import Lake
from lakehouse.published_days import exposure_days, newest_fresh_day
from lakehouse.storage.delta_table import FilesByValue
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES, JOURNEYS


def newest_fresh_journeys_day(lake: Lake, dataset: Dataset, day: str, required_code: str | None = None) -> str | None:
    """The day of the newest `journeys` before `day` that still match the exposures; None without any."""
    return newest_fresh_day(lake, JOURNEYS, dataset, day, required_code)


@dataclass(frozen=True)
class EarlierHistory:
    """The files that a build reads, by day: of the earlier journeys it starts from, and of the exposures since then."""

    journeys: FilesByValue
    exposures: FilesByValue


def earlier_history(
    lake: Lake, dataset: Dataset, day: str, last: str, required_code: str | None = None
) -> EarlierHistory:
    """The newest fresh journeys before `day`, and the exposures since then, up to `last`.

    As a rule the journeys belong to the day before. If those are missing or stale, an earlier day is taken; without a
    fresh one there are no journeys, and all days of exposures are read. To fold several days together gives the same
    rows as to fold them day by day. required_code: the code version that must have built the journeys, None for any.

    Raises UserError if a day has no exposures or if the audit of one of these tables failed.
    """
    journeys_day = newest_fresh_journeys_day(lake, dataset, day, required_code)
    days = [d for d in exposure_days(lake, dataset, None, last) if d > (journeys_day or "")]
    for d in days:
        lake[EXPOSURES, dataset, d].require()
    read = lake[JOURNEYS, dataset, journeys_day].require().days if journeys_day else []
    return EarlierHistory(lake.present(JOURNEYS, dataset, read), lake.present(EXPOSURES, dataset, days))
