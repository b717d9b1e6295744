"""The three files of a study or a search: its rows, its picture, and what it was; all of them or none."""

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
    lake: Lake, dataset: Dataset, name: str, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any],
    draw: Callable[[Path], None],
) -> list[Path]:  # fmt: skip
    """Write NAME.csv (the rows, of which there is one at least), NAME.svg (by `draw`) and NAME.json; their paths."""
    files = [lake.studies(dataset) / f"{name}.{kind}" for kind in ("csv", "svg", "json")]
    with staging_folder(lake) as staged:
        parts = [staged / file.name for file in files]
        with parts[0].open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        draw(parts[1])
        parts[2].write_text(json.dumps(told, indent=1) + "\n")
        replace_files(parts, files)
    return files
