"""The lake and its partitions: `lake[JOURNEYS, dataset, day]` is a partition, with all operations as its methods.

A table of a dataset is a Delta table, LAKE/<dataset>/<table>/, partitioned by ds. A job writes Parquet files into a
work folder (lakehouse.storage.scratch) and publishes them: `publish_days` stores the files under names that follow
from their content and commits all days together. The manifest of a partition, in the table `lineage`, names its inputs.
"""

import json
import re
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import lineage
from lakehouse.manifest import Manifest, chained_fingerprint, files_fingerprint
from lakehouse.storage.data_files import local_file, part_of, read_file, store_file
from lakehouse.storage.delta_table import DataFile, FilesByValue, commit, present_files, present_fingerprints
from lakehouse.storage.files import is_local, read_stored
from lakehouse.storage.store_path import located
from schemas.dataset import Dataset
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError
from schemas.tables import EXPOSURES
from schemas.tables.registry import TABLES

_READS = 3  # of a table and its manifests, while another run publishes
DS = "ds"  # the partition column of every table
FAILED_AUDIT = "fail"  # the verdict of an audit in which a critical rule failed
FAILED_MARK = ".failed"  # the ending of an empty file next to the result of such an audit
IF_METRICS_DAMAGED = "delete it, and evaluate again (python -m mtorl_model.evaluate)"
IF_AUDIT_DAMAGED = "delete it, and audit the partition again (python -m jobs.audit_table)"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_VERSION = re.compile(r"[0-9a-f]{12}")
_PATTERN = re.compile(r"[\[\]{}*?\\]")


def literal_path(path: Path) -> Path:
    """The path itself. Raises UserError if Spark and DuckDB would read it as a pattern of file names."""
    if match := _PATTERN.search(str(path.resolve())):
        raise UserError(f"{path.resolve()} would be read as a pattern because of the {match[0]} in it: rename it")
    return path


def _require_delta_tables(root: Path) -> None:
    """Raises UserError for a lake of an earlier version of this project, whose tables have another format."""
    if (earlier := root / EXPOSURES).is_dir() and any(earlier.glob("dataset=*")):
        raise UserError(
            f"{root} was made by an earlier version, which stored its tables in another form: keep it, and run the "
            "history again into another folder (make run LAKE=..., then make backfill)"
        )


def dataset_name(dataset: Dataset | str) -> str:
    """The name of a dataset that is given by its contract or by its name."""
    return dataset if isinstance(dataset, str) else dataset.name


@dataclass(frozen=True, slots=True)
class FailedAudit:
    """file: the result of the audit. headline: its first critical finding, in one line."""

    file: Path
    headline: str


