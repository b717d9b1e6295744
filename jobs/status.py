"""Print which partitions of a lake are fresh, stale, missing or failed: one line per day, one column per table.

    python -m jobs.status --dataset kuairand --lake lake [--from DAY] [--to DAY] [--raw RAW] [--todo]

Reads manifests and audit results only, so it takes seconds whatever the size of the data. The raw log counts in the
state in which a run last read it; with --raw, a line reports whether its files have changed since then. A day that is
not over, or that the log has not reached, does not have to be run.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from zoneinfo import ZoneInfo

from jobs.raw.accounts import log_accounts, waiting_line
from jobs.raw.index import RawIndex, split_by_change, stored_index
from lakehouse.arguments import add_day_range, add_lake, add_raw, dataset_of, dataset_parser, day_range_of, lake_of
from lakehouse.code_version import code_version
from lakehouse.lake import Lake, table_of
from lakehouse.manifest import Manifest
from lakehouse.models.decisions import champion_among, read_decisions
from lakehouse.models.versions import Version, model_name
from lakehouse.published_days import unused_tables
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_before, days_between
from schemas.errors import NothingToDoYet, UserError, exit_with_one_line
from schemas.printable import printable
from schemas.tables import CHANNEL_POLICIES, EXPOSURES, JOURNEYS, QUARANTINE
from schemas.tables.channel_policies import RECOMMENDATION
from schemas.tables.registry import SCORE_TABLES, TABLES, TABLES_FROM_HISTORY, TABLES_FROM_RAW, RegisteredTable

# Which tables of scoring a day has depends on the methods; they are listed where a day has them.
LISTED = [table for table in TABLES.values() if table.daily or (table.scores and not table.optional)]
_MOST_NAMED = 3  # partitions or files in one line


class State(Enum):
    """The state of a partition. A stale one was built from something that has changed, or that is stale itself."""

    FRESH = "fresh"
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"  # a critical rule failed: no job builds on it
    NONE = "-"  # no partition is expected: no model from before the day could have been tested on it


Grid = Mapping[str, Mapping[str, State]]  # by day, by table
Manifests = Mapping[str, Mapping[str, Manifest | None]]  # by table, by day
Decisions = Mapping[str, tuple[Version, ...]]  # what is decided about versions, by registered model


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    add_raw(parser, required=False)  # to see whether they have changed
    parser.add_argument(
        "--todo", action="store_true", help="print only the first day, and the first and the last day to run"
    )
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    index = stored_index(lake, dataset)
    last_complete = yesterday(dataset)
    days = days_of_lake(lake, dataset, index, last_complete)
    if not days:
        raise UserError(f"{dataset.name} has no tables in {lake.root} yet: make run, or name another lake with LAKE=")
    manifests = read_manifests(lake, dataset, days)
    grid = states(lake, dataset, index, days, manifests)
    complete = {day: day_states for day, day_states in grid.items() if day <= last_complete}
    if args.todo:
        if not complete:
            raise UserError(f"no day of {dataset.name} in {lake.root} is over yet: name the days with FROM= and TO=")
        print(min(complete), *unfinished(complete)[:1], *unfinished(complete)[-1:])
        return
    first, last = day_range_of(args)
    listed = [day for day in days if (first or day) <= day <= (last or day)]
    print("\n".join([*grid_lines(grid, listed), "", *advice(complete, dataset), *code_lines(manifests)]))
    for line in raw_lines(dataset, lake, index, days, args.raw):
        print(line)


def yesterday(dataset: Dataset) -> str:
    """The last day that is over in the dataset's calendar; later days may still get rows."""
    return day_before(datetime.now(ZoneInfo(dataset.timezone)).date().isoformat())


def days_of_lake(lake: Lake, dataset: Dataset, index: RawIndex | None, last_complete: str) -> list[str]:
    """The days that the lake has, and all later ones up to last_complete that the log has reached.

    Rows from the future, as of a wrong clock, make no days (LogCalendar). Without an index, every day between
    two days of the lake counts as well.
    """
    published = {day for table in LISTED for day in lake.days(table.name, dataset)}
    span = index.span if index else None
    known = [*published, *(span or ())]
    first, last = min(published or known, default=""), min(max(known, default=""), last_complete)
    expected = days_between(first, last) if first and first <= last else []
    arrived = {day for day in expected if day not in published and (index is None or index.calendar.has_come(day))}
    return sorted(published | arrived)


def read_manifests(lake: Lake, dataset: Dataset, days: list[str]) -> Manifests:
    published = lake.manifests(dataset, [table.name for table in LISTED])
    return {table: {day: manifests.get(day) for day in days} for table, manifests in published.items()}


@dataclass(frozen=True, slots=True)
class _Champion:
    """The present champions of a dataset.

    versions: by table of scoring, the champion of the method that makes it, as manifests name it. newest_day: the only
    day whose scores a new champion makes stale. trained_through: the earliest day that any champion was trained
    through; later days have a test.
    """

    versions: Mapping[str, str | None]
    newest_day: str
    trained_through: str | None


