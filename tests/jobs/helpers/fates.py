"""All rows of a log with their fates. The jobs publish, drop and quarantine rows in separate steps."""

from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.raw.exposures import is_usable, usable_rows, without_duplicates
from schemas.dataset import Dataset

FATE = "_fate"
EXPOSURE, DUPLICATE, QUARANTINED = "exposure", "duplicate", "quarantined"


class Row(dict[str, Any]):
    """A row, whose values are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def with_fate(rows: pa.Table, dataset: Dataset) -> list[Row]:
    """The rows of jobs.raw.rows.read_rows with their FATE."""
    usable = usable_rows(rows, dataset)
    remaining = Counter(map(values, without_duplicates(usable, dataset).to_pylist()))
    fated = []
    exposure = iter(usable.to_pylist())
    for row, usable_here in zip(rows.to_pylist(), pc.fill_null(is_usable(rows), False).to_pylist(), strict=True):
        fate = QUARANTINED
        if usable_here:
            key = values(next(exposure))
            fate = EXPOSURE if remaining[key] else DUPLICATE
            remaining[key] -= remaining[key] > 0
        fated.append(Row(row, **{FATE: fate}))
    assert not remaining.total()
    return fated


def values(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.values())