@dataclass(frozen=True, slots=True)
class Lake:
    """The root folder of all tables. A dataset is named by its contract or by the contract's name."""

    root: Path  # of this machine, or a StorePath of an object store, which has the same methods

    def __post_init__(self) -> None:
        if is_local(self.root):
            literal_path(self.root)
            _require_delta_tables(self.root)

    @classmethod
    def at(cls, location: str) -> "Lake":
        """The lake at a path of this machine or a URI: see store_path.located."""
        return cls(located(location))

    def __getitem__(self, coordinates: tuple[str, Dataset | str, str]) -> "Partition":
        """The partition of a table, a dataset and a day, whether it is published or not.

        Raises UserError where a name or the day is not well formed: no path is built from an unchecked name.
        """
        table, dataset, day = coordinates
        name = _checked_name(dataset_name(dataset))
        return Partition(self, _checked_name(table), name, day if day == UNDATED else checked_day(day))

    def partition(self, key: str) -> "Partition":
        """The partition that manifests and drift results name by this key: Partition.key."""
        dataset, table, day = key.split("/")
        return self[table, dataset, day.removeprefix(f"{DS}=")]

    def table(self, table: str, dataset: Dataset | str) -> Path:
        """The folder of a dataset's table."""
        return self.root / _checked_name(dataset_name(dataset)) / _checked_name(table)

    def table_folders(self, dataset: Dataset | str) -> list[Path]:
        """The folders of all Delta tables of a dataset."""
        folder = self.root / _checked_name(dataset_name(dataset))
        return sorted(log.parent for log in folder.glob("*/_delta_log"))

    def manifests(self, dataset: Dataset | str, tables: Iterable[str]) -> dict[str, dict[str, Manifest]]:
        """The manifests of all published partitions, by table and day, oldest first."""
        tables = list(tables)
        for _ in range(_READS):
            # The files first: the manifest of a new edition is written before the commit of its files.
            present = {table: present_fingerprints(self.table(table, dataset)) for table in tables}
            editions = lineage.editions(self.table(lineage.LINEAGE, dataset))
            published = {
                table: {
                    day: editions[table, day, fingerprint]
                    for day, fingerprint in sorted(fingerprints.items())
                    if (table, day, fingerprint) in editions
                }
                for table, fingerprints in present.items()
            }
            if all(len(published[table]) == len(present[table]) for table in tables):
                break  # else an edition was replaced between the two reads, or it was restored without a manifest
        return published

    def days(self, table: str, dataset: Dataset | str) -> list[str]:
        """The published days of a table, oldest first; the undated partition of quarantined rows is left out."""
        return [day for day in self.manifests(dataset, [table])[table] if day != UNDATED]

    def present(self, table: str, dataset: Dataset | str, days: Iterable[str]) -> FilesByValue:
        """The files that these days have now; none for a day that the table does not have."""
        files = present_files(self.table(table, dataset))
        return {day: files.get(day, ()) for day in days}

    def fingerprints(self, table: str, dataset: Dataset | str, days: Iterable[str]) -> dict[str, str]:
        """The fingerprint of each of these days that is published, by the partition's key, as manifests name inputs."""
        published = self.manifests(dataset, [table])[table]
        return {self[table, dataset, day].key: published[day].fingerprint for day in days if day in published}

    def history_inputs(self, table: str, dataset: Dataset | str, days: Iterable[str]) -> dict[str, dict[str, str]]:
        """For each day, the input that stands for all published days of a table up to it: its key and fingerprint.

        The fingerprint is chained (manifest.chained_fingerprint), so that a manifest does not grow with the history.
        A day before the first published one has no such input.
        """
        published, inputs, chain = self.manifests(dataset, [table])[table], {}, ""
        days_left = [day for day in published if day != UNDATED]
        for day in sorted(set(days)):
            while days_left and days_left[0] <= day:
                earlier = days_left.pop(0)
                chain = chained_fingerprint(chain, earlier, published[earlier].fingerprint)
            inputs[day] = {f"{dataset_name(dataset)}/{table}/{DS}<={day}": chain} if chain else {}
        return inputs

    def failed_audit(self, manifest: Manifest) -> FailedAudit | None:
        """The audit in which the content of this manifest failed critically, or None.

        A verdict is about the content that was audited: after a repair it no longer counts.
        """
        file = self.audits(manifest.dataset) / manifest.table / f"{manifest.ds}.json"
        if not file.is_file():
            return None
        verdict, fingerprint, headline = read_stored(file, _verdict, IF_AUDIT_DAMAGED)
        is_failed = verdict == FAILED_AUDIT and fingerprint == manifest.fingerprint
        return FailedAudit(file, headline) if is_failed else None

    def marked_as_failed(self, dataset: Dataset | str) -> set[tuple[str, str]]:
        """Table and day of each partition of which some content failed its audit: `failed_audit` decides.

        A list of all takes less time than a look for each partition of a long history.
        """
        return {(mark.parent.name, mark.stem) for mark in self.audits(dataset).glob(f"*/*{FAILED_MARK}")}

    def audits(self, dataset: Dataset | str) -> Path:
        """The folder of the latest audit of each partition, <table>/<ds>.json."""
        return self.table("audits", dataset)

    def drift(self, dataset: Dataset | str) -> Path:
        """The folder of the drift of each day, <ds>.json: jobs.drift.results."""
        return self.table("drift", dataset)

    def day_profiles(self, dataset: Dataset | str) -> Path:
        """The folder of the value counts of each day of exposures, <ds>.json: jobs.quality.day_profile."""
        return self.table("day_profiles", dataset)

    def raw_index(self, dataset: Dataset | str) -> Path:
        """The content of the raw log when it was last read: jobs.raw.index."""
        return self.table("raw_index", dataset) / "index.json"

    def files_per_day(self, dataset: Dataset | str) -> Path:
        """How many files a day of this dataset has: jobs.spark.files_per_day."""
        return self.table("layout", dataset) / "files_per_day.json"

    def exported_quarantine(self, dataset: Dataset | str) -> Path:
        """Copies of the files of quarantined rows that were exported to be repaired: jobs.quarantine."""
        return self.table("handed_out", dataset)

    def consumer_files(self, dataset: Dataset | str) -> Path:
        """The folder of plain Parquet files for consumers, <table>/ds=<day>/part-0.parquet: jobs.quality."""
        return self.table("published", dataset)

    def docs(self, dataset: Dataset | str) -> Path:
        """The data docs of a dataset: a static site that opens without a network."""
        return self.table("data_docs", dataset)

    def reports(self, dataset: Dataset | str) -> Path:
        """A page for each day and an index: jobs.report."""
        return self.table("reports", dataset)

    def metrics(self, dataset: Dataset | str, method: str = "") -> Path:
        """The metrics of a method's champion on the test users of the lake; without a name: of the default method."""
        name = f"metrics_{_checked_name(method)}" if method else "metrics"
        return self.table("metrics", dataset) / f"{name}.json"

    def metrics_of_all(self, dataset: Dataset | str) -> list[Path]:
        """The files of metrics that exist, the default method's first."""
        return sorted(self.table("metrics", dataset).glob("metrics*.json"))

    def studies(self, dataset: Dataset | str) -> Path:
        """The folder of study results: each study has a table, its protocol and a picture."""
        return self.table("studies", dataset)

    def spec(self, dataset: Dataset | str, version: str) -> Path:
        """The file of a feature spec. Its version follows from its content, so it never changes."""
        return self.table("feature_specs", dataset) / f"{_checked_version(version)}.json"

    def require_writable(self) -> None:
        """Check before any work that the lake can be written. Raises UserError if it cannot.

        In an object store this includes that a commit cannot overwrite another one, which would be lost in silence.
        """
        probe = self.root / f".writable-{uuid.uuid4().hex}"  # another job may check at the same time
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            try:
                obeys_conditions = is_local(probe) or probe.obeys_conditions()  # type: ignore[attr-defined]  # of StorePath
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the lake {self.root}: {error.strerror or error}; choose another folder with LAKE="
            ) from error
        if not obeys_conditions:
            raise UserError(
                f"{self.root}: this object store overwrites an object although the request forbids it (If-None-Match), "
                "so that commits of concurrent jobs would be lost: use a store with conditional writes (docs/deploy.md)"
            )


