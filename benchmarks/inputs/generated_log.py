"""Generated logs in the Criteo layout, the feature spec that is fitted on one, and scratch lakes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.commands import DATASET, job, module
from benchmarks.measure import measure
from lakehouse.feature_specs import published_spec
from lakehouse.lake import Lake
from schemas.datasets.criteo import LOG
from schemas.tables.feature_spec import MODEL_SPEC_FILE

DAYS = 30  # of a generated log, about the length of the published one


def generated_log(cache: Path, rows: int, *, users: int | None = None, days: int = DAYS) -> Path:
    """The folder of a plain-text log of about this many rows. It is generated once and then kept in `cache`."""
    folder = cache / f"criteo-{rows}-{users or 'usual'}-{days}"
    if not folder.exists():
        packed = cache / f"{folder.name}.packed"
        shutil.rmtree(packed, ignore_errors=True)
        user_flag = ("--users", str(users)) if users else ()
        flags = ("--layout", "criteo", "--rows", str(rows), "--days", str(days), *user_flag, "--out", packed)
        measure(module("jobs.generate_log", *flags))
        # Plain text can be split among cores; a gzip file is always read by one core.
        (file,) = packed.glob("*.gz")
        measure(["gzip", "-d", file])
        packed.rename(folder)
    return folder


def skewed_log(cache: Path, rows: int, *, users: int | None = None) -> Path:
    """The folder of the generated log, of which one user has a tenth: in every tenth row, the user is the first one."""
    original = generated_log(cache, rows, users=users)
    folder = cache / f"{original.name}-skewed"
    if not folder.exists():
        unfinished = cache / f"{folder.name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        user = [column.name for column in LOG.columns].index("uid")
        log = log_file(original)
        with log.open() as lines, (unfinished / log.name).open("w") as skewed:
            skewed.write(next(lines))
            heavy = ""
            for number, line in enumerate(lines):
                if number % 10 == 0:
                    cells = line.split(LOG.separator)
                    heavy = heavy or cells[user]
                    line = LOG.separator.join([*cells[:user], heavy, *cells[user + 1 :]])
                skewed.write(line)
        unfinished.rename(folder)
    return folder


def log_file(folder: Path) -> Path:
    """The only file of a generated log."""
    (file,) = folder.glob(LOG.patterns[1])
    return file


def count_rows(log: Path) -> int:
    """The rows below the header."""
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 24), b"")) - 1


def fitted_spec(cache: Path) -> Path:
    """A feature_spec.json for a made-up champion, fitted once on a small generated log."""
    file = cache / MODEL_SPEC_FILE
    if not file.exists():
        raw = generated_log(cache, 50_000)
        with scratch_lake(cache) as lake:
            measure(job("build_tables", lake, "--raw", raw))
            measure(job("build_feature_spec", lake))
            file.write_text(published_spec(lake, DATASET, None).to_json())
    return file


@contextmanager
def scratch_lake(cache: Path, template: Lake | None = None) -> Iterator[Lake]:
    """A lake that is removed afterwards. It begins empty, or as a copy of the template."""
    root = cache / "lake"
    shutil.rmtree(root, ignore_errors=True)
    if template:
        shutil.copytree(template.root, root)
    try:
        yield Lake(root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def published_rows(lake: Lake, table: str) -> int:
    """The rows of all days of a table."""
    manifests = (lake[table, DATASET, day].manifest for day in lake.days(table, DATASET))
    return sum(manifest.rows for manifest in manifests if manifest)


def stored_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
