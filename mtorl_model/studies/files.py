"""The three files of a study or a search: its rows, its picture, and its protocol. Readers see all of them or none."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from lakehouse.storage.scratch import work_folder
from mtorl_model.evaluation.bootstrap import Floats, estimate
from mtorl_model.studies.variants import REFERENCE
from schemas.dataset import Dataset

COLUMNS = (
    "variant", "at", "figure", "value", "low", "high", "difference", "difference_low", "difference_high",
)  # fmt: skip


def study_row(variant: str, at: float | None, figure: str, value_R: Floats, reference_R: Floats) -> dict[str, Any]:
    """A row of a study's CSV; the reference has no differences.

    at: the variant's place on the axis of a curve. value_R, reference_R: a figure of it and of the reference, followed
    by its replicates (evaluation/bootstrap.py).
    """
    value, difference = estimate(value_R), estimate(value_R - reference_R)
    differences = (None,) * 3 if variant == REFERENCE else tuple(difference.values())
    return dict(zip(COLUMNS, (variant, at, figure, *value.values(), *differences), strict=True))


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
    with work_folder() as staging:
        csv_file, picture, json_file = staged = [staging / file.name for file in files]
        with csv_file.open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        draw(picture)
        json_file.write_text(json.dumps(protocol, indent=1) + "\n")
        files[-1].unlink(missing_ok=True)  # it states that the others are complete
        for written, target in zip(staged, files, strict=True):
            write_whole(target, written.read_bytes())
    return files
