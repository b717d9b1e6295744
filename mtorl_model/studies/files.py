"""The three files of a study or a search: its rows, its picture, and its protocol. Readers see all of them or none."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.files import replace_files
from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
from schemas.dataset import Dataset


def publish_study(
    lake: Lake,
    dataset: Dataset,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    protocol: Mapping[str, Any],
    draw: Callable[[Path], None],
) -> list[Path]:
    """Write NAME.csv (the rows, at least one), NAME.svg (by `draw`) and NAME.json (the protocol); their paths."""
    files = [lake.studies(dataset) / f"{name}.{suffix}" for suffix in ("csv", "svg", "json")]
    with staging_folder(lake) as staging:
        csv_file, picture, json_file = staged = [staging / file.name for file in files]
        with csv_file.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        draw(picture)
        json_file.write_text(json.dumps(protocol, indent=1) + "\n")
        replace_files(staged, files)
    return files
