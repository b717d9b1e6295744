"""Lists the published days of a dataset, and the tables that its days do not have."""

from collections.abc import Mapping

from lakehouse.lake import Lake, dataset_name
from schemas.dataset import Dataset
from schemas.days import day_plus, days_between
from schemas.errors import UserError
from schemas.tables import EXPOSURES
from schemas.tables.registry import TABLES


def exposure_days(lake: Lake, dataset: Dataset, first: str | None, last: str | None) -> list[str]:
    """All days from first to last; the defaults are the first and the last published day.

    Raises UserError if one of these days has no exposures.
    """
    published = lake.days(EXPOSURES, dataset)
    if not published:
        raise UserError(f"no exposures for {dataset.name} in {lake.root}: run build_exposures first (make run)")
    days = days_between(first or published[0], last or published[-1])
    missing = [day for day in days if day not in set(published)]
    if missing:
        raise UserError(f"no exposures for {dataset.name} on {missing[0]} in {lake.root}: run that day first")
    return days


def published_days(lake: Lake, table: str, dataset: Dataset | str, first: str | None, last: str | None) -> list[str]:
    """The published days of the table from first to last, oldest first. Raises UserError if there is no such day."""
    published = lake.days(table, dataset)
    days = [day for day in published if (first or day) <= day <= (last or day)]
    if not days:
        span = f"from {first or 'the beginning'} to {last or 'the end'}"
        hint = f"there are {published[0]} to {published[-1]}" if published else "run the day first (make run)"
        raise UserError(f"no {table} for {dataset_name(dataset)} {span} in {lake.root}: {hint}")
    return days


def days_to_update(lake: Lake, dataset: Dataset, day: str, table: str) -> list[str]:
    """The day, and the days before it that have the table already and may still see outcomes come in."""
    with_exposures = set(exposure_days(lake, dataset, None, day))
    with_table = {*lake.days(table, dataset), day}
    first = day_plus(day, -dataset.outcome_days)
    return [d for d in days_between(first, day) if d in with_exposures & with_table]


def stale_days(
    lake: Lake,
    table: str,
    dataset: Dataset,
    inputs: Mapping[str, Mapping[str, str]],
    *,
    this_code: str | None = None,
) -> list[str]:
    """The days that are not published, or do not match their inputs (Manifest.is_fresh). inputs: of each day."""
    published = lake.manifests(dataset, [table])[table]
    fresh = {
        day for day in inputs.keys() & published.keys() if published[day].is_fresh(inputs[day], this_code=this_code)
    }
    return [day for day in inputs if day not in fresh]


def newest_fresh_day(lake: Lake, table: str, dataset: Dataset, day: str, this_code: str | None = None) -> str | None:
    """The newest day before `day` on which a table that is built from all exposures so far is fresh; None without any.

    this_code: the code version that must have built it, None for any.
    """
    published = [earlier for earlier in lake.days(table, dataset) if earlier < day]
    inputs = lake.history_inputs(EXPOSURES, dataset, published)
    stale = set(stale_days(lake, table, dataset, inputs, this_code=this_code))
    manifests, fresh = lake.manifests(dataset, [table])[table], set(published) - stale
    return max((earlier for earlier in published if fresh.issuperset(manifests[earlier].days)), default=None)


def unused_tables(lake: Lake, dataset: Dataset) -> set[str]:
    """The tables of scoring that no method of this lake makes, and the tables that are built from them.

    A method makes a table if some day has it. Before the first scoring, the tables of the default method are expected.
    """
    scores = {table.name: table for table in TABLES.values() if table.scores and not table.optional}
    used = {name for name in scores if lake.days(name, dataset)} or {n for n, t in scores.items() if t.daily}
    unused = scores.keys() - used
    return {t.name for t in TABLES.values() if {t.name, *t.same_day} & unused}
