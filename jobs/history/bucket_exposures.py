"""The exposures of one bucket of users, read from the files of its days, and cut into chunks of whole users."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from features.columns import Ints, numbers_in_order
from features.user_chunk import DS
from jobs.spark.coded_text import with_coded_text
from lakehouse.arrow_types import in_schema, stored_schema
from lakehouse.storage.data_files import read_file
from lakehouse.storage.delta_table import DataFile
from lakehouse.storage.store_path import located
from schemas.contract import Known
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.steps import known_after_columns, outcome_columns, profile_inputs
from schemas.tables.exposures import exposures

CHUNK_ROWS = 20_000  # a chunk of users ends with the user who brings it to this number of exposures
MAX_ROWS_OF_A_USER = 2_000_000  # all rows of a user are computed together, and each takes several kilobytes


def facts_of_exposures(dataset: Dataset) -> list[str]:
    """The columns of `exposures` that steps are computed from."""
    columns = (*outcome_columns(dataset), *known_after_columns(dataset), *dataset.features(Known.BEFORE))
    names = ("user_id", *(c.name for c in (*columns, *profile_inputs(dataset))))
    return list(dict.fromkeys((*names, *filter(None, [dataset.sessions.column]))))


def exposures_of_bucket(folder: str, files: Mapping[str, DataFile], dataset: Dataset) -> pa.Table:
    """facts_of_exposures and ds of these files, by user, time and exposure_id. files: of each day.

    Raises UserError for a user with more than MAX_ROWS_OF_A_USER exposures.
    """
    return in_order(exposures_of_days(folder, files, dataset, facts_of_exposures(dataset)))


def exposures_of_days(folder: str, files: Mapping[str, DataFile], dataset: Dataset, columns: Sequence[str]) -> pa.Table:
    """These columns of the files, and ds. Texts but the user's are codes. files: of each day."""
    stored, path = stored_schema(exposures(dataset)), located(folder)
    schema = with_coded_text(pa.schema([stored.field(name) for name in columns]), plain=("user_id",))
    texts = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    tables = [schema.empty_table().append_column(DS, pa.nulls(0, pa.string()))]
    for day, file in files.items():
        rows = in_schema(read_file(path, file, schema.names, coded=texts), schema)
        tables.append(rows.append_column(DS, pa.repeat(day, len(rows))))
    return pa.concat_tables(tables).unify_dictionaries()


def in_order(rows: pa.Table) -> pa.Table:
    """Exposures by user, time and exposure_id. Raises UserError for a user with more than MAX_ROWS_OF_A_USER."""
    user_N = numbers_in_order(rows.column("user_id"))
    if len(rows) and np.bincount(user_N).max() > MAX_ROWS_OF_A_USER:
        user_id = rows.column("user_id")[int(np.argmax(user_N == np.bincount(user_N).argmax()))]
        raise UserError(
            f"user {user_id} has more than {MAX_ROWS_OF_A_USER:,} exposures in days that are computed together: an id "
            "that stands for many people has no journey; refuse it in the dataset's contract (refusals)"
        )
    keys = [rows.column(name).to_numpy() for name in ("exposure_id", "exposed_at_ms")]
    return rows.take(pa.array(np.lexsort((*keys, user_N))))


def whole_users(rows: pa.Table) -> Iterator[pa.Table]:
    """Exposures that are in order, in chunks of whole users."""
    user_N = numbers_in_order(rows.column("user_id"))
    for users in user_spans(np.bincount(user_N)):
        yield rows.slice(*rows_of(users, user_N))


def user_spans(exposures_U: Ints, journeys_U: Ints | None = None, max_journeys: int = 0) -> Iterator[range]:
    """Consecutive users in spans of about CHUNK_ROWS exposures. exposures_U: how many each user has.

    journeys_U: how many earlier journeys each user has, 0 or 1; a span has at most max_journeys of them.
    """
    exposures_so_far_U, start = np.cumsum(exposures_U), 0
    while start < len(exposures_U):
        earlier_exposures = exposures_so_far_U[start] - exposures_U[start]
        stop = int(np.searchsorted(exposures_so_far_U, earlier_exposures + CHUNK_ROWS)) + 1
        if journeys_U is not None:
            stop = min(stop, start + int(np.searchsorted(np.cumsum(journeys_U[start:stop]), max_journeys, "right")))
        yield range(start, min(stop, len(exposures_U)))
        start = stop


def rows_of(users: range, user_N: Ints) -> tuple[int, int]:
    """Start and length of these users' rows. user_N: in ascending order."""
    start, stop = np.searchsorted(user_N, (users.start, users.stop))
    return int(start), int(stop - start)
