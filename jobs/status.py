"""Print which partitions of a lake are fresh, stale, missing or failed: a line a day, a column a table.

    python -m jobs.status --dataset kuairand --lake lake [--from DAY] [--to DAY] [--raw RAW] [--todo]

Reads manifests and audit results only, so it takes seconds however much data there is. The raw log counts as it was
when a run last read it; with --raw a line says whether its files have changed since. A day that is not over yet, or
that the log has not got to, is nothing to run.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs.arguments import add_lake, add_range, dataset_of, lake_of, parser, range_of
from jobs.quality.table_contract import spec_in_file
from jobs.raw.files import find_raw_files
from jobs.raw.index import RawIndex, split_by_change, stored_index
from lakehouse.freshness import is_fresh, planned_inputs
from lakehouse.model_tables import CHAMPION, aliased_version, model_name, model_versions
from lakehouse.paths import UNDATED, Lake, day_before, days_between
from lakehouse.publishing import Manifest, code_version, failed_audit, read_manifest
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import (
    budget_plan,
    channel_allocation,
    channel_policies,
    exposures,
    journeys,
    prequential,
    promotions,
    quarantine,
    sequences,
    user_reward_ranks,
)

FROM_RAW = (exposures.NAME, quarantine.NAME)
FROM_HISTORY = (journeys.NAME, sequences.NAME)
OF_CHAMPION = (prequential.NAME, promotions.NAME)
FROM_JOURNEYS = (channel_policies.NAME, user_reward_ranks.NAME, channel_allocation.NAME)
FROM_SCORES = (budget_plan.NAME,)
TABLES = (*FROM_RAW, *FROM_HISTORY, *OF_CHAMPION, *FROM_JOURNEYS, *FROM_SCORES)


class State(Enum):
    """Of a partition. A stale one rests on something that has changed, or that is stale itself."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"  # its audit found a critical fault: no job builds on it
    NONE = "-"  # there is none, and none is to be: no model of before the day could have been tested on it


Grid = Mapping[str, Mapping[str, State]]  # by day, by table


def main() -> None:
    arguments = parser(__doc__)
    add_lake(arguments)
    add_range(arguments)
    arguments.add_argument("--raw", type=Path, help="folder of the raw files, to see whether they have changed")
    arguments.add_argument("--todo", action="store_true", help="only the first day, and from when to when to run")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    index = stored_index(lake, dataset.name)
    last_over = yesterday(dataset)
    days = days_of_lake(lake, dataset.name, index, last_over)
    if not days:
        raise UserError(f"nothing of {dataset.name} in {lake.root} yet: make run, or name another lake with LAKE=")
    manifests = read_manifests(lake, dataset.name, days)
    grid = states(lake, dataset.name, index, days, manifests)
    over = {day: of_day for day, of_day in grid.items() if day <= last_over}
    if args.todo:
        if not over:
            raise UserError(f"no day of {dataset.name} in {lake.root} is over yet: name the days with FROM= and TO=")
        print(min(over), *unfinished(over)[:1], *unfinished(over)[-1:])
        return
    first, last = range_of(args)
    shown = [day for day in days if (first or day) <= day <= (last or day)]
    print("\n".join([*grid_lines(grid, shown), "", *advice(over, dataset.name), *code_lines(manifests)]))
    for line in raw_lines(dataset, lake, index, args.raw):
        print(line)


def yesterday(dataset: Dataset) -> str:
    """The last day that is over in the dataset's calendar: of a later one more rows may come."""
    return day_before(datetime.now(ZoneInfo(dataset.timezone)).date().isoformat())


def days_of_lake(lake: Lake, dataset: str, index: RawIndex | None, last_over: str) -> list[str]:
    """The days that the lake holds, and from the first of them on those that the log has got to and that are over.

    What a clock that runs ahead has written makes no days (RawIndex.has_come). Without an index, a day in between
    counts as well.
    """
    held = {day for table in TABLES for day in lake.days(table, dataset)}
    span = index.span if index else None
    ends = [*held, *(span or ())]
    first, last = min(held or ends, default=""), min(max(ends, default=""), last_over)
    come = days_between(first, last) if first and first <= last else []
    return sorted(held | {day for day in come if day not in held and (index is None or index.has_come(day))})


