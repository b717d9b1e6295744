"""The daily run for one more day, after histories of several lengths."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.commands import DATASET, NO_GPU, job, module
from benchmarks.inputs.generated_log import fitted_spec, generated_log, log_file, published_rows, scratch_lake
from benchmarks.inputs.made_up_journeys import publish_champion
from benchmarks.measure import Cost, Spread, measure, measure_in_turn, ratio, total
from benchmarks.sections.section import Section, gib, seconds, times
from lakehouse.lake import Lake
from mtorl_model.champion.gate_rule import GateConfig
from mtorl_model.training.config import FineTuneConfig
from schemas.datasets.criteo import LOG, START
from schemas.days import day_before, day_plus
from schemas.tables import EXPOSURES
from schemas.tables.feature_spec import FeatureSpec

DAYS = 31
_ROWS_PER_USER_AND_DAY = 50  # a journey remembers 40 steps, so it is full after one day
_DAY_S = 86_400
_LAST_DAY = day_plus(START.date().isoformat(), DAYS - 1)
_TABLES, _MODEL, _TABLES_AND_MODEL = "`build_tables`", "`learn`", "together"
TEXT = """\
One more day is `build_tables --up-to --journeys`, then `learn` (fine-tuning and the gate), started as the daily run
starts them, but without the audit of the exposures. It has {rows} exposures of {users} users; the champion is a
made-up model of the preset `small`. The lake has the 1, 10 or 30 days before it, and the raw log has one file per day
for all these days. Each user has about {a_day} exposures per day, so journeys are full (40 steps) from the first day
on and only the length of the history differs. The number of users grows as well in practice, and costs grow in
proportion to it. *Bytes read* are all bytes that the processes of the jobs read through system calls, the start of
Java and Python included. The limit is 1.2 times, in time and in bytes, for 30 days against 1. Measured: {reached}.
Fine-tuning replays up to {replay} earlier days and the gate compares on the {compared} latest, so `learn` grows,
beyond the limit, until the history is that long, and then stops growing. The day's audits are not included: they read
the day's partitions and those that they compare them with. Neither is the day's drift, which reads one day before it
and the training period. A raw log in one growing file is read completely each day, since any of its rows may be new;
this time grows with the log."""


def measure_section(cache: Path, command: str, users: int, histories: Sequence[int], repeats: int) -> Section:
    """histories: lengths in days, the shortest first; see run.py for the others."""
    spec = fitted_spec(cache)
    raw = _day_files(cache, users)
    lakes = {days: _history(cache, raw, spec, days) for days in histories}
    costs: dict[tuple[str, int], list[Cost]] = {
        (part, days): [] for part in (_TABLES, _MODEL, _TABLES_AND_MODEL) for days in histories
    }
    rows_per_day = 0

    def run_day(days: int) -> list[Cost]:
        nonlocal rows_per_day
        files = _link_latest(raw, cache / "raw", days + 1)
        with scratch_lake(cache, lakes[days]) as lake:
            table_costs = [
                measure(job("build_tables", lake, "--raw", files, "--up-to", _LAST_DAY, "--journeys"), NO_GPU)
            ]
            flags = ("--dataset", DATASET.name, "--lake", lake.root, "--day", _LAST_DAY)
            model_costs = [measure(module("mtorl_model.learn", *flags), NO_GPU)]
            rows_per_day = published_rows(lake, EXPOSURES) // (days + 1)
        costs[_TABLES, days].append(total(table_costs))
        costs[_MODEL, days].append(total(model_costs))
        costs[_TABLES_AND_MODEL, days].append(total([*table_costs, *model_costs]))
        return [*table_costs, *model_costs]

    measure_in_turn({f"{days} days": partial(run_day, days) for days in histories}, repeats)
    for lake in lakes.values():
        shutil.rmtree(lake.root)
    shortest, longest = histories[0], histories[-1]
    reached = []
    for part in (_TABLES, _MODEL, _TABLES_AND_MODEL):
        in_time, in_bytes = _growth(costs[part, longest], costs[part, shortest])
        reached.append(f"{part} {in_time.median:.2f} in time and {in_bytes.median:.2f} in bytes")
    text = TEXT.format(
        rows=f"{rows_per_day:,}",
        users=f"{users:,}",
        a_day=_ROWS_PER_USER_AND_DAY,
        replay=FineTuneConfig().replay_days,
        compared=GateConfig().days,
        reached=", ".join(reached),
    )
    headings = ("what", "history", "time of one more day", f"times {shortest} day", "in processor time", "bytes read",
                "times", "memory", "repeats")  # fmt: skip
    rows = [_table_row(part, days, costs[part, days], costs[part, shortest]) for part, days in costs]
    return Section("A day costs a day", text, command, machine.description(), headings, rows)


def _growth(costs: Sequence[Cost], shortest: Sequence[Cost]) -> tuple[Spread, Spread]:
    """How many times the seconds, and the bytes read, of the shortest history."""
    return (
        ratio([cost.seconds for cost in costs], [cost.seconds for cost in shortest]),
        ratio([cost.read_bytes for cost in costs], [cost.read_bytes for cost in shortest]),
    )


def _table_row(part: str, days: int, costs: Sequence[Cost], shortest: Sequence[Cost]) -> list[str]:
    in_time, in_bytes = _growth(costs, shortest)
    read_mib = Spread.summarise([cost.read_bytes / 2**20 for cost in costs])
    return [
        part,
        f"{days} days",
        seconds(Spread.summarise([cost.seconds for cost in costs])),
        times(in_time),
        times(ratio([cost.cpu_s for cost in costs], [cost.cpu_s for cost in shortest])),
        f"{read_mib.median:,.1f} MiB",
        times(in_bytes),
        gib(max(cost.peak_bytes for cost in costs)),
        str(len(costs)),
    ]


def _day_files(cache: Path, users: int) -> list[Path]:
    """The log with one file per day, oldest first."""
    folder = cache / f"criteo-days-{DAYS}-{users}"
    if not folder.exists():
        rows = users * _ROWS_PER_USER_AND_DAY * DAYS
        log = log_file(generated_log(cache, rows, users=users, days=DAYS))
        staged = folder.with_suffix(".staged")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        files = [(staged / _file_name(number)).open("w") for number in range(DAYS)]
        with log.open() as lines:
            header = next(lines)
            for file in files:
                file.write(header)
            for line in lines:
                files[int(line.partition(LOG.separator)[0]) // _DAY_S].write(line)
        for file in files:
            file.close()
        staged.rename(folder)
    return sorted(folder.iterdir())


def _file_name(number: int) -> str:
    return LOG.patterns[1].replace("*", f"_{number:02}")


def _link_latest(files: Sequence[Path], folder: Path, days: int) -> Path:
    """A folder with links to the latest files of the log, one file per day."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files[-days:]:
        (folder / file.name).symlink_to(file)  # a hard link would change the times of the file
    return folder


def _history(cache: Path, files: Sequence[Path], spec: Path, days: int) -> Lake:
    """A lake with the days before the last one, built as the daily runs build them."""
    lake = Lake(cache / f"history-{days}")
    shutil.rmtree(lake.root, ignore_errors=True)
    raw = _link_latest(files[:-1], cache / "raw-before", days)
    measure(job("build_exposures", lake, "--raw", raw))
    measure(job("build_journeys", lake))
    measure(job("build_sequences", lake))
    publish_champion(lake, DATASET, FeatureSpec.from_json(spec.read_text()), "small", day_before(_LAST_DAY))
    print(f"a history of {len(lake.days(EXPOSURES, DATASET))} days is ready", flush=True)
    return lake
