"""Reads published feature specs, and gives table contracts, one of which depends on a feature spec."""

from pathlib import Path

from lakehouse.lake import Lake, Partition
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import FEATURE_SPEC, SEQUENCES
from schemas.tables.feature_spec import SPEC_FILE, FeatureSpec
from schemas.tables.registry import registered
from schemas.tables.sequences import DEFAULT_STEPS


def latest_spec(lake: Lake, dataset: Dataset | str) -> tuple[FeatureSpec, Path]:
    """The newest published spec of a dataset, and the folder of its partition. Raises UserError if no spec exists."""
    days = lake.days(FEATURE_SPEC, dataset)
    if not days:
        name = dataset if isinstance(dataset, str) else dataset.name
        raise UserError(f"no feature spec for {name} in {lake.root}: run the history first (make run)")
    return published_spec(lake, dataset, days[-1]), lake[FEATURE_SPEC, dataset, days[-1]].path


def published_spec(lake: Lake, dataset: Dataset | str, day: str | None) -> FeatureSpec:
    """The spec of the partition `day`, the last day on which it was fitted; None: the newest spec.

    Raises UserError if the spec is not published or its audit failed.
    """
    if day is None:
        return latest_spec(lake, dataset)[0]
    partition = lake[FEATURE_SPEC, dataset, day]
    partition.require()
    return _read(partition)


def spec_of_version(lake: Lake, dataset: Dataset | str, version: str | None) -> FeatureSpec:
    """The published spec of that version, or the newest spec if no published spec has that version."""
    for day in reversed(lake.days(FEATURE_SPEC, dataset)):
        spec = _read(lake[FEATURE_SPEC, dataset, day])
        if spec.version == version:
            return spec
    return latest_spec(lake, dataset)[0]


def spec_in_file(path: Path) -> FeatureSpec:
    """The feature spec in a JSON file. Raises UserError if the file is missing or has other content."""
    try:
        return FeatureSpec.from_json(path.read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a feature spec: {error}") from error


def table_contract(
    name: str, dataset: Dataset, lake: Lake, spec: FeatureSpec | None = None, steps: int = DEFAULT_STEPS
) -> Table:
    """The contract of a table. Raises UserError for an unknown name.

    The columns of `sequences` depend on spec (default: the newest published spec), their length on steps.
    """
    table = registered(name)
    if name == SEQUENCES and spec is None:
        spec = latest_spec(lake, dataset)[0]
    return table.contract(dataset, spec, steps)


def _read(partition: Partition) -> FeatureSpec:
    return FeatureSpec.from_json((partition.path / SPEC_FILE).read_text())
