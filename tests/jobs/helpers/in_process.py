"""Runs entry points in this process on the shared Spark context, which saves the start of Java."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lakes import partitions
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from jobs.spark.failures import explain_failure
from lakehouse.lake import Lake
from schemas.errors import exit_with_one_line


class Jobs:
    """Runs `jobs.<name>`, or the module of a full name, on a lake. contexts: the number of runs that used Spark."""

    def __init__(self, spark: SparkContext, lake: Lake, dataset: str, patch):
        self.lake, self.dataset, self.contexts = lake, dataset, 0
        self.spark, self.patch = spark, patch
        # Each file is a task of Spark's, and tests have few rows: fewer files take half the time.
        patch.setattr("jobs.spark.files_per_day.FILES_PER_DAY", 2)

    def run(self, job: str, *arguments: str) -> int:
        """The exit status, 0 if the entry point returns."""
        module = importlib.import_module(job if "." in job else f"jobs.{job}")
        argv = [job, "--dataset", self.dataset, "--lake", str(self.lake.root), *arguments]
        self.patch.setattr(sys, "argv", argv)
        if hasattr(module, "spark_context"):
            self.patch.setattr(module, "spark_context", self._context)
        try:
            exit_with_one_line(module.main)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    def ok(self, job: str, *arguments: str) -> None:
        assert self.run(job, *arguments) == 0

    @contextmanager
    def _context(self, name: str) -> Iterator[SparkContext]:
        self.contexts += 1
        try:
            yield self.spark
        except (Py4JError, PySparkException) as error:
            raise explain_failure(error) from error


def files_of(lake: Lake, *tables: str) -> dict[str, tuple[object, ...]]:
    """The files and the manifest of every partition of these tables, by table/day."""
    return {
        f"{partition.table}/{partition.day}": (*partition.data_files(), partition.manifest)
        for partition in partitions(lake, *tables)
    }


def rewritten(old: dict[str, tuple[object, ...]], new: dict[str, tuple[object, ...]]) -> set[str]:
    """The partitions, as table/day, that were published with other files, inputs, code or counts."""
    return {partition for partition in old.keys() | new.keys() if old.get(partition) != new.get(partition)}
