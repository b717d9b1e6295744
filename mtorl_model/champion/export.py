"""Files about a champion for other programs: the feature spec that its windows must be cut with, and its name."""

from pathlib import Path

from lakehouse.files import write_whole
from lakehouse.model_tables import DEFAULT_METHOD
from mtorl_model.champion.registry import Registry
from schemas.tables.feature_spec import MODEL_SPEC_FILE

VERSION_FILE = "version.txt"


def export_champion(registry: Registry, out: Path) -> str:
    """Write the two files and return the champion's version. Raises UserError if there is no champion."""
    version = registry.champion()
    write_whole(out / MODEL_SPEC_FILE, registry.spec_of(version).to_json() + "\n")
    write_whole(out / VERSION_FILE, version.name + "\n")
    return version.name


def export_for_daily_run(registry: Registry) -> None:
    """Export to the folder that the daily run and `make status` read; call it after every change of the champion.

    The daily run cuts each day's sequences once, with the feature spec of the default method's champion. Champions of
    other methods are not exported.
    """
    if registry.method == DEFAULT_METHOD:
        export_champion(registry, registry.lake.table("champion", registry.dataset))
