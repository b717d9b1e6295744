"""A lake of many days without rows: the logs and manifests of every daily table, as runs would write them.

The logs name data files that are not written, since `make status` and the maintenance of logs do not open them.
"""

import hashlib
from collections.abc import Mapping, Sequence

import pyarrow as pa

from lakehouse.lake import DS, Lake, NewDay, publish_days
from lakehouse.storage.delta_table import DataFile
from schemas.tables.registry import TABLES, RegisteredTable

DATASET = "kuairand"
_FILES_OF_SPARK, _FILE_BYTES, _FILE_ROWS = 8, 1 << 20, 10_000
_SCHEMA = pa.schema({"x": pa.int64()})


def publish_made_up_days(lake: Lake, days: Sequence[str]) -> None:
    """Publish these days in every daily table, each table in one commit, with the published partitions as inputs."""
    for table in TABLES.values():
        if table.daily:
            inputs = _inputs(lake, table, days)
            new_days = {day: NewDay(_made_up_files(table, day), inputs[day], {}) for day in days}
            publish_days(lake, table.name, DATASET, new_days, _SCHEMA, code="made up")


def _inputs(lake: Lake, table: RegisteredTable, days: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    inputs: dict[str, dict[str, str]] = {day: {} for day in days}
    for history in table.history:
        for day, named in lake.history_inputs(history, DATASET, days).items():
            inputs[day] |= named
    for same_day in table.same_day:
        for key, fingerprint in lake.fingerprints(same_day, DATASET, days).items():
            inputs[key.rpartition(f"{DS}=")[2]][key] = fingerprint
    from_raw = {day: {f"raw/log_{day}.csv": _hash(day)[:32]} for day in days}
    return inputs if table.history or table.same_day else from_raw


def _made_up_files(table: RegisteredTable, day: str) -> tuple[DataFile, ...]:
    count = _FILES_OF_SPARK if table.history or not table.same_day else 1
    names = (f"part-{k}-{_hash(f'{table.name} {day} {k}')[:32]}" for k in range(count))
    return tuple(DataFile(f"{DS}={day}/{name}.parquet", _FILE_BYTES, _FILE_ROWS) for name in names)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
