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

from jobs.raw.files import find_raw_files
from jobs.raw.index import RawIndex, split_by_change, stored_index
from lakehouse.arguments import add_day_range, add_lake, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.code_version import code_version
from lakehouse.feature_specs import spec_in_file
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.model_tables import CHAMPION, aliased_version, model_name, model_versions
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_before, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import CHANNEL_POLICIES, EXPOSURES, JOURNEYS, QUARANTINE, SEQUENCES
from schemas.tables.registry import SCORE_TABLES, TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW, RegisteredTable

DAILY = [table for table in TABLES.values() if table.daily]


class State(Enum):
    """Of a partition. A stale one rests on something that has changed, or that is stale itself."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"  # its audit found a critical fault: no job builds on it
    NONE = "-"  # there is none, and none is to be: no model of before the day could have been tested on it


Grid = Mapping[str, Mapping[str, State]]  # by day, by table
Manifests = Mapping[str, Mapping[str, Manifest | None]]  # by table, by day


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_lake(arguments)
    add_day_range(arguments)
    arguments.add_argument("--raw", type=Path, help="folder of the raw files, to see whether they have changed")
    arguments.add_argument("--todo", action="store_true", help="only the first day, and from when to when to run")
    args = arguments.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    index = stored_index(lake, dataset)
    last_over = yesterday(dataset)
    days = days_of_lake(lake, dataset, index, last_over)
    if not days:
        raise UserError(f"nothing of {dataset.name} in {lake.root} yet: make run, or name another lake with LAKE=")
    manifests = read_manifests(lake, dataset, days)
    grid = states(lake, dataset, index, days, manifests)
    over = {day: of_day for day, of_day in grid.items() if day <= last_over}
    if args.todo:
        if not over:
            raise UserError(f"no day of {dataset.name} in {lake.root} is over yet: name the days with FROM= and TO=")
        print(min(over), *unfinished(over)[:1], *unfinished(over)[-1:])
        return
    first, last = day_range_of(args)
    shown = [day for day in days if (first or day) <= day <= (last or day)]
    print("\n".join([*grid_lines(grid, shown), "", *advice(over, dataset.name), *code_lines(manifests)]))
    for line in raw_lines(dataset, lake, index, args.raw):
        print(line)


def yesterday(dataset: Dataset) -> str:
    """The last day that is over in the dataset's calendar: of a later one more rows may come."""
    return day_before(datetime.now(ZoneInfo(dataset.timezone)).date().isoformat())


def days_of_lake(lake: Lake, dataset: Dataset, index: RawIndex | None, last_over: str) -> list[str]:
    """The days that the lake holds, and from the first of them on those that the log has got to and that are over.

    What a clock that runs ahead has written makes no days (RawIndex.has_come). Without an index, a day in between
    counts as well.
    """
    published = {day for table in DAILY for day in lake.days(table.name, dataset)}
    span = index.span if index else None
    ends = [*published, *(span or ())]
    first, last = min(published or ends, default=""), min(max(ends, default=""), last_over)
    expected = days_between(first, last) if first and first <= last else []
    arrived = {day for day in expected if day not in published and (index is None or index.has_come(day))}
    return sorted(published | arrived)


def read_manifests(lake: Lake, dataset: Dataset, days: list[str]) -> Manifests:
    return {table.name: {day: lake[table.name, dataset, day].manifest for day in days} for table in DAILY}


def states(lake: Lake, dataset: Dataset, index: RawIndex | None, days: list[str], manifests: Manifests) -> Grid:
    """The state of each partition of these days, which begin with the lake's first day."""
    grid: dict[str, dict[str, State]] = {}
    history: dict[str, str] = {}  # fingerprints of all exposures up to the day
    history_is_fresh = True
    spec, champion, trained = champion_spec(lake, dataset), champion_name(lake, dataset), first_trained(lake, dataset)
    newest = max(lake.days(JOURNEYS, dataset), default="")
    for day in days:
        exposures = manifests[EXPOSURES][day]
        if exposures is not None:
            history[lake[EXPOSURES, dataset, day].key] = exposures.fingerprint
        day_states = grid[day] = {}
        for table in DAILY:
            manifest = manifests[table.name][day]
            spec_version = None
            inputs: Mapping[str, str] | None = None
            if not table.rebuilt:  # what was measured or decided once: no later model makes it stale
                if manifest is None and (trained is None or trained >= day):
                    day_states[table.name] = State.NONE
                    continue
                inputs = manifest.inputs if manifest else None
            elif table.history:
                inputs = history if history_is_fresh else None
                spec_version = spec if table.name == SEQUENCES else None
            elif table.same_day:
                inputs = _same_day_inputs(lake, dataset, day, table, day_states, manifests)
                # The scores of a day are of one model; a new champion changes those of the newest day alone.
                issued = manifests[CHANNEL_POLICIES][day]
                model = (champion if day == newest else None) or (issued.inputs.get("model") if issued else None)
                if inputs is not None and model and table.name in SCORE_TABLES:
                    inputs = {**inputs, "model": model}
            elif index:
                inputs = index.inputs(day)
            else:
                inputs = manifest.inputs if manifest else {}
            day_states[table.name] = _state(lake, manifest, inputs, spec_version)
            if table.name == EXPOSURES:
                history_is_fresh &= day_states[EXPOSURES] is State.FRESH
    return grid


