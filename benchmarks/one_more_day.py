"""What the daily run does for one more day, on top of several lengths of history."""

import shutil
from functools import partial
from pathlib import Path

from benchmarks import pipeline
from benchmarks.measure import Cost, Spread, alternating, measured, ratio, together
from benchmarks.pipeline import DATASET, job, module
from benchmarks.scoring import publish_champion
from benchmarks.section import Section, gib, seconds, this_machine, times
from lakehouse.lake import Lake
from mtorl_model.champion.gate import GateConfig
from mtorl_model.training.config import FineTuneConfig
from schemas.datasets.criteo import LOG, START
from schemas.days import day_before, day_plus
from schemas.tables import EXPOSURES
from schemas.tables.feature_spec import FeatureSpec

DAYS = 31
_A_DAY = 50  # rows a user and day: journeys hold 40 steps, so they are full after one day
_DAY_S = 86_400
_LAST = day_plus(START.date().isoformat(), DAYS - 1)
_TABLES, _MODEL, _BOTH = "`build_exposures`, `build_day`", "`learn`", "together"
TEXT = """\
One more day is `build_exposures --up-to` and `build_day`, then `learn` (fine-tuning and the gate) from a made-up
champion of the preset `small`, as the daily run starts them, {rows} exposures of {users} users, on a lake with the 1,
10 or 30 days before it; the raw log has a file a day, all of them there. Each user has about {a_day} exposures a day,
so that journeys are full (40 steps) from the first day on and it is the length of the history alone that differs: what
else grows is the number of users, which costs what users cost. *Bytes read* is what all processes of the jobs ask the
system for, Java's and Python's own start included. The limit set is 1.2 times, in time and in bytes, for 30 days
against 1. Measured: {reached}. Fine-tuning replays up to {replay} earlier days and the gate compares on the {compared}
latest, so that `learn` grows until there are so many days, beyond the limit, and no further. Not in it are the day's
audits, which read the day's own partitions and what those are held against, and its drift, for which one day before it
and the training period are read. A raw log that is one growing file is read whole each day, since any of its rows may
be new; that grows with the log."""


def measure(kept: Path, command: str, users: int, histories: list[int], repeats: int) -> Section:
    spec = pipeline.fitted_spec(kept)
    raw = _day_files(kept, users)
    before = {days: _history(kept, raw, spec, days) for days in histories}
    found: dict[tuple[str, int], list[Cost]] = {
        (what, days): [] for what in (_TABLES, _MODEL, _BOTH) for days in histories
    }
    made = 0

    def one_day(days: int, _: int) -> list[Cost]:
        nonlocal made
        files = _files_of(raw, kept / "raw", days + 1)
        with pipeline.scratch_lake(kept, before[days]) as lake:
            tables = pipeline.run([
                job("build_exposures", lake, "--raw", files, "--up-to", _LAST),
                job("build_day", lake, "--day", _LAST, "--spec", spec),
            ])  # fmt: skip
            flags = ("--dataset", DATASET.name, "--lake", lake.root, "--day", _LAST)
            model = pipeline.run([module("mtorl_model.learn", *flags)])
            made = pipeline.published_rows(lake, EXPOSURES) // (days + 1)
        found[_TABLES, days].append(together(tables))
        found[_MODEL, days].append(together(model))
        found[_BOTH, days].append(together([*tables, *model]))
        return [*tables, *model]

    alternating({f"{days} days": partial(one_day, days) for days in histories}, repeats)
    rows, reached = [], []
    for (what, days), costs in found.items():
        read = Spread.of([cost.read_bytes / 2**20 for cost in costs])
        shortest = found[what, histories[0]]
        in_time = ratio([cost.seconds for cost in costs], [cost.seconds for cost in shortest])
        in_bytes = ratio([cost.read_bytes for cost in costs], [cost.read_bytes for cost in shortest])
        rows.append([
            what, f"{days} days", seconds(Spread.of([cost.seconds for cost in costs])), times(in_time),
            times(ratio([cost.cpu_s for cost in costs], [cost.cpu_s for cost in shortest])),
            f"{read.median:,.1f} MiB", times(in_bytes), gib(max(cost.peak_bytes for cost in costs)), str(repeats),
        ])  # fmt: skip
        if days == histories[-1]:
            reached.append(f"{what} {in_time.median:.2f} in time and {in_bytes.median:.2f} in bytes")
    for lake in before.values():
        shutil.rmtree(lake.root)
    text = TEXT.format(
        rows=f"{made:,}", users=f"{users:,}", a_day=_A_DAY, replay=FineTuneConfig().replay_days,
        compared=GateConfig().days, reached=", ".join(reached),
    )  # fmt: skip
    headings = ("what", "history", "time of one more day", f"times {histories[0]} day", "in processor time",
                "bytes read", "times", "memory", "repeats")  # fmt: skip
    return Section("A day costs a day", text, command, this_machine(), headings, rows)


def _day_files(kept: Path, users: int) -> list[Path]:
    """The log, a file a day, oldest first."""
    folder = kept / f"criteo-days-{DAYS}-{users}"
    if not folder.exists():
        whole = pipeline.log_file(pipeline.generated_log(kept, users * _A_DAY * DAYS, users=users, days=DAYS))
        staged = folder.with_suffix(".staged")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        files = [(staged / _name(number)).open("w") for number in range(DAYS)]
        with whole.open() as lines:
            header = next(lines)
            for file in files:
                file.write(header)
            for line in lines:
                files[int(line.partition(LOG.separator)[0]) // _DAY_S].write(line)
        for file in files:
            file.close()
        staged.rename(folder)
    return sorted(folder.iterdir())


def _name(number: int) -> str:
    return LOG.patterns[1].replace("*", f"_{number:02}")


def _files_of(files: list[Path], folder: Path, days: int) -> Path:
    """A folder with the last so many days of the log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files[-days:]:
        (folder / file.name).symlink_to(file)  # a hard link would change the file's own times
    return folder


def _history(kept: Path, files: list[Path], spec: Path, days: int) -> Lake:
    """A lake with the days before the last one, as the daily runs have left it."""
    lake = Lake(kept / f"history-{days}")
    shutil.rmtree(lake.root, ignore_errors=True)
    raw = _files_of(files[:-1], kept / "raw-before", days)
    measured(job("build_exposures", lake, "--raw", raw))
    measured(job("build_journeys", lake))
    measured(job("build_sequences", lake, "--spec", spec))
    publish_champion(lake, DATASET, FeatureSpec.from_json(spec.read_text()), "small", day_before(_LAST))
    print(f"a history of {len(lake.days(EXPOSURES, DATASET))} days is there", flush=True)
    return lake
