"""What others need of a champion: the feature spec that its windows must be cut with, and its name."""

from pathlib import Path

from lakehouse.paths import Lake
from lakehouse.publishing import write_whole
from mtorl_model.champion.registry import champion, version_spec
from schemas.dataset import Dataset
from schemas.tables.feature_spec import MODEL_SPEC_FILE

VERSION_FILE = "version.txt"


def export_champion(lake: Lake, dataset: Dataset, out: Path) -> str:
    """Write the two files and return the champion's version. Raises UserError where there is no champion."""
    version = champion(lake, dataset)
    write_whole(out / MODEL_SPEC_FILE, version_spec(lake, dataset, version).to_json() + "\n")
    write_whole(out / VERSION_FILE, version.name + "\n")
    return version.name


def hand_out(lake: Lake, dataset: Dataset) -> None:
    """Export to where the daily run and `make status` look: for whatever makes another version the champion."""
    export_champion(lake, dataset, lake.table("champion", dataset.name))
