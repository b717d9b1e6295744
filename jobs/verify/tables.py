"""Checks the tables of a dataset: the logs, the data files that they name, the manifests, the feature specs."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from deltalake.exceptions import DeltaError

from jobs.verify.findings import Findings
from lakehouse.feature_specs import stored_spec
from lakehouse.lake import DS, Lake
from lakehouse.lineage import LINEAGE, editions
from lakehouse.storage.data_files import DamagedFile, file_fault
from lakehouse.storage.delta_table import FilesByValue, present_files, present_fingerprints
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.tables import FEATURE_SPEC
from schemas.tables.registry import TABLES

DamagedValues = dict[Path, FilesByValue]  # the files of values with damaged files, by the folder of their table


def check_tables(lake: Lake, dataset: Dataset, findings: Findings) -> DamagedValues:
    """Add the faults of all tables of a dataset. Reads every data file.

    Returns the partitions with damaged files that can be taken out of their tables.
    """
    damaged: DamagedValues = {}
    for folder in lake.table_folders(dataset):
        findings.counts["tables"] += 1
        try:
            files = present_files(folder)
        except (DeltaError, OSError) as error:
            findings.damage.append(
                f"the log of {folder} cannot be read ({_first_line(error)}): put its _delta_log back from a backup, or "
                "delete the folder and run its days again"
            )
            continue
        damaged[folder] = {value: files[value] for value in _damaged_values(folder, files, dataset, findings)}
    _check_manifests(lake, dataset, findings)
    _check_specs(lake, dataset, findings)
    return {folder: values for folder, values in damaged.items() if values and _can_be_built_again(folder.name)}


def _damaged_values(folder: Path, files: FilesByValue, dataset: Dataset, findings: Findings) -> Iterator[str]:
    """Adds a line for each partition value with damaged files, and yields it."""
    for value, named in files.items():
        findings.counts["files"] += len(named)
        findings.counts["bytes"] += sum(file.size for file in named)
        faults = [f"{folder / file.path} {fault}" for file in named if (fault := file_fault(folder, file))]
        if faults:
            further = f" (and {len(faults) - 1} more of these files)" if len(faults) > 1 else ""
            findings.damage.append(f"{faults[0]}{further}: {_remedy(folder.name, dataset, value)}")
            yield value


def _can_be_built_again(table: str) -> bool:
    """Not the manifests, the decisions about models, and what was measured once."""
    return table in TABLES and TABLES[table].rebuilt


def _remedy(table: str, dataset: Dataset, value: str) -> str:
    if table == LINEAGE:
        return (
            "put the file back from a backup, or an earlier version of this table (DeltaTable.restore); the days whose "
            "manifests are then missing are built again by make backfill; make verify REPAIR=1 does not change it"
        )
    if not _can_be_built_again(table):
        return "put the file back from a backup: no run can make it again, so make verify REPAIR=1 does not change it"
    return f"make verify REPAIR=1 takes the day out of the table, then {_run_again(table, dataset, value)}"


def _run_again(table: str, dataset: Dataset, value: str) -> str:
    if table == FEATURE_SPEC:
        return f"python -m jobs.build_feature_spec --dataset {dataset.name} --this-code fits it again"
    days = "" if value == UNDATED else f" FROM={value} TO={value}"
    return f"make backfill DATASET={dataset.name}{days} builds it again"


def _check_manifests(lake: Lake, dataset: Dataset, findings: Findings) -> None:
    """Every partition of a table has a manifest, and manifests can be read."""
    try:
        manifests = editions(lake.table(LINEAGE, dataset))
    except (DamagedFile, DeltaError):
        return  # reported already: lineage is one of the tables
    for table in TABLES:
        for day, fingerprint in _fingerprints(lake.table(table, dataset)).items():
            findings.counts["partitions"] += 1
            if (table, day, fingerprint) not in manifests:
                findings.damage.append(
                    f"{lake.table(table, dataset)}/{DS}={day} has no manifest and counts as not published: "
                    f"{_run_again(table, dataset, day)}"
                )


def _fingerprints(folder: Path) -> Mapping[str, str]:
    try:
        return present_fingerprints(folder)
    except (DeltaError, OSError):
        return {}


def _check_specs(lake: Lake, dataset: Dataset, findings: Findings) -> None:
    """Every stored feature spec has the content of its version, and no published spec is missing."""
    versions = {file.stem for file in lake.table("feature_specs", dataset).glob("*.json")}
    try:
        published = lake.manifests(dataset, [FEATURE_SPEC])[FEATURE_SPEC].values()
        versions |= {str(manifest.spec_version) for manifest in published}
    except (DamagedFile, DeltaError):
        pass  # reported already
    for version in sorted(versions):
        findings.check("feature specs", lambda version=version: stored_spec(lake, dataset, version))  # type: ignore[misc]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
