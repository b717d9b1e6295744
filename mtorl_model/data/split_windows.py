"""The windows of one split of users, and the days whose windows were cut with a certain feature spec."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.data.encoding import Encoder
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import SEQUENCES


def split_windows(
    lake: Lake, dataset: Dataset, days: Iterable[str], split: str, encoder: Encoder, *, with_times: bool
) -> Iterator[pa.Table]:
    """A split's windows of the given days, one table for each file, with the columns that `predict_labels` reads.

    with_times: add the columns that a LabelCutoff needs.
    """
    columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
    columns += encoder.time_columns if with_times else ()
    partitions = [lake[SEQUENCES, dataset, day] for day in days]
    for table in read_tables(partitions, dict.fromkeys(columns)):
        yield table.filter(pc.equal(table.column("split"), split))


def days_cut_with(lake: Lake, dataset: Dataset, spec_version: str, first: str | None, last: str | None) -> list[str]:
    """The days from first to last (None: no limit) whose sequences were cut with that feature spec.

    Prints a line for each day whose sequences cannot be used.
    """
    matching = []
    for day in (d for d in lake.days(SEQUENCES, dataset) if (first or d) <= d <= (last or d)):
        try:
            if lake[SEQUENCES, dataset, day].require().spec_version == spec_version:
                matching.append(day)
        except UserError as reason:  # a broken day in the past must not stop the work of this day
            print(f"left out: {reason}")
    return matching