def states(lake: Lake, dataset: Dataset, index: RawIndex | None, days: list[str], manifests: Manifests) -> Grid:
    """The state of each partition of these days, which begin with the lake's first day."""
    decisions = read_decisions(lake, dataset)
    champion = _Champion(
        {
            table.name: champion_version(decisions, dataset, _scored_by(manifests, table.name))
            for table in LISTED
            if table.scores
        },
        max(lake.days(JOURNEYS, dataset), default=""),
        first_trained_through(decisions),
    )
    grid: dict[str, dict[str, State]] = {}
    history = lake.history_inputs(EXPOSURES, dataset, days)
    history_is_fresh = True
    unused = unused_tables(lake, dataset)
    marked_as_failed = lake.marked_as_failed(dataset)
    for day in days:
        day_states: dict[str, State] = {}
        for table in LISTED:
            manifest = manifests[table.name][day]
            is_expected = table.name not in unused and (table.rebuilt or _is_tested(day, champion))
            if manifest is None and not is_expected:
                day_states[table.name] = State.NONE
                continue
            inputs: Mapping[str, str] | None
            if not table.rebuilt:  # was measured or decided once: no later model makes it stale
                inputs = manifest.inputs if manifest else None
            elif table.history:
                inputs = history[day] if history_is_fresh else None
            elif table.same_day:
                inputs = _same_day_inputs(lake, dataset, day, table, day_states, manifests, champion)
            elif index:
                inputs = index.inputs(day)
            else:
                inputs = manifest.inputs if manifest else {}
            earlier = manifest.days[:-1] if manifest else []
            if any(grid.get(d, {}).get(table.name) is not State.FRESH for d in earlier):
                inputs = None  # the rows as of this day are read from earlier partitions, too
            is_marked = (table.name, day) in marked_as_failed
            day_states[table.name] = _state(lake, manifest, inputs, is_marked=is_marked)
            if table.name == EXPOSURES:
                history_is_fresh &= day_states[EXPOSURES] is State.FRESH
        grid[day] = day_states
    return grid


def _is_tested(day: str, champion: _Champion) -> bool:
    """Whether some champion was trained through an earlier day, so that it is tested on this one."""
    return champion.trained_through is not None and champion.trained_through < day


def _state(lake: Lake, manifest: Manifest | None, inputs: Mapping[str, str] | None, *, is_marked: bool) -> State:
    """inputs: those that a build would read now; None if one of them is not fresh itself.

    is_marked: whether some content of the partition failed its audit.
    """
    if manifest is None:
        return State.MISSING
    if is_marked and lake.failed_audit(manifest):
        return State.FAILED
    if inputs is None:
        return State.STALE
    # Settings, such as the length of a window, are inputs without a slash. They are not compared here.
    settings = {name: value for name, value in manifest.inputs.items() if "/" not in name}
    is_fresh = manifest.is_fresh({**settings, **inputs}, spec_version=manifest.spec_version)
    return State.FRESH if is_fresh else State.STALE


def _same_day_inputs(
    lake: Lake,
    dataset: Dataset,
    day: str,
    table: RegisteredTable,
    day_states: Mapping[str, State],
    manifests: Manifests,
    champion: _Champion,
) -> dict[str, str] | None:
    """The fingerprints of the day's partitions that the table is built from, and for scores the model.

    Tables that the present partition was built from by choice, as a plan by another method's gains, count as well. None
    if one of the partitions is not fresh. All scores of a day must come from one model: on the newest day
    from the champion, on earlier days from the model of the policies, since a new champion does not score them again.
    """
    present = manifests[table.name][day]
    chosen_tables = {table_of(key) for key in (present.inputs if present else {})} & set(manifests)
    read_tables = (*table.same_day, *sorted(chosen_tables - set(table.same_day)))
    if any(day_states[name] is not State.FRESH for name in read_tables):
        return None
    inputs = {
        lake[name, dataset, read_day].key: read.fingerprint
        for name in read_tables
        if (manifest := manifests[name][day]) is not None
        for read_day in manifest.days
        if (read := manifests[name].get(read_day)) is not None
    }
    if not table.scores:
        return inputs
    policies = manifests[CHANNEL_POLICIES][day] if table.name in SCORE_TABLES else None
    scored = policies or present
    scored_by = scored.inputs.get("model") if scored else None
    model = (champion.versions[table.name] if day == champion.newest_day else None) or scored_by
    if not model:
        return inputs
    chosen = {RECOMMENDATION: policies.inputs[RECOMMENDATION]} if policies and RECOMMENDATION in policies.inputs else {}
    return {**inputs, "model": model, **chosen}


def champion_version(decisions: Decisions, dataset: Dataset, scored_by: str | None) -> str | None:
    """The present champion as the manifests of its scores name it; None before the first one.

    scored_by: the model version of the newest scores. The champion has the same method; without scores, it has the
    default method.
    """
    model = scored_by.partition("/")[0] if scored_by else model_name(dataset.name)
    champion = champion_among(decisions.get(model, ()))
    return champion.name if champion else None


