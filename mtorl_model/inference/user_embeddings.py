"""Publishes the embeddings of all users (schemas/tables/user_embeddings.py), from their journeys.

They are those of the model that has scored the day, so that policies and embeddings of a day belong together.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.code_version import code_version
from lakehouse.journeys import journey_partitions, read_journeys
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.reading import ROWS_PER_READ, consistent_read, rechunk
from lakehouse.rows import ARROW_TYPES
from lakehouse.storage.scratch import work_folder
from mtorl_model.data.windows.next_steps import journey_columns
from mtorl_model.inference.user_predictions import USERS_PER_CHUNK, blocks, parallel_map, windows_by_length
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import USER_EMBEDDINGS
from schemas.tables.user_embeddings import user_embeddings

Embeddings = npt.NDArray[np.float32]


def publish_embeddings(
    lake: Lake,
    dataset: Dataset,
    day: str,
    version: str,
    load: Callable[[], Method],
    *,
    rows_per_read: int = ROWS_PER_READ,
) -> Manifest:
    """Publish `user_embeddings` of a day. version: of the model; load: returns this model, and is called if necessary.

    Embeddings that were made from the present journeys by this version stay unchanged. Raises UserError if the method
    has no embeddings or one is not finite, and Busy if the journeys are published again at the same time.
    """
    partition = lake[USER_EMBEDDINGS, dataset, day]
    journeys = journey_partitions(lake, dataset, day)
    published = partition.manifest
    if published and published.inputs == {**partition.current_inputs(), "model": version}:
        print(f"{USER_EMBEDDINGS} of {dataset.name} {day}: fresh, not made again")
        return published
    model = load()
    if not model.embedding_size:
        raise UserError(f"the method {model.name} has no user embeddings: switch them off")
    with work_folder() as staged:
        with consistent_read(journeys):
            inputs = {**partition.current_inputs(), "model": version}
            tables = read_journeys(lake, dataset, day, journey_columns(model.spec, dataset), rows_per_read)
            _write(staged / "part-0.parquet", tables, model, dataset, version, day)
        return partition.publish(
            staged, inputs=inputs, code=code_version("mtorl_model"), spec_version=model.spec.version
        )


def _write(file: Any, tables: Iterable[pa.Table], model: Method, dataset: Dataset, version: str, day: str) -> int:
    """Write the table in the order of the journeys, a chunk of users at a time; returns the number of users."""
    schema = _schema(dataset, model.embedding_size)
    users = 0
    with pq.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        for user_id, embedding_UD in embed_users(tables, model, dataset):
            if not np.isfinite(embedding_UD).all():
                raise UserError(f"model {version} has embeddings that are not finite on {day}: train it again")
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(embedding_UD.ravel()), model.embedding_size)
            origin = (pa.repeat(text, len(user_id)) for text in (version, model.spec.version, day))
            writer.write_table(pa.table([user_id, vectors, *origin], schema))
            users += len(user_id)
    return users


def embed_users(journeys: Iterable[pa.Table], model: Method, dataset: Dataset) -> Iterator[tuple[pa.Array, Embeddings]]:
    """The ids and embeddings, [U, D], of all rows of `journeys`, in their order, in chunks.

    As in scoring, the vector of a user has the same bits whichever other users there are.
    """
    encoder = model.encoder(dataset)

    def embedded(users: pa.Table) -> tuple[pa.Array, Embeddings]:
        embedding_UD = np.zeros((len(users), model.embedding_size), np.float32)
        for user_N, _, encoded in windows_by_length(users, model, encoder, dataset):
            for real_N, block in blocks(encoded, np.arange(len(user_N))):
                embedding_UD[user_N[real_N]] = model.embed_last(block)[: len(real_N)]
        return pa.concat_arrays(users.column("user_id").chunks), embedding_UD

    with model.prepared():
        yield from parallel_map(embedded, rechunk(journeys, USERS_PER_CHUNK))


def _schema(dataset: Dataset, size: int) -> pa.Schema:
    """The contract's columns; the vectors have a fixed size, so that readers get a matrix without a copy."""
    types = {**ARROW_TYPES, "array<float>": pa.list_(pa.float32(), size)}
    return pa.schema([
        pa.field(column.name, types[column.dtype], nullable=column.nullable)
        for column in user_embeddings(dataset).columns
    ])  # fmt: skip
