"""A Delta table of the lake: the files of each partition value, and commits that replace them.

Data files have names that follow from their content, so equal content is an equal set of names. A commit takes place as
a whole. Each carries the same application transaction, so that of two commits from one version the second
is refused, whatever files they name; it then looks at the table again (`commit`).
"""

import json
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from lakehouse.manifest import files_fingerprint
from lakehouse.retention import RETENTION
from lakehouse.storage.files import is_local
from lakehouse.storage.store_path import store_errors
from schemas.errors import Busy, UserError

_TRANSACTION = "mtorl"  # of every commit, so that two concurrent ones conflict
_ATTEMPTS, _LONGEST_PAUSE_S = 100, 0.2
# Threads share the open tables. Without the lock, one could update a table after another has looked at its files and
# before that one commits: the two commits would not conflict.
_OPEN_TABLES_LOCK = threading.RLock()
_CONFIGURATION = {
    "delta.checkpointInterval": "20",
    "delta.deletedFileRetentionDuration": f"interval {RETENTION.replaced_files} days",
    "delta.logRetentionDuration": f"interval {RETENTION.log_entries} days",
}


class DataFile(NamedTuple):  # quicker to make than a dataclass: a long history has tens of thousands
    """A Parquet file of a table. path: below the table, for example ds=2022-04-24/part-0-1f2e....parquet."""

    path: str
    size: int  # bytes
    rows: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


FilesByValue = Mapping[str, tuple[DataFile, ...]]


class Replaced(Exception):
    """Another run has replaced the files of a partition value since the caller has looked at them."""

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__(", ".join(values))
        self.values = tuple(values)


