"""A day's run is killed with SIGKILL again and again, restarted, and ends as if nothing had happened.

Killed are the Spark driver (Python and Java), the audit, training, fine-tuning and promotion, scoring and the budget
plan: the project's own entry points, on a small log. All the while another process reads every partition. KILLS in the
environment is the number of kills (make chaos: 100); each is at a random moment of its victim's life, while it has work
to do: a process that ends before its moment has come does not count, and another kill replaces it.

The tests of that reader take a moment, and run with all others.
"""

import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fast_java import SUBMIT_OPTIONS
from lakes import contents
from raw_logs import header
from shop import SHOP, sent_to

import schemas.dataset
from lakehouse.files import swap_into_place
from lakehouse.lake import Lake
from lakehouse.manifest import MANIFEST, content_fingerprint, read_manifest
from lakehouse.models.decisions import champion_among, decided_versions
from lakehouse.staging import staging_folder
from mtorl_model.champion.mlflow_store import own_artifacts
from schemas.errors import exit_with_one_line
from schemas.tables.feature_spec import SPEC_FILE

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
    "PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SUBMIT_OPTS": SUBMIT_OPTIONS, "OMP_NUM_THREADS": "1",
    "MTORL_SHUFFLE_PARTITIONS": "2",
}  # fmt: skip
DRIVER_STEPS = (
    ("jobs.build_exposures", "--up-to", DAYS[-1]),
    ("jobs.build_feature_spec", *SPAN),
    ("jobs.build_sequences", "--from", DAYS[0], "--to", DAYS[1]),
    ("jobs.build_day", "--day", DAYS[-1]),
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
BUILT = ("exposures", "quarantine", "journeys", "feature_spec", "sequences")
LEARNED = ("prequential", "promotions")
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
    spec = lake["feature_spec", "shop", DAYS[-1]].path / SPEC_FILE
    options = {"jobs.build_exposures": ("--raw", str(raw)), "jobs.build_day": ("--spec", str(spec))}
    return [step[0], "--dataset", "shop", "--lake", str(lake.root), *step[1:], *options.get(step[0], ())]


def start(step: tuple[str, ...], lake: Lake, raw: Path) -> subprocess.Popen:
    """A Spark step in a new process group."""
    script = str(ROOT / "tests" / "jobs" / "shop_job.py")
    return subprocess.Popen(
        [sys.executable, script, *command(step, lake, raw)],
        env=ENVIRONMENT, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(step: tuple[str, ...], lake: Lake, raw: Path) -> float:
    """Run a Spark step to its end; the seconds it took."""
    began = time.monotonic()
    process = start(step, lake, raw)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return time.monotonic() - began


def fork(step: tuple[str, ...], lake: Lake) -> multiprocessing.Process:
    """A step without Spark as a fork of this process, which has loaded the heavy libraries already."""

    def run() -> None:
        schemas.dataset._registry = lambda: {"shop": SHOP}
        sys.argv = command(step, lake, Path())
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - a descriptor, to put under both streams
            os.dup2(nowhere.fileno(), 1)
        exit_with_one_line(importlib.import_module(step[0]).main)

    process = multiprocessing.get_context("fork").Process(target=run)
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
    return {f"{p.relative_to(folder)} {hash(p.read_bytes())}" for p in folder.rglob("*") if p.is_file()}


# --- the reader ---------------------------------------------------------------------------------------------


def look(folder: Path) -> str:
    """The fault that a reader sees in a partition; empty for no fault, or if the partition was just replaced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        try:
            wrong = _disagreement(Path(f"/proc/self/fd/{handle}"))  # this very folder, whatever its path names by now
        except Exception as error:  # whatever a reader may stumble over: half a file, a file that is gone
            wrong = f"{type(error).__name__}: {error}"
        try:
            current = os.fstat(handle).st_ino == folder.stat().st_ino
        except FileNotFoundError:
            current = False
        return wrong if current else ""  # an old version may be on its way out
    finally:
        os.close(handle)


def _disagreement(partition: Path) -> str:
    stated = read_manifest(partition)
    if stated is None:
        return "no manifest"
    rows = sum(pq.read_metadata(file).num_rows for file in partition.glob("*.parquet"))
    if rows != stated.rows:
        return f"{rows} rows, stated {stated.rows}"
    return "" if content_fingerprint(partition) == stated.fingerprint else "other content than stated"


def read_for_ever(root: str, report: str) -> None:
    """Read every partition again and again; print the number of reads and the faults as JSON lines."""
    reads = 0
    with Path(report).open("a") as file:
        while True:
            for folder in Path(root).glob("*/dataset=*/ds=*"):
                reads += 1
                if wrong := look(folder):
                    file.write(json.dumps({"wrong": f"{folder}: {wrong}"}) + "\n")
            file.write(json.dumps({"reads": reads}) + "\n")
            file.flush()
            time.sleep(0.05)  # the killed need the processor too


@pytest.fixture
def reader(tmp_path) -> Iterator[tuple[Lake, Callable[[], tuple[int, list[str]]]]]:
    """The lake, and a function that returns its reader's number of reads and faults. The reader must be alive."""
    lake, report = Lake(tmp_path / "fire"), tmp_path / "seen.jsonl"
    report.touch()
    process = multiprocessing.get_context("fork").Process(target=read_for_ever, args=(str(lake.root), str(report)))
    process.start()

    def seen() -> tuple[int, list[str]]:
        assert process.is_alive(), "the reader is gone"
        lines = [json.loads(line) for line in report.read_text().splitlines() if line.endswith("}")]
        return max((x["reads"] for x in lines if "reads" in x), default=0), [x["wrong"] for x in lines if "wrong" in x]

    yield lake, seen
    process.kill()
    process.join()


def put_edition(lake: Lake, content: str) -> Path:
    """A partition of two files of two rows each."""
    with staging_folder(lake) as staging:
        (staging / "part").mkdir()
        for k in range(2):
            pq.write_table(pa.table({"x": [f"{content}{k}"] * 2}), staging / "part" / f"part-{k}.parquet")
        lake["journeys", "shop", DAYS[0]].publish(staging / "part", rows=4, inputs={}, code="c")
    return lake["journeys", "shop", DAYS[0]].path


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


FAULTS = {
    "no manifest": lambda partition, newer: (partition / MANIFEST).unlink(),
    "JSONDecodeError": lambda partition, newer: tear(partition / MANIFEST),
    "ArrowInvalid": lambda partition, newer: tear(partition / "part-0.parquet"),
    "2 rows, stated 4": lambda partition, newer: (partition / "part-0.parquet").unlink(),
    "other content than stated": lambda partition, newer: shutil.copy(newer / "part-0.parquet", partition),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_says_what_is_wrong_with_a_partition(tmp_path, fault):
    partition, newer = (put_edition(Lake(tmp_path / name), name) for name in ("lake", "other"))
    assert look(partition) == ""
    FAULTS[fault](partition, newer)
    assert look(partition).startswith(fault)


def test_the_reader_holds_nothing_against_a_partition_that_is_replaced_or_gone(tmp_path, monkeypatch):
    lake = Lake(tmp_path)
    partition = put_edition(lake, "old")

    def replaced_meanwhile(file: Path) -> None:
        put_edition(lake, "new")
        raise FileNotFoundError(file)

    assert look(lake["journeys", "shop", DAYS[1]].path) == ""
    monkeypatch.setattr(pq, "read_metadata", replaced_meanwhile)
    assert look(partition) == ""


def test_the_reader_outlives_what_it_finds_and_its_end_is_noticed(reader):
    lake, seen = reader
    partition = put_edition(lake, "x")
    tear(partition / MANIFEST)

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
    for module in ("jobs.quality.audits", *(step[0] for step in (*LEARNING, SCORE, PLAN))):
        importlib.import_module(module)
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
    old_journeys = tmp_path / "old_journeys"
    shutil.copytree(calm["journeys", "shop", DAYS[-1]].path, old_journeys)
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
    new_journeys = tmp_path / "new_journeys"
    shutil.copytree(calm["journeys", "shop", DAYS[-1]].path, new_journeys)
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

    with staging_folder(lake):
        pass
    assert list(lake.staging.iterdir()) == []  # what the killed left behind is swept away
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
    """Undo a completed step, in one move for the reader, so that there is work to kill."""
    copy = shutil.copytree(lake_before, lake_before.with_name("again"))
    swap_into_place(copy, lake.root)
    shutil.rmtree(copy)


def publish_journeys(lake: Lake, journeys: Path) -> None:
    """Publish a copy of this partition as the day's journeys."""
    stated = read_manifest(journeys)
    assert stated is not None
    with staging_folder(lake) as staging:
        staged = staging / "journeys"
        shutil.copytree(journeys, staged, ignore=shutil.ignore_patterns(MANIFEST))
        lake["journeys", "shop", DAYS[-1]].publish(
            staged, rows=stated.rows, inputs=stated.inputs, code=stated.code_version
        )
