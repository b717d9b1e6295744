"""A day's run is killed with SIGKILL again and again, restarted, and ends as if nothing had happened.

Killed are the Spark driver (Python and Java), the audit, training, fine-tuning and promotion, scoring and the budget
plan: the project's own entry points, on a small log. All the while another process reads the lake, as our jobs do, with
`deltalake`, and the published Parquet files with DuckDB and pandas. KILLS in the environment is the number of kills
(make chaos: 100); each is at a random moment of its victim's life, while it has work to do: a process that ends before
its moment has come does not count, and another kill replaces it.

The tests of that reader take a moment, and run with all others.
"""

import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import duckdb
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from fast_java import JAVA_OPTIONS
from lakes import contents
from raw_logs import header
from shop import SHOP, sent_to

import schemas.dataset
from lakehouse.lake import Lake, Partition
from lakehouse.lineage import LINEAGE
from lakehouse.manifest import Manifest
from lakehouse.models.decisions import champion_among, decided_versions
from lakehouse.storage.data_files import has_its_content, part_of
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion.mlflow_store import own_artifacts
from schemas.errors import exit_with_one_line
from schemas.tables.registry import TABLES

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("KILLS", "20"))
# Starting Java takes seconds, forking none: most kills go to the night's publishers, whose window is the narrowest;
# the others are for scoring.
DRIVER_KILLS = max(KILLS * 15 // 100, 4)
LEARNING_KILLS = max(KILLS * 24 // 100, 4)
PLAN_KILLS = max(KILLS * 15 // 100, 2)
DAYS = ["2024-03-30", "2024-03-31", "2024-04-01"]
SPAN = ("--from", DAYS[0], "--to", DAYS[-1])
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": JAVA_OPTIONS, "OMP_NUM_THREADS": "1",
}  # fmt: skip
DRIVER_STEPS = (
    ("jobs.build_tables", "--from", DAYS[0], "--to", DAYS[1], "--audit"),
    ("jobs.build_tables", "--up-to", DAYS[-1], "--audit", "--journeys"),
    ("jobs.build_feature_spec", *SPAN),
)
LAST = ("--day", DAYS[-1])
LEARNING = (
    ("jobs.audit_table", "--table", "journeys", "sequences", "--new"),
    ("mtorl_model.train", "--from", DAYS[0], "--to", DAYS[1], "--spec-day", DAYS[-1], "--max-epochs", "4",
     "--members", "1", "--device", "cpu"),
    ("mtorl_model.learn", *LAST, "--device", "cpu"),
)  # fmt: skip
SCORE = ("mtorl_model.score", *LAST)
PLAN = ("mtorl_model.plan_budget", *LAST, "--budget", "20")
OTHER_PLAN = ("mtorl_model.plan_budget", *LAST, "--budget", "10")
BUILT = ("exposures", "quarantine", "journeys", "feature_spec", "steps", "item_history", "sequences")
LEARNED = ("prequential", "promotions")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jobs.quality.validation", *dict.fromkeys(step[0] for step in (*LEARNING, SCORE, PLAN))])
ISSUED = ("channel_policies", "user_reward_ranks", "channel_allocation", "budget_plan")


@pytest.fixture(scope="module")
def dice() -> random.Random:
    seed = int(os.environ.get("SEED") or time.time())
    print(f"SEED={seed}")
    return random.Random(seed)


def write_log(raw: Path, *, corrected: bool) -> None:
    """A log of three days; the corrected log has different prices on the second day."""
    raw.mkdir(exist_ok=True)
    rows = sent_to(150)
    if corrected:
        rows = [row.replace(";0.5;", ";0.25;") if f";{DAYS[1]}" in row else row for row in rows]
    (raw / "sent-2024.txt").write_text("\n".join([header(SHOP.log), *rows]) + "\n")


def command(step: tuple[str, ...], lake: Lake, raw: Path) -> list[str]:
    log = ("--raw", str(raw)) if step[0] == "jobs.build_tables" else ()
    return [step[0], "--dataset", "shop", "--lake", str(lake.root), *step[1:], *log]


def start(step: tuple[str, ...], lake: Lake, raw: Path) -> subprocess.Popen:
    """A step of the jobs in a new process group."""
    script = str(ROOT / "tests" / "jobs" / "helpers" / "shop_job.py")
    return subprocess.Popen(
        [sys.executable, script, *command(step, lake, raw)],
        env=ENVIRONMENT, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(step: tuple[str, ...], lake: Lake, raw: Path) -> float:
    """Run a step to its end; the seconds it took."""
    began = time.monotonic()
    process = start(step, lake, raw)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return time.monotonic() - began


def run_step(arguments: list[str]) -> None:
    """A step without Spark in this process."""
    schemas.dataset._registry = lambda: {"shop": SHOP}
    sys.argv = arguments
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a descriptor, to put under both streams
        os.dup2(nowhere.fileno(), 1)
    exit_with_one_line(importlib.import_module(arguments[0]).main)


def fork(step: tuple[str, ...], lake: Lake) -> multiprocessing.Process:
    """A step without Spark as a fork of a server, which has loaded the heavy libraries and has opened no table."""
    process = FORKS.Process(target=run_step, args=(command(step, lake, Path()),))
    process.start()
    return process


def finish_fork(step: tuple[str, ...], lake: Lake) -> float:
    began = time.monotonic()
    process = fork(step, lake)
    process.join(600)
    assert process.exitcode == 0
    return time.monotonic() - began


def audits(lake: Lake) -> dict[str, str]:
    """The results of the audits, by file."""
    folder = lake.audits("shop")
    return {str(file.relative_to(folder)): file.read_text() for file in folder.glob("*/*.json")}


def champion_files(lake: Lake) -> set[str]:
    """The content of the champion's files, each with its name."""
    champion = champion_among(decided_versions(lake, "shop", "mtorl_shop"))
    # Not through MLflow: a database that this process has opened should not be used by its forks.
    folder = own_artifacts(lake, "shop") / champion.run_id / "artifacts" / "model"
    # MLflow writes the time into MLmodel, which describes the model to other programs.
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "MLmodel"]
    return {f"{path.relative_to(folder)} {hash(path.read_bytes())}" for path in files}


# --- the reader ---------------------------------------------------------------------------------------------


def look(lake: Lake) -> list[str]:
    """The faults that readers of three kinds see in a lake; none if the whole lake was replaced during the read."""
    inode, faults = _inode(lake.root), []
    for kind in (_read_tables, _read_by_glob, _read_by_folder):
        try:
            faults += kind(lake)
        except Exception as error:  # whatever a reader may stumble over: half a file, a file that is gone
            faults.append(f"{kind.__name__}: {type(error).__name__}: {error}")
    return faults if _inode(lake.root) == inode else []


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return -1


def _read_tables(lake: Lake) -> list[str]:
    """Each table at one version, by `deltalake`: its rows are those that its log states, and it has its manifests."""
    faults = []
    for log in lake.root.glob("*/*/_delta_log"):
        if not any(log.glob("*.json")):
            continue  # a table that is being created
        table = DeltaTable(str(log.parent))
        stated = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        rows = table.to_pyarrow_dataset().count_rows()
        if rows != sum(file["num_records"] for file in stated):
            faults.append(f"{log.parent}: {rows} rows, stated {sum(file['num_records'] for file in stated)}")
        faults += [
            f"{file['path']}: other content" for file in stated if not has_its_content(log.parent / file["path"])
        ]
        if log.parent.name in TABLES:
            days = {file["partition.ds"] for file in stated}
            partitions = (lake[log.parent.name, log.parent.parent.name, day] for day in days)
            faults += [f"{partition.key}: no manifest" for partition in partitions if partition.manifest is None]
    return faults


def _read_by_glob(lake: Lake) -> list[str]:
    """The published files, by DuckDB and a glob."""
    return [
        fault
        for folder in lake.root.glob("*/published/*")
        for fault in _mixed(folder, duckdb.sql(f"FROM read_parquet('{folder}/*/*.parquet')").df())
    ]


def _read_by_folder(lake: Lake) -> list[str]:
    """The published files, by pandas and the folder."""
    return [fault for folder in lake.root.glob("*/published/*") for fault in _mixed(folder, pd.read_parquet(folder))]


def _mixed(folder: Path, rows: pd.DataFrame) -> list[str]:
    """A line for each day with rows of two editions: a user twice, or two models."""
    by_day = rows.groupby(rows.ds.astype(str))
    return [
        f"{folder} of {day}: two editions"
        for day, day_rows in by_day
        if day_rows.user_id.duplicated().any() or day_rows.model_version.nunique() > 1
    ]


def read_for_ever(root: str, report: str) -> None:
    """Read the lake again and again; print the number of reads and the faults as JSON lines."""
    reads = 0
    with Path(report).open("a") as file:
        while True:
            reads += 1
            for wrong in look(Lake(Path(root))):
                file.write(json.dumps({"wrong": wrong}) + "\n")
            file.write(json.dumps({"reads": reads}) + "\n")
            file.flush()
            time.sleep(0.05)  # the killed need the processor too


@pytest.fixture
def reader(tmp_path) -> Iterator[tuple[Lake, Callable[[], tuple[int, list[str]]]]]:
    """The lake, and a function that returns its reader's number of reads and faults. The reader must be alive."""
    lake, report = Lake(tmp_path / "fire"), tmp_path / "seen.jsonl"
    report.touch()
    process = multiprocessing.get_context("spawn").Process(target=read_for_ever, args=(str(lake.root), str(report)))
    process.start()

    def seen() -> tuple[int, list[str]]:
        assert process.is_alive(), "the reader is gone"
        lines = [json.loads(line) for line in report.read_text().splitlines() if line.endswith("}")]
        return max((x["reads"] for x in lines if "reads" in x), default=0), [x["wrong"] for x in lines if "wrong" in x]

    yield lake, seen
    process.kill()
    process.join()


def put_edition(lake: Lake, content: str) -> Partition:
    """A partition of two files of two rows each."""
    with work_folder() as staged:
        for k in range(2):
            pq.write_table(pa.table({"x": [f"{content}{k}"] * 2}), staged / f"part-{k}.parquet")
        lake["journeys", "shop", DAYS[0]].publish(staged, inputs={}, code="c")
    return lake["journeys", "shop", DAYS[0]]


def put_published(lake: Lake, users: Sequence[int], versions: Sequence[str]) -> None:
    file = lake.root / "shop" / "published" / "user_reward_ranks" / f"ds={DAYS[0]}" / "part-0.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": users, "model_version": versions}), file)


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