@dataclass(frozen=True)
class _Snapshot:
    """The files that the log names at a version. Those who need only fingerprints do not wait for the list of files."""

    version: int
    column: str  # the partition column
    actions: pa.Table

    @cached_property
    def files(self) -> FilesByValue:
        files: dict[str, list[DataFile]] = defaultdict(list)
        for *file, value in sorted(self._rows("path", "size_bytes", "num_records", f"partition.{self.column}")):
            files[value].append(DataFile(*file))
        return {value: tuple(named) for value, named in files.items()}

    @cached_property
    def fingerprints(self) -> Mapping[str, str]:
        names: dict[str, list[str]] = defaultdict(list)
        for path, value in self._rows("path", f"partition.{self.column}"):
            names[value].append(path.rpartition("/")[2])
        return {value: files_fingerprint(named) for value, named in names.items()}

    def _rows(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        return zip(*(self.actions.column(column).to_pylist() for column in columns), strict=True)


@dataclass(slots=True)
class _OpenTable:
    table: DeltaTable
    snapshot: _Snapshot
    committed_ns: int  # when the version was written; another time means another table in the same folder

    @classmethod
    def read(cls, folder: Path) -> "_OpenTable":
        table = DeltaTable(str(folder), storage_options=storage_options(folder))
        return cls(table, _snapshot(table), _committed_ns(folder, table.version()))

    def update(self, folder: Path) -> None:
        self.table.update_incremental()
        if self.table.version() != self.snapshot.version:
            self.snapshot = _snapshot(self.table)
            self.committed_ns = _committed_ns(folder, self.table.version())


def present_files(folder: Path) -> FilesByValue:
    """The files of each partition value, sorted by name. Without a table the mapping is empty."""
    opened = _open(folder)
    return opened.snapshot.files if opened else {}


def present_fingerprints(folder: Path) -> Mapping[str, str]:
    """The fingerprint of each partition value's files. Without a table the mapping is empty."""
    opened = _open(folder)
    return opened.snapshot.fingerprints if opened else {}


def table_version(folder: Path) -> int:
    """The version of the table's last commit; -1 without a table."""
    opened = _open(folder)
    return opened.snapshot.version if opened else -1


def commit(
    folder: Path,
    column: str,
    new_files: FilesByValue,
    schema: pa.Schema,
    expected: Mapping[str, tuple[DataFile, ...]] | None = None,
) -> None:
    """Replace the files of these partition values in one commit. Nothing is committed if they are there already.

    column: the partition column. schema: the columns of the files. expected: the files that the caller has seen.

    Raises Replaced, and commits nothing, if the table has other files than expected and than wanted. Raises UserError
    if a column has another type in the table than in the files, and Busy if other commits have come first too often.
    """
    delta_schema = _nullable(Schema.from_arrow(schema.append(pa.field(column, pa.string()))))
    with store_errors(folder, OSError):
        _commit(folder, column, new_files, delta_schema, expected or {})


def take_out(folder: Path, files: FilesByValue) -> None:
    """Take these partition values out of the table in one commit. On the disk their files stay until vacuum.

    files: those that the caller has seen. Raises Replaced, and takes out nothing, if the table has others by now.
    """
    with store_errors(folder, OSError):
        if opened := _open(folder):
            _commit(folder, opened.snapshot.column, dict.fromkeys(files, ()), opened.table.schema(), files)


def _commit(folder: Path, column: str, new_files: FilesByValue, schema: Schema, expected: FilesByValue) -> None:
    for _ in range(_ATTEMPTS):
        with _OPEN_TABLES_LOCK:
            if _committed(folder, column, new_files, schema, expected):
                return
        time.sleep(random.uniform(0, _LONGEST_PAUSE_S))
    raise Busy(f"{folder}: other runs have committed first {_ATTEMPTS} times: run again")


def _committed(folder: Path, column: str, new_files: FilesByValue, schema: Schema, expected: FilesByValue) -> bool:
    """One attempt to commit; False if another commit has come first."""
    opened = _open(folder)
    present = opened.snapshot.files if opened else {}
    if replaced := [
        value for value, files in expected.items() if present.get(value, ()) not in (files, new_files.get(value))
    ]:
        raise Replaced(replaced)
    actions = [action for value in new_files for action in _actions(column, value, present, new_files[value])]
    if not actions:
        return True
    try:
        if opened is None:
            _create(folder, column, schema, actions)
        else:
            _merge_columns(folder, opened.table, schema)
            opened.table.create_write_transaction(
                actions, mode="append", schema=schema, partition_by=[column],
                commit_properties=_properties(opened.table.version() + 1),
            )  # fmt: skip
    except CommitFailedError:
        return False
    except DeltaError as error:
        if "object store" in str(error):  # deltalake's other requests raise OSError if the store does not answer
            raise OSError(str(error)) from error
        # The first commit of a table: another run has created it.
        if opened is not None or "already exists" not in str(error):
            raise
        return False
    return True


def storage_options(folder: Path) -> dict[str, str]:
    """Options of the object store. Endpoint and credentials come from the environment, by the names of its library."""
    if not str(folder).startswith("s3://"):
        return {}
    is_plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
    return {"aws_conditional_put": "etag"} | ({"aws_allow_http": "true"} if is_plain else {})


def _open(folder: Path) -> _OpenTable | None:
    """The table in its present version; None without a table."""
    with _OPEN_TABLES_LOCK, store_errors(folder, OSError):
        return _opened(folder)


def _opened(folder: Path) -> _OpenTable | None:
    uri, tables = str(folder), _open_tables(os.getpid())
    opened = tables.get(uri)
    if opened is not None and opened.committed_ns == _committed_ns(folder, opened.snapshot.version):
        opened.update(folder)
        return opened
    try:
        tables[uri] = _OpenTable.read(folder)
    except TableNotFoundError:
        tables.pop(uri, None)
    return tables.get(uri)


@cache
def _open_tables(process: int) -> dict[str, _OpenTable]:
    """The tables that this process has opened. process: its id.

    A fork of a process that has opened a table cannot open any (`deltalake` refuses it): start a new interpreter.
    """
    return {}


def _committed_ns(folder: Path, version: int) -> int:
    """When the version of a local table was committed; 0 in an object store, or if the log has a checkpoint instead."""
    if not is_local(folder):  # a second table in the folder of a deleted one goes unnoticed there
        return 0
    try:
        return (folder / "_delta_log" / f"{version:020d}.json").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _snapshot(table: DeltaTable) -> _Snapshot:
    (column,) = table.metadata().partition_columns
    # pa.table would load pandas, to see whether it is given a DataFrame.
    actions = pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()
    return _Snapshot(table.version(), column, actions)


def _actions(
    column: str, value: str, present: FilesByValue, new_files: Sequence[DataFile]
) -> list[AddAction | RemoveAction]:
    now_ms = int(time.time() * 1000)
    partition: dict[str, str | None] = {column: value}
    present_by_path, new_by_path = (
        {file.path: file for file in files} for files in (present.get(value, ()), new_files)
    )
    removed = [
        RemoveAction(path, True, now_ms, file.size, partition)
        for path, file in present_by_path.items()
        if path not in new_by_path
    ]
    added = [
        AddAction(path, file.size, partition, now_ms, True, json.dumps({"numRecords": file.rows}))
        for path, file in new_by_path.items()
        if present_by_path.get(path) != file
    ]
    return [*removed, *added]


def _create(folder: Path, column: str, schema: Schema, actions: Sequence[AddAction | RemoveAction]) -> None:
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)
    create_table_with_add_actions(
        str(folder), schema, [action for action in actions if isinstance(action, AddAction)], mode="error",
        partition_by=[column], configuration=_CONFIGURATION, storage_options=storage_options(folder),
        commit_properties=_properties(0),
    )  # fmt: skip