def read_manifests(lake: Lake, dataset: str, days: list[str]) -> dict[str, dict[str, Manifest | None]]:
    return {table: {day: read_manifest(lake.partition(table, dataset, day)) for day in days} for table in TABLES}


def states(
    lake: Lake,
    dataset: str,
    index: RawIndex | None,
    days: list[str],
    manifests: Mapping[str, Mapping[str, Manifest | None]],
) -> Grid:
    """The state of each partition of these days, the lake's first day among them."""
    grid: dict[str, dict[str, State]] = {}
    history: dict[str, str] = {}
    all_fresh = True
    spec, champion, trained = champion_spec(lake, dataset), champion_name(lake, dataset), first_trained(lake, dataset)
    newest = max(lake.days(journeys.NAME, dataset), default="")

    def state(table: str, day: str, inputs: Mapping[str, str] | None, spec_version: str | None = None) -> State:
        found = manifests[table][day]
        if found is None:
            return State.MISSING
        if failed_audit(lake, found):
            return State.FAILED
        # What else a partition states beside its inputs, such as the window's length, is not for us to compare.
        beside = {name: value for name, value in found.inputs.items() if "/" not in name}
        same = inputs is not None and is_fresh(
            found, {**beside, **inputs}, spec_version=spec_version or found.spec_version
        )
        return State.FRESH if same else State.STALE

    for day in days:
        of_day = grid[day] = {}
        for table in FROM_RAW:
            found = manifests[table][day]
            of_day[table] = state(table, day, index.inputs(day) if index else dict(found.inputs) if found else {})
        rows = manifests[exposures.NAME][day]
        if rows is not None:
            history[_path(lake, exposures.NAME, dataset, day)] = rows.fingerprint
        all_fresh &= of_day[exposures.NAME] is State.FRESH
        for table in FROM_HISTORY:
            of_day[table] = state(table, day, history if all_fresh else None, spec if table == sequences.NAME else None)
        for table in OF_CHAMPION:  # judgements of their time: no later model makes them stale
            found = manifests[table][day]
            asked = found is not None or (trained is not None and trained < day)
            of_day[table] = state(table, day, found.inputs if found else None) if asked else State.NONE
        scored, fresh = manifests[journeys.NAME][day], of_day[journeys.NAME] is State.FRESH
        of_scored = {_path(lake, journeys.NAME, dataset, day): scored.fingerprint} if scored and fresh else None
        # All of one model; which one, a new champion changes on the newest day alone (mtorl_model/score.py).
        issued = manifests[channel_policies.NAME][day]
        model = (champion if day == newest else None) or (issued.inputs.get("model") if issued else None)
        if of_scored and model:
            of_scored["model"] = model
        for table in FROM_JOURNEYS:
            of_day[table] = state(table, day, of_scored)
        scores_fresh = all(of_day[table] is State.FRESH for table in (journeys.NAME, *FROM_JOURNEYS))
        for table in FROM_SCORES:
            of_day[table] = state(table, day, planned_inputs(lake, dataset, day) if scores_fresh else None)
    return grid


def _path(lake: Lake, table: str, dataset: str, day: str) -> str:
    return str(lake.partition(table, dataset, day).relative_to(lake.root))


def champion_spec(lake: Lake, dataset: str) -> str | None:
    """The version of the spec that the daily run cuts sequences with; None before the first champion was handed out."""
    file = lake.table("champion", dataset) / "feature_spec.json"
    return spec_in_file(file).version if file.is_file() else None


def champion_name(lake: Lake, dataset: str) -> str | None:
    """The champion of now, as the manifests of its scores name it; None before the first one."""
    number = aliased_version(lake, model_name(dataset), CHAMPION)
    return f"{model_name(dataset)}/{number}" if number is not None else None


