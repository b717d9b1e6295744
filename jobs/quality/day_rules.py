"""Rules that follow from the day of a partition: which times its rows may have."""

from schemas import tables
from schemas.contract import Expectation, Table
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_before
from schemas.expectations import between


def day_rules(table: Table, dataset: Dataset, day: str) -> tuple[Expectation, ...]:
    """The rules of this table for this day; bounds are milliseconds since 1970, UTC."""
    if day == UNDATED:
        return ()
    start, end = day_bounds_ms(dataset, day)
    last = end - 1
    match table.name:
        case tables.EXPOSURES:
            reason = "an exposure of another day belongs to the partition of that day"
            return (between("exposed_at_ms", low=start, high=last, rationale=reason),)
        case tables.JOURNEYS:
            return (
                between("newest_ms", high=last, rationale="a journey must not contain anything from a later day"),
                between(
                    "next_known_ms", low=end, rationale="a gain that is known by the end of the day is not pending"
                ),
            )
        case _:
            return ()


def day_bounds_ms(dataset: Dataset, day: str) -> tuple[int, int]:
    """The first millisecond of the day in the dataset's calendar, and the first of the next day."""
    return dataset.end_of_day_ms(day_before(day)), dataset.end_of_day_ms(day)