def _properties(version: int) -> CommitProperties:
    return CommitProperties(app_transactions=[Transaction(_TRANSACTION, version)])


def _merge_columns(folder: Path, table: DeltaTable, schema: Schema) -> None:
    """Add columns, and fields of nested columns, that the table does not have.

    Raises UserError if a column, or a field of one, has another type.
    """
    present = {column["name"]: column["type"] for column in json.loads(table.schema().to_json())["fields"]}
    added: list[dict[str, Any]] = []
    for column in json.loads(schema.to_json())["fields"]:
        name = column["name"]
        try:
            merged = _merged_type(present[name], column["type"]) if name in present else column["type"]
        except ValueError as error:
            raise UserError(
                f"{folder}: the column {name} cannot be stored ({error}): give the lake another folder with LAKE=, and "
                "run the history again (make run)"
            ) from error
        if merged != present.get(name):
            added.append({**column, "type": merged})
    if added:
        table.alter.add_columns(Schema.from_json(json.dumps({"type": "struct", "fields": added})).fields)


def _merged_type(present: Any, new: Any) -> Any:
    """A type of Delta's JSON with the fields of both. Raises ValueError if they differ in more than fields."""
    if present == new:
        return present
    if isinstance(present, str) or isinstance(new, str) or present["type"] != new["type"]:
        raise ValueError(f"it has the type {_short(present)} and would become {_short(new)}")
    if present["type"] == "array":
        return {**present, "elementType": _merged_type(present["elementType"], new["elementType"])}
    if present["type"] == "map":
        return {**present, **{key: _merged_type(present[key], new[key]) for key in ("keyType", "valueType")}}
    fields = {present_field["name"]: present_field for present_field in present["fields"]}
    for added in new["fields"]:
        known_field = fields.get(added["name"])
        merged = _merged_type(known_field["type"], added["type"]) if known_field else added["type"]
        fields[added["name"]] = {**added, "type": merged}
    return {**present, "fields": list(fields.values())}


def _short(delta_type: Any) -> str:
    return delta_type if isinstance(delta_type, str) else str(delta_type["type"])


def _nullable(schema: Schema) -> Schema:
    """The schema with every field nullable: the contract's audit checks for missing values, not the format."""
    return Schema.from_json(json.dumps(_with_nulls(json.loads(schema.to_json()))))


def _with_nulls(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    flags = {"nullable", "containsNull", "valueContainsNull"}
    return {key: True if key in flags else _with_nulls(value) for key, value in node.items()}
