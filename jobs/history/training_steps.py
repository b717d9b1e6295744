"""The steps of training users with the columns of their exposures, a part of a file at a time; without Spark."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import pyarrow as pa

from features.user_splits import rows_of_split
from lakehouse.lake import Lake
from lakehouse.reading import read_tables, rechunk
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.splits import TRAIN
from schemas.tables import EXPOSURES, STEPS
from schemas.tables.steps import steps

_ROWS_PER_READ = 65_536
_KEY = "exposure_id"
_NO_ROWS = pa.table({_KEY: pa.array([], pa.int64())})


def read_training_steps(
    lake: Lake, dataset: Dataset, days: Sequence[str], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Rows with these columns of `exposures` and `steps`. Other users are left out before anything is computed.

    Raises UserError if the two tables of a day have other exposures or another order.
    """
    derived = {column.name for column in steps(dataset).columns} - {_KEY}
    step_names = [_KEY, *(name for name in columns if name in derived)]
    exposure_names = list(dict.fromkeys([_KEY, "user_id", *(name for name in columns if name not in derived)]))
    for day in days:
        exposure_tables, step_tables = (
            rechunk(read_tables([lake[table, dataset, day]], names, _ROWS_PER_READ), _ROWS_PER_READ)
            for table, names in ((EXPOSURES, exposure_names), (STEPS, step_names))
        )
        for exposures, derived_inputs in zip_longest(exposure_tables, step_tables, fillvalue=_NO_ROWS):
            if not exposures.column(_KEY).equals(derived_inputs.column(_KEY)):
                raise UserError(
                    f"{lake[STEPS, dataset, day].path} does not match the exposures of that day: build it again "
                    "(make run)"
                )
            for name in step_names[1:]:
                exposures = exposures.append_column(name, derived_inputs.column(name))
            yield rows_of_split(exposures, TRAIN).select(list(columns))