def _state(lake: Lake, manifest: Manifest | None, inputs: Mapping[str, str] | None, spec_version: str | None) -> State:
    """inputs: of a build of today; None where what the partition is built from is not fresh itself."""
    if manifest is None:
        return State.MISSING
    if lake.failed_audit(manifest):
        return State.FAILED
    if inputs is None:
        return State.STALE
    # Settings, such as the window's length, are named without a slash: not compared here.
    settings = {name: value for name, value in manifest.inputs.items() if "/" not in name}
    fresh = manifest.is_fresh({**settings, **inputs}, spec_version=spec_version or manifest.spec_version)
    return State.FRESH if fresh else State.STALE


def _same_day_inputs(
    lake: Lake,
    dataset: Dataset,
    day: str,
    table: RegisteredTable,
    day_states: Mapping[str, State],
    manifests: Manifests,
) -> dict[str, str] | None:
    """The fingerprints of the day's partitions that the table is built from; None where one of them is not fresh."""
    if any(day_states[name] is not State.FRESH for name in table.same_day):
        return None
    built_from = {lake[name, dataset, day].key: manifests[name][day] for name in table.same_day}
    return {key: manifest.fingerprint for key, manifest in built_from.items() if manifest is not None}


def champion_spec(lake: Lake, dataset: Dataset) -> str | None:
    """The version of the spec that the daily run cuts sequences with; None before the first champion was handed out."""
    file = lake.table("champion", dataset) / "feature_spec.json"
    return spec_in_file(file).version if file.is_file() else None


def champion_name(lake: Lake, dataset: Dataset) -> str | None:
    """The champion of now, as the manifests of its scores name it; None before the first one."""
    number = aliased_version(lake, model_name(dataset.name), CHAMPION)
    return f"{model_name(dataset.name)}/{number}" if number is not None else None


def first_trained(lake: Lake, dataset: Dataset) -> str | None:
    """The earliest day that a champion was trained through, those apart that were rolled back; None without any.

    On each day behind it some champion can be tested, and the daily run leaves a test and a decision, if empty ones.
    """
    been = [version.tags for version in model_versions(lake, model_name(dataset.name))]
    return min((tags["day"] for tags in been if "reign" in tags and "withdrawn" not in tags), default=None)


def grid_lines(grid: Grid, days: list[str]) -> list[str]:
    """The grid as text; days in a row that look the same are one line."""
    rows: list[tuple[list[str], Mapping[str, State]]] = []
    for day in days:
        if rows and rows[-1][1] == grid[day] and rows[-1][0][-1] == day_before(day):
            rows[-1][0].append(day)
        else:
            rows.append(([day], grid[day]))
    lines = [f"{'day':<26}" + "".join(f"{table.name}  " for table in DAILY)]
    for span, of_day in rows:
        name = span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}"
        lines.append(f"{name:<26}" + "".join(f"{of_day[table.name].value:<{len(table.name)}}  " for table in DAILY))
    return [line.rstrip() for line in lines]


def unfinished(grid: Grid) -> list[str]:
    """The days of which a run would build something."""
    return [day for day, of_day in grid.items() if {State.STALE, State.MISSING} & set(of_day.values())]


def advice(grid: Grid, dataset: str) -> list[str]:
    """What to do, in one line, or some more where audits have failed."""
    counts = Counter(state for of_day in grid.values() for state in of_day.values())
    lines = []
    for tables, remedy in (
        ([table.name for table in DAILY if table.rebuilt], "mend the raw rows, then make backfill"),
        (
            [table.name for table in DAILY if not table.rebuilt],
            f"make rollback DATASET={dataset} takes a promotion back",
        ),
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


def code_lines(manifests: Manifests) -> list[str]:
    """How many partitions another version of the code has built: no fault, but worth knowing.

    Not of the tables behind a model: what was issued and judged stays, whatever the code.
    """
    ours = code_version("jobs")
    built = [
        manifest
        for table in (*TABLES_FROM_RAW, *TABLES_FROM_HISTORY)
        for manifest in manifests[table].values()
        if manifest
    ]
    others = sum(manifest.code_version != ours for manifest in built)
    if not others:
        return []
    return [
        f"{others} partitions were built by another version of the code; make backfill THIS_CODE=1 builds them again"
    ]


def raw_lines(dataset: Dataset, lake: Lake, index: RawIndex | None, raw: Path | None) -> list[str]:
    """Refused rows of no day of the log, and files that have changed since a run last read them."""
    lines = []
    undated = lake[QUARANTINE, dataset, UNDATED].manifest
    if undated and lake.failed_audit(undated):
        lines.append("failed: quarantine undated: most raw rows belong to no day; no job builds on such a log")
    if raw is not None:
        _, changed = split_by_change(dataset, find_raw_files(dataset, raw), index)
        if changed:
            names = ", ".join(path.name for path in changed[:3]) + (", ..." if len(changed) > 3 else "")
            lines.append(f"the raw log has changed since it was last read ({names}): the next run finds out which days")
    return lines


if __name__ == "__main__":
    exit_with_one_line(main)
