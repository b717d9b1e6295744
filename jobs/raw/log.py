"""The rows of a raw log, read once in a run: the latest read stays cached."""

from collections.abc import Mapping
from dataclasses import replace

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession

from jobs.raw.files import RawFiles
from jobs.raw.fingerprints import with_hashes
from jobs.raw.index import event_views
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
            files = self._files_of(names)
            rows = read_rows(self.spark, self.dataset, files)
            if condition is not None:
                rows = rows.where(condition)  # before the hashes are computed and the rows are cached
            self._cached_rows = with_hashes(rows).persist(StorageLevel.MEMORY_AND_DISK)
            views = event_views(self.dataset)
            names_read = {name for view in views if view in files for name in files[view].by_name}
            self._cached_names = names_read if condition is None else set()
        return self._cached_rows

    def _files_of(self, names: set[str]) -> dict[str, RawFiles]:
        """The files of these names and all lookups; the first log file if there are no names."""
        views = event_views(self.dataset)
        files = {view: group for view, group in self.files.items() if view not in views}
        for view in views:
            group = self.files[view]
            if paths := tuple(path for name, path in group.by_name.items() if name in names):
                files[view] = replace(group, paths=paths)
        if not any(view in files for view in views):
            log = self.files[self.dataset.log.view]
            files[self.dataset.log.view] = replace(log, paths=log.paths[:1])
        return files
