"""The pipeline's own entry points, with the DAGs' settings, and the logs and lakes that they are measured on."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Cost, measured
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.datasets.criteo import LOG
from schemas.tables import FEATURE_SPEC
from schemas.tables.feature_spec import SPEC_FILE

DATASET = get_dataset("criteo")
ROOT = Path(__file__).resolve().parent.parent
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # on the processor alone, also where there is one
DAYS = 30  # of a generated log, about as many as the published one has


def job(name: str, lake: Lake, *arguments: str | Path) -> list[str | Path]:
    """A Spark entry point of the criteo dataset."""
    return [sys.executable, ROOT / "jobs" / f"{name}.py", "--dataset", DATASET.name, "--lake", lake.root, *arguments]


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", name, *arguments]


def generated_log(kept: Path, rows: int, *, users: int | None = None, days: int = DAYS) -> Path:
    """The folder of a log of about so many rows in the Criteo layout, as plain text; made once and kept in `kept`."""
    folder = kept / f"criteo-{rows}-{users or 'usual'}-{days}"
    if not folder.exists():
        packed = kept / f"{folder.name}.packed"
        shutil.rmtree(packed, ignore_errors=True)
        many = ("--users", str(users)) if users else ()
        measured(module("jobs.generate_log", "--layout", "criteo", "--rows", str(rows), "--days", str(days), *many,
                        "--out", packed))  # fmt: skip
        # Text that can be cut: one gzip file is read by one core, whoever reads it.
        (file,) = packed.glob("*.gz")
        measured(["gzip", "-d", file])
        packed.rename(folder)
    return folder


def log_file(folder: Path) -> Path:
    (file,) = folder.glob(LOG.patterns[1])
    return file


def rows_of(log: Path) -> int:
    """The rows below the header."""
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 24), b"")) - 1


def fitted_spec(kept: Path) -> Path:
    """A feature_spec.json, fitted once on a small generated log: the daily run is given the champion's."""
    file = kept / SPEC_FILE
    if not file.exists():
        raw = generated_log(kept, 50_000)
        with scratch_lake(kept) as lake:
            measured(job("build_exposures", lake, "--raw", raw))
            measured(job("build_feature_spec", lake))
            (day,) = lake.days(FEATURE_SPEC, DATASET)
            shutil.copy(lake[FEATURE_SPEC, DATASET, day].path / SPEC_FILE, file)
    return file


@contextmanager
def scratch_lake(kept: Path, of: Lake | None = None) -> Iterator[Lake]:
    """A lake that is gone afterwards: empty, or with the content of another."""
    root = kept / "lake"
    shutil.rmtree(root, ignore_errors=True)
    if of:
        shutil.copytree(of.root, root)
    try:
        yield Lake(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def published_rows(lake: Lake, table: str) -> int:
    """Over all days."""
    manifests = (lake[table, DATASET, day].manifest for day in lake.days(table, DATASET))
    return sum(manifest.rows for manifest in manifests if manifest)


def run(commands: Sequence[Sequence[str | Path]]) -> list[Cost]:
    return [measured(command, NO_GPU) for command in commands]
