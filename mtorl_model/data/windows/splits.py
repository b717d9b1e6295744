"""The windows of one split of users as a model reads them, and the days whose windows can be read."""

from collections.abc import Container, Iterable, Iterator

import pyarrow as pa

from lakehouse.lake import Lake
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.windows.reading import read_windows
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import SEQUENCES


def split_windows(
    lake: Lake,
    dataset: Dataset,
    days: Iterable[str],
    split: str,
    encoder: Encoder,
    *,
    with_times: bool,
    parts: Container[str] | None = None,
) -> Iterator[pa.Table]:
    """A split's windows of the given days as padded lists, with the columns that `predict_labels` reads.

    with_times: add the columns that a LabelCutoff needs. parts: see window_parts.
    """
    columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
    columns += encoder.time_columns if with_times else ()
    yield from read_windows(lake, dataset, list(days), columns, encoder.spec.channels, split, parts)


def days_with_windows(lake: Lake, dataset: Dataset, first: str | None, last: str | None) -> list[str]:
    """The days from first to last (None: no limit) that have sequences.

    Prints a line for each day whose sequences cannot be used.
    """
    usable = []
    for day in (d for d in lake.days(SEQUENCES, dataset) if (first or d) <= d <= (last or d)):
        try:
            lake[SEQUENCES, dataset, day].require()
            usable.append(day)
        except UserError as reason:  # a broken day in the past must not stop the work of this day
            print(f"left out: {reason}")
    return usable
