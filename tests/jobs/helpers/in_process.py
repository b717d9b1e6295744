"""Runs entry points in this process on the shared Spark session, which saves the start of Java."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakes import partitions
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs.spark.failures import explain_failure
from lakehouse.lake import Lake
from schemas.errors import exit_with_one_line


class Jobs:
    """Runs `jobs.<name>`, or the module of a full name, on a lake. sessions: the number of runs that used Spark."""

    def __init__(self, spark: SparkSession, lake: Lake, dataset: str, patch):
        self.lake, self.dataset, self.sessions = lake, dataset, 0
        self.spark, self.patch = spark, patch
        # Each file is a task of Spark's, and tests have few rows: fewer files take half the time.
        patch.setattr("jobs.spark.partitions.FILES_PER_DAY", 2)

    def run(self, job: str, *arguments: str) -> int:
        """The exit status, 0 if the entry point returns."""
        module = importlib.import_module(job if "." in job else f"jobs.{job}")
        argv = [job, "--dataset", self.dataset, "--lake", str(self.lake.root), *arguments]
        self.patch.setattr(sys, "argv", argv)
        if hasattr(module, "spark_session"):
            self.patch.setattr(module, "spark_session", self._session)
        try:
            exit_with_one_line(module.main)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            self.spark.catalog.clearCache()
        return 0

    def ok(self, job: str, *arguments: str) -> None:
        assert self.run(job, *arguments) == 0

    @contextmanager
    def _session(self, name: str) -> Iterator[SparkSession]:
        self.sessions += 1
        try:
            yield self.spark
        except (Py4JError, PySparkException) as error:
            raise explain_failure(error) from error


def files_of(lake: Lake, *tables: str) -> dict[str, tuple[int, int]]:
    """Inode and time of every file of these tables. They change whenever a partition is written again."""
    return {
        str(path.relative_to(lake.root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for partition in partitions(lake, *tables)
        for path in partition.files()
    }


def rewritten(old_files: dict[str, tuple[int, int]], new_files: dict[str, tuple[int, int]]) -> set[str]:
    """The partitions, as table/day, in which a file has changed."""
    changed = {path for path in old_files.keys() | new_files.keys() if old_files.get(path) != new_files.get(path)}
    return {f"{Path(path).parts[1]}/{Path(path).parts[2].removeprefix('ds=')}" for path in changed}
