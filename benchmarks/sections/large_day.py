"""Audits, drift, report and plan of a budget, each on a day of a million rows or users."""

import shutil
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import module
from benchmarks.inputs import repeated_day
from benchmarks.measure import Cost, Spread, measure
from benchmarks.sections.section import Section, gib, seconds
from lakehouse.lake import Lake
from schemas.errors import UserError
from schemas.tables import EXPOSURES

_DATASET = "kuairand"
TEXT = """\
One day of {rows} exposures in the KuaiRand layout. It is made from a generated day of {small} by repeating every user
under other ids; the lake also has the days before it with which its drift is compared. Each line is an entry point in a
separate process, its start counted; *report* is the page of that day. The plan is `benchmarks.plan_scale`: a budget
over {rows} made-up users and 11 channels. These measurements have no peer, so the times depend on the machine. The
limits of the scale tests are 60 s for audits and drift together, and 20 s and 4 GiB for the plan."""


def measure_section(cache: Path, command: str, rows: int, repeats: int) -> Section:
    """rows: of the large day, and users of the plan; see run.py for the others."""
    folder = cache / "large-day"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        small, large = repeated_day.build_small_lake(folder, _DATASET), Lake(folder / "large")
        repeated_day.repeat_users(small, large, _DATASET, max(1, round(rows / repeated_day.SMALL_ROWS)))
        commands = _commands(large)
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, words in commands.items():
                costs[name].append(measure(words))
                print(f"  {name}: {costs[name][-1].seconds:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    costs["plan"] = [_measure_plan(rows) for _ in range(repeats)]
    table = [
        [
            name,
            seconds(Spread.summarise([cost.seconds for cost in rounds])),
            seconds(Spread.summarise([cost.cpu_s for cost in rounds])),
            gib(max(cost.peak_bytes for cost in rounds)),
            str(repeats),
        ]
        for name, rounds in costs.items()
    ]
    text = TEXT.format(rows=f"{rows:,}", small=f"{repeated_day.SMALL_ROWS:,}")
    headings = ("what", "time", "processor time", "memory", "repeats")
    title = "Audits, report and plan of a large day"
    return Section(title, text, command, machine.description(), headings, table)


def _commands(lake: Lake) -> dict[str, list[str | Path]]:
    """The entry points that read the last day of the lake, by the name of their row."""
    day = lake.days(EXPOSURES, _DATASET)[-1]
    flags = ("--dataset", _DATASET, "--lake", lake.root)
    audits = {
        f"audit of {table}": module("jobs.audit_table", *flags, "--table", table, "--from", day, "--to", day)
        for table in repeated_day.TABLES
    }
    drift = module("jobs.measure_drift", *flags, "--day", day)
    return {**audits, "drift": drift, "report": module("jobs.report", *flags, "--day", day)}


def _measure_plan(users: int) -> Cost:
    """The cost that plan_scale prints: it spends most of its time on making up the users."""
    cost = measure(module("benchmarks.plan_scale", "--users", str(users)))
    if not cost.figures:
        raise UserError(f"benchmarks.plan_scale did not print its figures: {cost.output[-500:]}")
    return Cost(cost.figures["seconds"], cost.figures["cpu_s"], cost.figures["peak_bytes"], 0)