FAULTS = {
    "no manifest": lambda lake, partition: shutil.rmtree(lake.table(LINEAGE, "shop")),
    "ArrowInvalid": lambda lake, partition: tear(partition.files()[0]),
    "FileNotFoundError": lambda lake, partition: partition.files()[0].unlink(),
    "other content": lambda lake, partition: shutil.copy(*partition.files()),
    "_read_by_glob: .*": lambda lake, partition: tear(
        lake.root / f"shop/published/user_reward_ranks/ds={DAYS[0]}/part-0.parquet"
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_says_what_is_wrong_with_a_partition(tmp_path, fault):
    lake = Lake(tmp_path)
    partition = put_edition(lake, "x")
    put_published(lake, [1, 2], ["m", "m"])
    assert look(lake) == []
    FAULTS[fault](lake, partition)
    assert any(re.search(fault, line) for line in look(lake))


@pytest.mark.parametrize(("users", "versions"), [([1, 1], ["m", "m"]), ([1, 2], ["m", "n"])])
def test_the_reader_sees_two_editions_in_one(tmp_path, users, versions):
    put_published(Lake(tmp_path), users, versions)
    assert len(look(Lake(tmp_path))) == 2


def test_a_lake_that_is_replaced_during_the_read_has_no_faults(tmp_path, monkeypatch):
    lake = Lake(tmp_path / "lake")
    put_edition(lake, "old")

    def replaced_during_the_read(*_: object) -> None:
        if lake.root.exists():
            lake.root.rename(tmp_path / "gone")
        raise FileNotFoundError

    monkeypatch.setattr(sys.modules[__name__], "has_its_content", replaced_during_the_read)
    assert look(lake) == []


@pytest.mark.slow
def test_the_reader_outlives_what_it_finds_and_its_end_is_noticed(reader):
    lake, seen = reader
    partition = put_edition(lake, "x")
    tear(partition.files()[0])

    def wait_for(condition: Callable[[], bool]) -> None:
        for _ in range(1200):
            if condition():
                return
            time.sleep(0.05)
        raise TimeoutError

    wait_for(lambda: bool(seen()[1]))
    reads, _ = seen()
    wait_for(lambda: seen()[0] > reads)
    (process,) = multiprocessing.active_children()
    process.kill()
    process.join()
    with pytest.raises(AssertionError, match="the reader is gone"):
        seen()


# --- the run ------------------------------------------------------------------------------------------------


def kill_some(process: subprocess.Popen, dice: random.Random) -> None:
    """Kill the whole driver, or only its Java, or only its Python; then kill the rest."""
    parent = psutil.Process(process.pid)
    family = [parent, *parent.children(recursive=True)]
    java = [p for p in family if p.name() == "java"]
    victims = dice.choice([family, [parent], java or family])
    for victim in victims:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    # The process that lost the other one ends by itself; until then it may write to its staging folder.
    process.communicate(timeout=120)


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.skipif("KILLS" not in os.environ, reason="takes minutes: make chaos runs it")
def test_a_day_that_is_killed_again_and_again_ends_as_if_nothing_had_happened(reader, dice, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    lake, seen = reader
    raw = tmp_path / "raw"

    # Without kills, in a separate lake: the first log, then the corrected log.
    calm = Lake(tmp_path / "calm")
    write_log(raw, corrected=False)
    for step in DRIVER_STEPS:
        finish(step, calm, raw)
    shutil.copytree(calm.root, tmp_path / "copy")
    (tmp_path / "copy").rename(lake.root)  # one step: the reader is reading already
    old_journeys = copied_files(calm["journeys", "shop", DAYS[-1]], tmp_path / "old_journeys")
    write_log(raw, corrected=True)
    seconds = {step: finish(step, calm, raw) for step in DRIVER_STEPS}
    seconds |= {step: finish_fork(step, calm) for step in (*LEARNING, SCORE, PLAN)}
    expected = {tables: contents(calm, *tables) for tables in (BUILT, LEARNED, ISSUED)}
    assert all(expected.values())
    assert expected[BUILT] != contents(lake, *BUILT)

    # The Spark driver: each step of the corrected day is killed several times before it may finish.
    killed = dict.fromkeys(("driver", "learning", "plan", "scoring"), 0)
    for step, share in zip(DRIVER_STEPS, shares(DRIVER_KILLS, len(DRIVER_STEPS)), strict=True):
        lake_before = shutil.copytree(lake.root, tmp_path / f"before {' '.join(step)}")
        for _ in range(share):
            while not killed_driver(step, lake, raw, dice.uniform(0, seconds[step]), dice):
                restore_lake(lake, lake_before)
            killed["driver"] += 1
        finish(step, lake, raw)
    assert contents(lake, *BUILT) == expected[BUILT]

    # Each audit is stored when it ends. Training resumes from its checkpoints; the day's learning is done exactly once;
    # the weights are equal.
    for step, share in zip(LEARNING, shares(LEARNING_KILLS, len(LEARNING)), strict=True):
        lake_before = shutil.copytree(lake.root, tmp_path / f"before {step[0]}")
        for _ in range(share):
            while not killed_fork(step, lake, dice.uniform(0, seconds[step])):
                restore_lake(lake, lake_before)
            killed["learning"] += 1
        finish_fork(step, lake)
    assert audits(lake) == audits(calm) != {}
    assert champion_files(lake) == champion_files(calm)
    assert contents(lake, *LEARNED) == expected[LEARNED]

    # Scoring: the day's journeys change to and fro, so that there is work each time. So do the plan's budgets.
    new_journeys = copied_files(calm["journeys", "shop", DAYS[-1]], tmp_path / "new_journeys")
    journeys, plans = cycle((old_journeys, new_journeys)), cycle((OTHER_PLAN, PLAN))

    def scoring() -> tuple[str, ...]:
        publish_journeys(lake, next(journeys))
        return SCORE

    killed["scoring"] = max(KILLS - DRIVER_KILLS - LEARNING_KILLS - PLAN_KILLS, 1)
    kill(scoring, lake, seconds[SCORE], killed["scoring"], dice)
    publish_journeys(lake, new_journeys)
    finish_fork(SCORE, lake)
    killed["plan"] = PLAN_KILLS
    kill(lambda: next(plans), lake, seconds[PLAN], PLAN_KILLS, dice)
    finish_fork(PLAN, lake)
    assert contents(lake, *ISSUED) == expected[ISSUED]

    reads, wrong = seen()
    print(f"killed {killed}, {reads:,} reads")
    assert wrong == []
    assert reads > 100


def shares(total: int, parts: int) -> list[int]:
    """As equal as whole numbers can be."""
    return [total // parts + (k < total % parts) for k in range(parts)]


def killed_driver(step: tuple[str, ...], lake: Lake, raw: Path, moment: float, dice: random.Random) -> bool:
    """Start a Spark step and kill it after these seconds; returns False if it ended earlier."""
    process = start(step, lake, raw)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        kill_some(process, dice)
        return True
    assert process.returncode == 0, process.communicate()[0][-3000:]
    return False


def killed_fork(step: tuple[str, ...], lake: Lake, moment: float) -> bool:
    """The same for a step without Spark."""
    process = fork(step, lake)
    process.join(moment)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def kill(step: Callable[[], tuple[str, ...]], lake: Lake, seconds: float, times: int, dice: random.Random) -> None:
    """Kill a step this many times, each time at a random moment of its latest run time."""
    while times:
        attempt, began = step(), time.monotonic()
        if killed_fork(attempt, lake, dice.uniform(0, seconds)):
            times -= 1
        else:
            seconds = time.monotonic() - began


def restore_lake(lake: Lake, lake_before: Path) -> None:
    """Undo a completed step, so that there is work to kill."""
    copy = shutil.copytree(lake_before, lake_before.with_name("again"))
    done = lake.root.rename(lake_before.with_name("done"))
    copy.rename(lake.root)
    shutil.rmtree(done)


class Edition(NamedTuple):
    """Copies of a partition's files, and its manifest."""

    folder: Path
    manifest: Manifest


def copied_files(partition: Partition, folder: Path) -> Edition:
    folder.mkdir()
    for file in partition.files():
        shutil.copy(file, folder / f"{part_of(file)}.parquet")
    assert partition.manifest is not None
    return Edition(folder, partition.manifest)


def publish_journeys(lake: Lake, edition: Edition) -> None:
    """Publish these files as the day's journeys."""
    with work_folder() as work:
        staged = shutil.copytree(edition.folder, work / "journeys")
        stated = edition.manifest
        lake["journeys", "shop", DAYS[-1]].publish(
            staged, inputs=stated.inputs, code=stated.code_version, counts=stated.counts
        )
