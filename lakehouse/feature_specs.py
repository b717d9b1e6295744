"""Stores and reads published feature specs."""

from pathlib import Path

from lakehouse.lake import Lake, dataset_name
from lakehouse.storage.files import read_stored, write_whole
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import FEATURE_SPEC
from schemas.tables.feature_spec import FeatureSpec

_IF_DAMAGED = "delete it, and build the spec again (python -m jobs.build_feature_spec --this-code)"


def latest_spec(lake: Lake, dataset: Dataset | str) -> tuple[FeatureSpec, str]:
    """The newest published spec of a dataset, and its day. Raises UserError if no spec exists."""
    days = lake.days(FEATURE_SPEC, dataset)
    if not days:
        raise UserError(f"no feature spec for {dataset_name(dataset)} in {lake.root}: run the history first (make run)")
    return published_spec(lake, dataset, days[-1]), days[-1]


def published_spec(lake: Lake, dataset: Dataset | str, day: str | None) -> FeatureSpec:
    """The spec of the partition `day`, the last day on which it was fitted; None: the newest spec.

    Raises UserError if the spec is not published or its audit failed.
    """
    if day is None:
        return latest_spec(lake, dataset)[0]
    manifest = lake[FEATURE_SPEC, dataset, day].require()
    return stored_spec(lake, dataset, str(manifest.spec_version))


def spec_of_version(lake: Lake, dataset: Dataset | str, version: str | None) -> FeatureSpec:
    """The stored spec of that version, or the newest published spec if that version is not stored."""
    if version is not None and lake.spec(dataset, version).is_file():
        return stored_spec(lake, dataset, version)
    return latest_spec(lake, dataset)[0]


def newest_spec(lake: Lake, dataset: Dataset | str) -> FeatureSpec | None:
    """The newest spec of a dataset, whatever its audit has decided; None before the first one."""
    days = lake.days(FEATURE_SPEC, dataset)
    manifest = lake[FEATURE_SPEC, dataset, days[-1]].manifest if days else None
    return stored_spec(lake, dataset, str(manifest.spec_version)) if manifest else None


def store_spec(lake: Lake, spec: FeatureSpec) -> None:
    """Store a spec under its version, before the partition is published whose manifest names the version."""
    write_whole(lake.spec(spec.dataset, spec.version), spec.to_json() + "\n")


def stored_spec(lake: Lake, dataset: Dataset | str, version: str) -> FeatureSpec:
    """The spec of a version. Raises UserError if its file is missing, or has other content than was stored."""
    file = lake.spec(dataset, version)
    try:
        spec = read_stored(file, FeatureSpec.from_json, _IF_DAMAGED)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing: {_IF_DAMAGED}") from error
    if spec.version != version:
        raise UserError(f"{file} is damaged (its content is version {spec.version}): {_IF_DAMAGED}")
    return spec


def spec_in_file(path: Path) -> FeatureSpec:
    """The feature spec in a JSON file. Raises UserError if the file is missing or has other content."""
    try:
        return FeatureSpec.from_json(path.read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not a feature spec: {error}") from error
