"""Command lines of the pipeline's entry points and of the programs in this folder."""

import sys
from pathlib import Path

from lakehouse.lake import Lake
from schemas.dataset import get_dataset

DATASET = get_dataset("criteo")
ROOT = Path(__file__).resolve().parent.parent
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # hides a GPU from a command


def job(name: str, lake: Lake, *arguments: str | Path) -> list[str | Path]:
    """A Spark entry point of jobs/ on the criteo dataset, started by its path as the DAGs start it."""
    return [sys.executable, ROOT / "jobs" / f"{name}.py", "--dataset", DATASET.name, "--lake", lake.root, *arguments]


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", name, *arguments]


def raw_to_sequences(lake: Lake, raw: Path) -> list[str | Path]:
    """The Spark job from the raw log to sequences, with one start of Spark."""
    return job("build_tables", lake, "--raw", raw)
