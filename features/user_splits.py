"""The split of each row's user, for tables without a column `split`."""

import pyarrow as pa
import pyarrow.compute as pc

from schemas.splits import SPLITS, split_of


def split_indices(user_id: pa.ChunkedArray) -> pa.Array:
    """The index of each user's split in SPLITS."""
    encoded = user_id.combine_chunks().dictionary_encode()
    splits = pa.array([SPLITS.index(split_of(user)) for user in encoded.dictionary.to_pylist()], pa.int8())
    return splits.take(encoded.indices)


def rows_of_split(rows: pa.Table, split: str) -> pa.Table:
    """The rows of the users of a split. rows: with user_id."""
    return rows.filter(pc.equal(split_indices(rows.column("user_id")), SPLITS.index(split)))