@dataclass(frozen=True, slots=True)
class Partition:
    """One day of one dataset in one table: `lake[table, dataset, day]`."""

    lake: Lake
    table: str
    dataset: str
    day: str

    @property
    def key(self) -> str:
        """The path below the lake: how manifests and lineage name the partition."""
        return f"{self.dataset}/{self.table}/{DS}={self.day}"

    @property
    def path(self) -> Path:
        """The folder of the data files. It may also have files of earlier editions: `files` lists the present ones."""
        return self.lake.root / self.key

    @property
    def consumer_file(self) -> Path:
        """The file for consumers with the latest edition that passed its audit; only tables of results have one."""
        return self.lake.consumer_files(self.dataset) / self.table / f"{DS}={self.day}" / "part-0.parquet"

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the present edition, read at each access; None if nothing is published."""
        return self.lake.manifests(self.dataset, [self.table])[self.table].get(self.day)

    @property
    def is_published(self) -> bool:
        return self.manifest is not None

    def data_files(self) -> tuple[DataFile, ...]:
        """The files of the present edition as the table's log names them, in the order in which they are read."""
        return present_files(self.lake.table(self.table, self.dataset)).get(self.day, ())

    def files(self) -> list[Path]:
        """The Parquet files on this machine, in the order in which they are read.

        Raises DamagedFile if one of them is missing, or has another size than was stored.
        """
        folder = self.lake.table(self.table, self.dataset)
        return [local_file(folder, file) for file in self.data_files()]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a published partition in memory, by default with all columns."""
        return pa.concat_tables(self.read_by_file(columns))

    def read_by_file(
        self, columns: Sequence[str] | None = None, parts: Container[str] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of one file after another. parts: of these parts only (see part_of); None: of all."""
        folder = self.lake.table(self.table, self.dataset)
        for file in self.data_files():
            if parts is None or part_of(file) in parts:
                yield read_file(folder, file, columns)

    def read_together(self) -> list["Partition"]:
        """The partitions that have the rows as of this day, oldest first: several if it has changed rows only."""
        manifest = self.manifest
        return [self.lake[self.table, self.dataset, day] for day in (manifest.days if manifest else [self.day])]

    def current_inputs(self) -> dict[str, str]:
        """The present fingerprints of the partition's inputs, by their keys. The registry declares the input tables.

        Raw files, the model and settings are not included; the jobs that read them add them.
        """
        declared = TABLES[self.table]
        inputs: dict[str, str] = {}
        for table in declared.history:
            inputs |= self.lake.history_inputs(table, self.dataset, [self.day])[self.day]
        for table in declared.same_day:
            manifest = self.lake[table, self.dataset, self.day].manifest
            inputs |= self.lake.fingerprints(table, self.dataset, manifest.days if manifest else [])
        return inputs

    def is_fresh(
        self, inputs: Mapping[str, str], *, spec_version: str | None = None, this_code: str | None = None
    ) -> bool:
        """Whether the partition is published and matches these inputs: see Manifest.is_fresh."""
        manifest = self.manifest
        return manifest is not None and manifest.is_fresh(inputs, spec_version=spec_version, this_code=this_code)

    def require(self) -> Manifest:
        """The manifest of a partition that is an input of another one.

        Raises UserError if nothing is published or if the audit failed. A table may be audited together with others
        (RegisteredTable.audited_with): their failed audits of the day, and of undated rows, count as well.
        """
        registered = TABLES.get(self.table)
        audited_with = registered.audited_with if registered else ()
        published = self.lake.manifests(self.dataset, [self.table, *audited_with])
        manifest = published[self.table].get(self.day)
        if manifest is None:
            raise UserError(
                f"no {self.table} for {self.dataset} on {self.day} in {self.lake.root}: "
                "run the day first (make backfill, or make run)"
            )
        missing = [day for day in manifest.days if day not in published[self.table]]
        if missing:
            raise UserError(
                f"no {self.table} for {self.dataset} on {missing[0]} in {self.lake.root}, with which "
                f"those of {self.day} are read: run {self.day} again (make backfill)"
            )
        first_day = manifest.days[0]
        if published[self.table][first_day].days != [first_day]:
            raise UserError(
                f"the {self.table} for {self.dataset} on {first_day} were published again with changed rows alone, and "
                f"those of {self.day} are read with them: run {self.day} again (make backfill)"
            )
        earlier = (published[self.table][day] for day in manifest.days)
        related = (published[table].get(day) for table in audited_with for day in (self.day, UNDATED))
        for audited in (*earlier, *filter(None, related)):
            if failed := self.lake.failed_audit(audited):
                raise UserError(
                    f"{audited.table} for {audited.dataset} on {audited.ds} failed its audit: "
                    f"{failed.headline or 'see its result'}; repair the day, run and audit it again ({failed.file})"
                )
        return manifest

    def publish(
        self,
        staged: Path,
        *,
        inputs: Mapping[str, str],
        code: str,
        spec_version: str | None = None,
        counts: Mapping[str, int] | None = None,
        replaces: Sequence[DataFile] | None = None,
    ) -> Manifest:
        """Store the Parquet files of a work folder and commit them as the partition's only files.

        replaces: the files that the new rows were made from; raises delta_table.Replaced if they are not the present
        ones any more. None: any present files are replaced.
        """
        folder = self.lake.table(self.table, self.dataset)
        parts = sorted(staged.glob("*.parquet"))
        schema = pq.read_schema(parts[0])
        files = tuple(store_file(folder, f"{DS}={self.day}", part) for part in parts)
        day = NewDay(files, dict(inputs), dict(counts or {}))
        expected = None if replaces is None else {self.day: tuple(replaces)}
        published = publish_days(
            self.lake, self.table, self.dataset, {self.day: day}, schema, code=code, spec_version=spec_version,
            expected=expected,
        )  # fmt: skip
        return published[self.day]


