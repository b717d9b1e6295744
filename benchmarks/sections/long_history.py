"""The costs of a long history: the time of `make status`, and the bytes of logs and manifests."""

import os
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import module
from benchmarks.inputs.many_days import DATASET, publish_made_up_days
from benchmarks.measure import Cost, Spread, measure, measure_in_turn
from benchmarks.sections.section import Section, seconds
from lakehouse.lake import Lake
from lakehouse.lineage import LINEAGE
from lakehouse.retention import RETENTION
from lakehouse.storage.stored_files import files_below
from lakehouse.storage.vacuum import trim_log, unneeded_files
from schemas.days import day_plus

_FIRST_DAY = "2022-01-01"
_DAYS_ONE_BY_ONE = 30  # their log entries are kept
_DAYS_AT_ONCE = 32  # of a history run
_DAY_S = 86_400
TEXT = """\
A made-up lake has every daily table of `kuairand`, with {files} files for each day of a table that Spark writes and
one for each day of any other. The last {recent} days are published one by one in every table, as daily runs do it,
and the days before in chunks of {chunk}, as a history run does. *Status* is `make status` as a process, its start
included; the limit is 1 s for 1,095 days. *Metadata* are the bytes of all logs (`_delta_log`) and of the table
`lineage`, before and after what `make maintain` does when everything is older than the ages in
`lakehouse/retention.py`. The data files are not written: neither command reads them. The results of audits, a file
for each partition, are not included. Each history continues the one above it. If other jobs use the machine, as in
this measurement, status takes several times its processor time."""


def measure_section(cache: Path, command: str, histories: Sequence[int], repeats: int) -> Section:
    """histories: numbers of days, the shortest first; see run.py for the others."""
    lake = Lake(cache / "long-history")
    shutil.rmtree(lake.root, ignore_errors=True)
    rows, published = [], 0
    for days in histories:
        extend(lake, published, days)
        published = days
        unmaintained = metadata_bytes(lake)
        maintain_as_if_old(lake)
        maintained = metadata_bytes(lake)
        costs = measure_in_turn({f"{days} days": partial(_status, lake)}, repeats)[f"{days} days"]
        rows.append(_row(days, costs, unmaintained, maintained))
    shutil.rmtree(lake.root)
    text = TEXT.format(files=8, recent=_DAYS_ONE_BY_ONE, chunk=_DAYS_AT_ONCE)
    headings = ("days", "status", "processor time", "metadata after the runs", "after maintenance", "a day", "repeats")
    return Section("A long history", text, command, machine.description(), headings, rows)


def extend(lake: Lake, published: int, days: int) -> None:
    """Publish the days up to that number, of which the first `published` exist."""
    names = [day_plus(_FIRST_DAY, k) for k in range(published, days)]
    at_once = names[:-_DAYS_ONE_BY_ONE]
    for start in range(0, len(at_once), _DAYS_AT_ONCE):
        publish_made_up_days(lake, at_once[start : start + _DAYS_AT_ONCE])
    for day in names[-_DAYS_ONE_BY_ONE:]:
        publish_made_up_days(lake, [day])


def metadata_bytes(lake: Lake) -> int:
    """The bytes of the logs of all tables, and of the table lineage."""
    logs = lake.root.glob(f"{DATASET}/*/_delta_log")
    manifests = [file for file in files_below(lake.table(LINEAGE, DATASET)) if "_delta_log" not in file.path.parts]
    return sum(file.size for log in logs for file in files_below(log)) + sum(file.size for file in manifests)


def maintain_as_if_old(lake: Lake) -> None:
    """Remove what the maintenance would remove if all replaced files and log entries were older than their ages."""
    for folder in (log.parent for log in lake.root.glob(f"{DATASET}/*/_delta_log")):
        for file in unneeded_files(folder, 0):
            file.path.unlink()
        trim_log(folder)  # writes a checkpoint, before which everything is old
        moment = time.time() - (RETENTION.log_entries + 1) * _DAY_S
        for entry in (folder / "_delta_log").glob("0*"):
            os.utime(entry, (moment, moment))
        trim_log(folder)


def _status(lake: Lake) -> list[Cost]:
    return [measure(module("jobs.status", "--dataset", DATASET, "--lake", lake.root))]


def _row(days: int, costs: Sequence[Cost], unmaintained: int, maintained: int) -> list[str]:
    return [
        f"{days:,}",
        seconds(Spread.summarise([cost.seconds for cost in costs])),
        seconds(Spread.summarise([cost.cpu_s for cost in costs])),
        f"{unmaintained / 1e6:.1f} MB",
        f"{maintained / 1e6:.2f} MB",
        f"{maintained / days / 1e3:.1f} kB",
        str(len(costs)),
    ]