def _scored_by(manifests: Manifests, table: str) -> str | None:
    """The model version of the newest scores, None without scores. table: a table of scoring."""
    scores = manifests[CHANNEL_POLICIES if table in SCORE_TABLES else table]
    newest = max((day for day, manifest in scores.items() if manifest), default=None)
    manifest = scores[newest] if newest else None
    return manifest.inputs.get("model") if manifest else None


def first_trained_through(decisions: Decisions) -> str | None:
    """The earliest day that a champion was trained through, without those that were rolled back; None without any.

    The champions of all methods count. On each later day a champion can be tested: the daily run publishes its test and
    decision, even if they are empty.
    """
    versions = [version for of_model in decisions.values() for version in of_model]
    return min((v.day for v in versions if v.reign and not v.withdrawn), default=None)


def grid_lines(grid: Grid, days: list[str]) -> list[str]:
    """The grid as text; consecutive days with the same states share a line."""
    rows: list[tuple[list[str], Mapping[str, State]]] = []
    for day in days:
        if rows and rows[-1][1] == grid[day] and rows[-1][0][-1] == day_before(day):
            rows[-1][0].append(day)
        else:
            rows.append(([day], grid[day]))
    # Tables of scoring that no method of this lake makes have no column.
    listed = [t for t in LISTED if not t.scores or any(grid[day][t.name] is not State.NONE for day in days)]
    lines = [f"{'day':<26}" + "".join(f"{table.name}  " for table in listed)]
    for row_days, day_states in rows:
        name = row_days[0] if len(row_days) == 1 else f"{row_days[0]} to {row_days[-1]}"
        cells = (f"{day_states[table.name].value:<{len(table.name)}}  " for table in listed)
        lines.append(f"{name:<26}" + "".join(cells))
    return [line.rstrip() for line in lines]


def unfinished(grid: Grid) -> list[str]:
    """The days for which a run would build something."""
    return [day for day, day_states in grid.items() if {State.STALE, State.MISSING} & set(day_states.values())]


def advice(grid: Grid, dataset: Dataset) -> list[str]:
    """The next steps: a line for failed audits, and a line for stale and missing partitions."""
    rebuilt = [table.name for table in LISTED if table.rebuilt]
    measured_once = [table.name for table in LISTED if not table.rebuilt]
    lines = []
    for tables, remedy in (
        (rebuilt, "correct the raw rows, then make backfill"),
        (measured_once, f"make rollback DATASET={dataset.name} takes a promotion back"),
    ):
        failed = [f"{t} {day}" for day, day_states in grid.items() for t in tables if day_states[t] is State.FAILED]
        if failed:
            dots = ", ..." if len(failed) > _MOST_NAMED else ""
            lines.append(f"failed: {', '.join(failed[:_MOST_NAMED])}{dots}: the data docs show the rules; {remedy}")
    counts = Counter(state for day_states in grid.values() for state in day_states.values())
    if counts[State.STALE] + counts[State.MISSING]:
        todo = unfinished(grid)
        lines.append(f"{counts[State.STALE]} stale, {counts[State.MISSING]} missing: "
                     f"make backfill DATASET={dataset.name} FROM={todo[0]} TO={todo[-1]}")  # fmt: skip
    return lines or ["all fresh: nothing to do"]


def code_lines(manifests: Manifests) -> list[str]:
    """How many partitions another version of the code has built: not an error, but good to know.

    Scores, tests and decisions are not counted: they stay as they were published, whatever the code.
    """
    this_code = code_version("jobs")
    built = [
        manifest
        for table in (*TABLES_FROM_RAW, *TABLES_FROM_HISTORY)
        for manifest in manifests[table].values()
        if manifest
    ]
    count = sum(manifest.code_version != this_code for manifest in built)
    if not count:
        return []
    return [
        f"{count} partitions were built by another version of the code; make backfill THIS_CODE=1 builds them again"
    ]


def raw_lines(dataset: Dataset, lake: Lake, index: RawIndex | None, days: list[str], raw: Path | None) -> list[str]:
    """Whether most raw rows belong to no day, which rows of other days wait, and which files have changed.

    days: the listed days.
    """
    lines = []
    undated = lake[QUARANTINE, dataset, UNDATED].manifest
    if undated and lake.failed_audit(undated):
        lines.append("failed: quarantine undated: most raw rows belong to no day; no job builds on such a log")
    if index is not None:
        accounts = log_accounts(index, lambda table, day: lake[table, dataset, day].manifest)
        not_listed = {day: rows for day, rows in accounts.waiting.items() if day not in (*days, UNDATED)}
        if line := waiting_line(dataset, index, not_listed):
            lines.append(line)
    if raw is not None:
        from jobs.raw.files import find_raw_files  # loads the readers of raw files, which nothing else needs here

        try:
            files = find_raw_files(dataset, raw)
        except NothingToDoYet as reason:
            return [*lines, str(reason)]
        _, changed = split_by_change(dataset, files, index)
        if changed:
            names = ", ".join(printable(name) for name in [*changed][:_MOST_NAMED]) + (
                ", ..." if len(changed) > _MOST_NAMED else ""
            )
            lines.append(f"the raw log has changed since it was last read ({names}): the next run finds out which days")
    return lines


if __name__ == "__main__":
    exit_with_one_line(main)
