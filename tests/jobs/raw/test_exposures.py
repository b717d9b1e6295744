"""Duplicates among ordered rows are recognised across batches."""

import pyarrow as pa
import pytest

from jobs.raw.exposures import without_duplicates


@pytest.mark.parametrize("batch_rows", [1, 2, 10])
def test_duplicates_are_recognised_in_batches_of_any_size(batch_rows):
    rows = pa.table({
        "user_id": ["ann", "ann", "ann", "ann", "bob", "bob"],
        "exposed_at_ms": [1, 1, 1, 2, 2, 2],
        "exposure_id": [7, 7, 7, 7, 7, 8],
        "value": [1, 2, 3, 4, 5, 6],
    })  # fmt: skip
    exposures = pa.concat_tables(without_duplicates(iter(rows.to_batches(batch_rows))))
    assert exposures["value"].to_pylist() == [1, 4, 5, 6]