def first_trained(lake: Lake, dataset: str) -> str | None:
    """The earliest day that a champion was trained through, those apart that were rolled back; None without any.

    On each day behind it some champion can be tested, and the daily run leaves a test and a decision, if empty ones.
    """
    been = [version.tags for version in model_versions(lake, model_name(dataset))]
    return min((tags["day"] for tags in been if "reign" in tags and "withdrawn" not in tags), default=None)


def grid_lines(grid: Grid, days: list[str]) -> list[str]:
    """The grid as text; days in a row that look the same are one line."""
    rows: list[tuple[list[str], Mapping[str, State]]] = []
    for day in days:
        if rows and rows[-1][1] == grid[day] and rows[-1][0][-1] == day_before(day):
            rows[-1][0].append(day)
        else:
            rows.append(([day], grid[day]))
    lines = [f"{'day':<26}" + "".join(f"{table}  " for table in TABLES)]
    for span, of_day in rows:
        name = span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}"
        lines.append(f"{name:<26}" + "".join(f"{of_day[table].value:<{len(table)}}  " for table in TABLES))
    return [line.rstrip() for line in lines]


def unfinished(grid: Grid) -> list[str]:
    """The days of which a run would build something."""
    return [day for day, of_day in grid.items() if {State.STALE, State.MISSING} & set(of_day.values())]


def advice(grid: Grid, dataset: str) -> list[str]:
    """What to do, in one line, or some more where audits have failed."""
    counts = Counter(state for of_day in grid.values() for state in of_day.values())
    lines = []
    for tables, remedy in (
        ([table for table in TABLES if table not in OF_CHAMPION], "mend the raw rows, then make backfill"),
        (OF_CHAMPION, f"make rollback DATASET={dataset} takes a promotion back"),
    ):
        failed = [f"{table} {day}" for day, of_day in grid.items() for table in tables if of_day[table] is State.FAILED]
        if failed:
            more = ", ..." if len(failed) > 3 else ""
            lines.append(f"failed: {', '.join(failed[:3])}{more}: the data docs say why; {remedy}")
    if counts[State.STALE] + counts[State.MISSING]:
        todo = unfinished(grid)
        lines.append(f"{counts[State.STALE]} stale, {counts[State.MISSING]} missing: "
                     f"make backfill DATASET={dataset} FROM={todo[0]} TO={todo[-1]}")  # fmt: skip
    return lines or ["all fresh: nothing to do"]


def code_lines(manifests: Mapping[str, Mapping[str, Manifest | None]]) -> list[str]:
    """How many partitions another version of the code has built: no fault, but worth knowing.

    Not of the tables behind a model: what was issued and judged stays, whatever the code.
    """
    ours = code_version("jobs")
    others = sum(1 for table in (*FROM_RAW, *FROM_HISTORY) for found in manifests[table].values()
                 if found and found.code_version != ours)  # fmt: skip
    if not others:
        return []
    return [
        f"{others} partitions were built by another version of the code; make backfill THIS_CODE=1 builds them again"
    ]


def raw_lines(dataset: Dataset, lake: Lake, index: RawIndex | None, raw: Path | None) -> list[str]:
    """Refused rows of no day of the log, and files that have changed since a run last read them."""
    lines = []
    undated = read_manifest(lake.partition(quarantine.NAME, dataset.name, UNDATED))
    if undated and failed_audit(lake, undated):
        lines.append("failed: quarantine undated: most raw rows belong to no day; no job builds on such a log")
    if raw is not None:
        _, changed = split_by_change(dataset, find_raw_files(dataset, raw), index)
        if changed:
            names = ", ".join(path.name for path in changed[:3]) + (", ..." if len(changed) > 3 else "")
            lines.append(f"the raw log has changed since it was last read ({names}): the next run finds out which days")
    return lines


if __name__ == "__main__":
    exit_with_one_line(main)
