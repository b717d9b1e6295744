"""Parquet files of candidates that a person hands in, and the files that are written from them."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.storage.files import write_whole
from schemas.errors import UserError


def read_candidate_file(path: Path) -> pa.Table:
    """The rows of a file. Raises UserError if it is missing or not a Parquet file."""
    if not path.is_file():
        raise UserError(f"{path} is not a file: name a Parquet file of candidates")
    try:
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a Parquet file: {error}") from error


def write_candidate_file(path: Path, candidates: pa.Table, added: Mapping[str, pa.Array]) -> None:
    """Write the candidates with further columns, which replace those of the same names."""
    columns = candidates.select([name for name in candidates.column_names if name not in added])
    for name, values in added.items():
        columns = columns.append_column(name, values)
    buffer = pa.BufferOutputStream()
    pq.write_table(columns, buffer)
    write_whole(path, buffer.getvalue().to_pybytes())