@dataclass(frozen=True, slots=True)
class NewDay:
    """The stored files of a day that is to be published, what they were built from, and further counts."""

    files: tuple[DataFile, ...]
    inputs: Mapping[str, str]
    counts: Mapping[str, int]


def publish_days(
    lake: Lake,
    table: str,
    dataset: str,
    days: Mapping[str, NewDay],
    schema: pa.Schema,
    *,
    code: str,
    spec_version: str | None = None,
    expected: FilesByValue | None = None,
) -> dict[str, Manifest]:
    """Publish days of a table in one commit: a reader sees all of them or none. Returns their manifests.

    schema: the columns of the files. expected: see delta_table.commit, which also names the errors.
    """
    manifests = {
        day: Manifest(
            table=table,
            dataset=dataset,
            ds=day,
            rows=sum(file.rows for file in new.files),
            fingerprint=files_fingerprint(file.name for file in new.files),
            inputs=dict(sorted(new.inputs.items())),
            code_version=code,
            spec_version=spec_version,
            counts=dict(new.counts),
        )
        for day, new in days.items()
    }
    folder = lake.table(table, dataset)
    fingerprints = present_fingerprints(folder)
    present = {(table, day): fingerprints[day] for day in days if day in fingerprints}
    lineage.record(lake.table(lineage.LINEAGE, dataset), manifests.values(), present)
    commit(
        folder, DS, {day: tuple(sorted(new.files, key=lambda f: f.path)) for day, new in days.items()}, schema, expected
    )
    return manifests


def table_of(key: str) -> str:
    """The table that the key of an input names; empty if it names no table."""
    return key.split("/")[1] if key.count("/") == 2 else ""


def fingerprints_of(partitions: Iterable[Partition]) -> dict[str, str]:
    """The fingerprint of each of these partitions that is published, by the partition's key."""
    manifests = {partition.key: partition.manifest for partition in partitions}
    return {key: manifest.fingerprint for key, manifest in manifests.items() if manifest is not None}


def _verdict(text: str) -> tuple[str, str, str]:
    """Verdict, fingerprint and headline of an audit in JSON. Without a failure there is no headline."""
    audit = json.loads(text)
    return audit["verdict"], audit["fingerprint"], audit.get("headline", "")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' is not a name of a table or dataset: use a-z, 0-9 and _")
    return name


def _checked_version(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise UserError(f"'{version}' is not a version of a feature spec")
    return version
