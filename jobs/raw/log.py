"""The rows of a raw log, read once in a run: the latest read stays cached."""

from collections.abc import Mapping

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession

from jobs.raw.files import RawFiles
from jobs.raw.fingerprints import with_hashes
from jobs.raw.rows import read_rows
from schemas.dataset import Dataset


class RawLog:
    """files: by view name, as from find_raw_files."""

    def __init__(self, spark: SparkSession, dataset: Dataset, files: Mapping[str, RawFiles]) -> None:
        self.spark, self.dataset, self.files = spark, dataset, files
        self._cached_names: set[str] = set()
        self._cached_rows: DataFrame | None = None

    def rows(self, names: set[str], condition: Column | None = None) -> DataFrame:
        """Rows of the log files of these names, with hashes: jobs.raw.fingerprints.with_hashes.

        The first file is read if `names` is empty. condition: over the columns of read_rows; only rows that satisfy it
        are needed. Rows of other files, and rows that do not satisfy it, may be included.
        """
        if self._cached_rows is None or not names <= self._cached_names:
            if self._cached_rows is not None:
                self._cached_rows.unpersist()
            log = self.files[self.dataset.log.view]
            paths = tuple(path for path in log.paths if path.name in names) or log.paths[:1]
            files = {**self.files, self.dataset.log.view: RawFiles(log.layout, paths)}
            rows = read_rows(self.spark, self.dataset, files)
            if condition is not None:
                rows = rows.where(condition)  # before the hashes are computed and the rows are cached
            self._cached_rows = with_hashes(rows).persist(StorageLevel.MEMORY_AND_DISK)
            self._cached_names = {path.name for path in paths} if condition is None else set()
        return self._cached_rows
