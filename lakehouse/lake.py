"""The lake and its partitions: `lake[JOURNEYS, dataset, day]` is a partition, with all operations as its methods.

A job writes data files into a staging folder (lakehouse.staging) and publishes them: `publish` adds the manifest and
moves the folder into place by rename(2), or by renameat2(RENAME_EXCHANGE) where the partition exists already. So the
path always names one whole partition. A job that is killed leaves the old partition or the new one.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.files import make_durable, read_stored, swap_into_place
from lakehouse.manifest import MANIFEST, Manifest, content_fingerprint, read_manifest
from schemas.dataset import Dataset
from schemas.days import UNDATED, checked_day
from schemas.errors import UserError
from schemas.tables.registry import TABLES

FAILED_AUDIT = "fail"  # the verdict of an audit in which a critical rule failed
IF_METRICS_DAMAGED = "delete it, and evaluate again (python -m mtorl_model.evaluate)"
IF_AUDIT_DAMAGED = "delete it, and audit the partition again (python -m jobs.audit_table)"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PATTERN = re.compile(r"[\[\]{}*?\\]")


def literal_path(path: Path) -> Path:
    """The path itself. Raises UserError if Spark and DuckDB would read it as a pattern of file names."""
    if match := _PATTERN.search(str(path.resolve())):
        raise UserError(f"{path.resolve()} would be read as a pattern because of the {match[0]} in it: rename it")
    return path


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

    root: Path

    def __post_init__(self) -> None:
        literal_path(self.root)

    def __getitem__(self, coordinates: tuple[str, Dataset | str, str]) -> "Partition":
        """The partition of a table, a dataset and a day, whether it is published or not.

        Raises UserError where a name or the day is not well formed: no path is built from an unchecked name.
        """
        table, dataset, day = coordinates
        name = _checked_name(dataset_name(dataset))
        return Partition(self, _checked_name(table), name, day if day == UNDATED else checked_day(day))

    def partition(self, key: str) -> "Partition":
        """The partition that manifests and drift results name by this key: Partition.key."""
        table, dataset, day = key.split("/")
        return self[table, dataset.removeprefix("dataset="), day.removeprefix("ds=")]

    def table(self, table: str, dataset: Dataset | str) -> Path:
        """The folder with all partitions of a dataset in a table."""
        return self.root / _checked_name(table) / f"dataset={_checked_name(dataset_name(dataset))}"

    def days(self, table: str, dataset: Dataset | str) -> list[str]:
        """The published days of a table, oldest first; the undated partition of quarantined rows is left out."""
        names = (path.name.removeprefix("ds=") for path in self.table(table, dataset).glob("ds=*"))
        return sorted(name for name in names if name != UNDATED)

    def fingerprints(self, table: str, dataset: Dataset | str, days: Iterable[str]) -> dict[str, str]:
        """The fingerprint of each of these days that is published, by the partition's key, as manifests name inputs."""
        return fingerprints_of(self[table, dataset, day] for day in days)

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

    @property
    def staging(self) -> Path:
        """The folder into which jobs write before they publish: lakehouse.staging."""
        return self.root / ".staging"

    @property
    def locks(self) -> Path:
        """The folder of the locks on partitions: lakehouse.locks."""
        return self.root / ".locks"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's tracking and registry store."""
        return (self.root / "mlflow" / "mlflow.db").resolve()

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.mlflow_database}"

    @property
    def mlflow_artifacts(self) -> Path:
        return (self.root / "mlflow" / "artifacts").resolve()

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

    def exported_quarantine(self, dataset: Dataset | str) -> Path:
        """Copies of the files of quarantined rows that were exported to be repaired: jobs.quarantine."""
        return self.table("handed_out", dataset)

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
        return f"{self.table}/dataset={self.dataset}/ds={self.day}"

    @property
    def path(self) -> Path:
        """The folder of the data files."""
        return self.lake.root / self.key

    @property
    def manifest(self) -> Manifest | None:
        """The partition's manifest, read from disk at each access; None if nothing is published."""
        return read_manifest(self.path)

    @property
    def is_published(self) -> bool:
        return (self.path / MANIFEST).is_file()

    def files(self) -> list[Path]:
        """The Parquet files, in the order in which they are read."""
        return sorted(self.path.glob("*.parquet"))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a published partition in memory, by default with all columns."""
        tables = [pq.read_table(file, columns=columns, partitioning=None) for file in self.files()]
        return pa.concat_tables(tables)

    def current_inputs(self) -> dict[str, str]:
        """The present fingerprints of the partition's inputs, by their keys. The registry declares the input tables.

        Raw files, the model and settings are not included; the jobs that read them add them.
        """
        declared = TABLES[self.table]
        inputs: dict[str, str] = {}
        for table in declared.history:
            days = (day for day in self.lake.days(table, self.dataset) if day <= self.day)
            inputs |= self.lake.fingerprints(table, self.dataset, days)
        for table in declared.same_day:
            inputs |= self.lake.fingerprints(table, self.dataset, [self.day])
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
        manifest = self.manifest
        if manifest is None:
            raise UserError(
                f"no {self.table} for {self.dataset} on {self.day} in {self.lake.root}: "
                "run the day first (make backfill, or make run)"
            )
        registered = TABLES.get(self.table)
        audited_with = registered.audited_with if registered else ()
        days = (self.day, UNDATED)
        related = (self.lake[table, self.dataset, day].manifest for table in audited_with for day in days)
        for audited in (manifest, *filter(None, related)):
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
        rows: int,
        inputs: Mapping[str, str],
        code: str,
        spec_version: str | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Manifest:
        """Move a staged folder of data files into place, with its manifest, in one step."""
        _drop_sidecars(staged)
        manifest = Manifest(
            table=self.table,
            dataset=self.dataset,
            ds=self.day,
            rows=rows,
            fingerprint=content_fingerprint(staged),
            inputs=dict(sorted(inputs.items())),
            code_version=code,
            spec_version=spec_version,
            counts=dict(counts or {}),
        )
        (staged / MANIFEST).write_text(manifest.to_json())
        for path in (*staged.iterdir(), staged):
            make_durable(path)
        swap_into_place(staged, self.path)
        return manifest


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


def _drop_sidecars(folder: Path) -> None:
    """Remove the files that Spark adds to its data files: _SUCCESS and checksum files."""
    for path in folder.iterdir():
        if path.name == "_SUCCESS" or path.name.endswith(".crc"):
            path.unlink()
