"""Audits, drift, the day's page and the plan of a budget, each on a day of a million rows or users."""

import re
import shutil
from pathlib import Path

from benchmarks import audit_scale
from benchmarks.measure import Cost, Spread, measured
from benchmarks.pipeline import module
from benchmarks.section import Section, gib, seconds, this_machine
from lakehouse.lake import Lake
from schemas.errors import UserError
from schemas.tables import EXPOSURES

_DATASET, _SMALL_ROWS = "kuairand", 12_500
_PLANNED = re.compile(r"users x .*: ([\d.]+) s, ([\d.]+) s of processor time, ([\d.]+) GiB")
TEXT = """\
One day of {rows} exposures in the KuaiRand layout, made of a generated day of {small} by repeating every user under
other ids, with the days before it that its drift is measured against. Each line is an entry point in a process of its
own, its start counted; *report* is the page of that day. The plan is `benchmarks.plan_scale`: a budget over {rows}
made-up users and 11 channels. There is no peer here: these are the times themselves, and the limits that the scale
tests set are audits and drift together 60 s, the plan 20 s and 4 GiB."""


def measure(kept: Path, command: str, rows: int, repeats: int) -> Section:
    folder = kept / "large-day"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        small, lake = audit_scale.built(folder, _DATASET), Lake(folder / "large")
        audit_scale.enlarged(small, lake, _DATASET, max(1, round(rows / _SMALL_ROWS)))
        day = lake.days(EXPOSURES, _DATASET)[-1]
        flags = ("--dataset", _DATASET, "--lake", str(lake.root))
        commands = {
            f"audit of {table}": module("jobs.audit_table", *flags, "--table", table, "--from", day, "--to", day)
            for table in audit_scale.TABLES
        }
        commands["drift"] = module("jobs.measure_drift", *flags, "--day", day)
        commands["report"] = module("jobs.report", *flags, "--day", day)
        found: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, words in commands.items():
                found[name].append(measured(words))
                print(f"  {name}: {found[name][-1].seconds:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found["plan"] = [_plan(rows) for _ in range(repeats)]
    lines = [
        [name, seconds(Spread.of([c.seconds for c in costs])), seconds(Spread.of([c.cpu_s for c in costs])),
         gib(max(c.peak_bytes for c in costs)), str(repeats)]
        for name, costs in found.items()
    ]  # fmt: skip
    text = TEXT.format(rows=f"{rows:,}", small=f"{_SMALL_ROWS:,}")
    headings = ("what", "time", "processor time", "memory", "repeats")
    return Section("Audits, report and plan of a large day", text, command, this_machine(), headings, lines)


def _plan(users: int) -> Cost:
    """As plan_scale tells it: its own time goes into making up the users."""
    said = measured(module("benchmarks.plan_scale", "--users", str(users))).said
    if not (told := _PLANNED.search(said)):
        raise UserError(f"benchmarks.plan_scale has not said what it took: {said[-500:]}")
    spent_s, cpu_s, held = map(float, told.groups())
    return Cost(spent_s, cpu_s, int(held * 2**30), 0)
