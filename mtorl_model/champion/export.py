"""Files about a champion for other programs: its feature spec and its name."""

from collections.abc import Sequence
from pathlib import Path

from lakehouse.feature_specs import spec_in_file
from lakehouse.lake import Lake
from lakehouse.models.versions import DEFAULT_METHOD
from lakehouse.storage.files import write_whole
from mtorl_model.champion.registry import Registry
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables.feature_spec import MODEL_SPEC_FILE

VERSION_FILE = "version.txt"


def export_champion(registry: Registry, out: Path) -> str:
    """Write the two files and return the champion's version. Raises UserError if there is no champion."""
    version = registry.champion()
    if not _is_exported(version.name, out):
        write_whole(out / MODEL_SPEC_FILE, registry.spec_of(version).to_json() + "\n")
        write_whole(out / VERSION_FILE, version.name + "\n")
    return version.name


def _is_exported(version: str, out: Path) -> bool:
    """Whether the files of that version exist. A machine that has not used the model yet need not download it."""
    try:
        spec_in_file(out / MODEL_SPEC_FILE)
        return (out / VERSION_FILE).read_text() == version + "\n"
    except (UserError, OSError, ValueError):
        return False


def export_for_daily_run(registry: Registry) -> None:
    """Export to the folder that the daily run reads; call it after every change of a champion.

    The audit of a day compares its channels with those in the feature spec of the default method's champion. In a lake
    without that champion, the spec is the one with which the other champion was trained.
    """
    lake, dataset = registry.lake, registry.dataset
    cutting = first_with_champion(lake, dataset, (DEFAULT_METHOD, registry.method))
    export_champion(cutting, lake.table("champion", dataset))


def first_with_champion(lake: Lake, dataset: Dataset, methods: Sequence[str]) -> Registry:
    """The registry of the first method that has a champion; without any champion, of the first method."""
    registries = [Registry(lake, dataset, method) for method in methods]
    return next((registry for registry in registries if registry.find_champion()), registries[0])
