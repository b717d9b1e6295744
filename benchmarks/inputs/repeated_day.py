"""A lake with a large day: a small generated day whose users are repeated under other ids.

The days before it are in the lake too, as many as the audits and the drift of the large day compare it with.
"""

from pathlib import Path

from benchmarks.commands import module
from benchmarks.measure import measure
from lakehouse.duckdb_view import open_view
from lakehouse.feature_specs import latest_spec, store_spec
from lakehouse.lake import Lake
from lakehouse.manifest import DAYS_READ
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.splits import split_sql
from schemas.tables import EXPOSURES, FEATURE_SPEC, JOURNEYS, QUARANTINE, SEQUENCES, STEPS

LAYOUTS = ("kuairand", "criteo")  # the layouts that the generator can write
TABLES = (EXPOSURES, QUARANTINE, JOURNEYS, STEPS, SEQUENCES)
SMALL_ROWS, SMALL_USERS = 12_500, 2_500  # of one small day
_DAYS_NEEDED = {JOURNEYS: 2, STEPS: 1, SEQUENCES: 1}  # the latest days; of other tables all days
# DuckDB's SQL for the rows of one copy. Users get ids that no other copy has, exposures get ids next to their own, so
# that order and uniqueness stay (ids are 64-bit hashes, far apart). The users' splits change.
_USER_ID, _EXPOSURE_ID = "user_id + copy * 1000000000 AS user_id", "exposure_id + copy AS exposure_id"
_COPY_SQL = {
    EXPOSURES: f"{_USER_ID}, {_EXPOSURE_ID}",
    QUARANTINE: "reason AS reason",
    FEATURE_SPEC: "name AS name",
    JOURNEYS: f"{_USER_ID}, list_transform(memory, lambda s: struct_update(s, exposure_id := s.exposure_id + copy))"
    " AS memory",
    STEPS: _EXPOSURE_ID,
    SEQUENCES: f"{_USER_ID}, {split_sql('user_id + copy * 1000000000')} AS split",
}


def build_small_lake(folder: Path, dataset: str) -> Lake:
    """Build a lake of small days with the jobs: the last day, and the days that its drift is compared with."""
    raw, lake = folder / "raw", Lake(folder / "small")
    count = get_dataset(dataset).quality.min_trailing_days + 1
    sizes = ("--days", str(count), "--rows", str(count * SMALL_ROWS), "--users", str(SMALL_USERS))
    measure(module("jobs.generate_log", "--layout", dataset, "--out", raw, *sizes))
    flags = ("--dataset", dataset, "--lake", lake.root)
    measure(module("jobs.build_exposures", *flags, "--raw", raw))
    days = lake.days(EXPOSURES, dataset)
    for day in days[-2:]:
        measure(module("jobs.build_journeys", *flags, "--day", day))
    measure(module("jobs.build_sequences", *flags, "--from", days[0], "--to", days[-1]))
    measure(module("jobs.build_feature_spec", *flags, "--from", days[0], "--to", days[-2]))
    return lake


def repeat_users(small: Lake, large: Lake, dataset: str, copies: int) -> None:
    """Fill the large lake with copies of every user's rows, and audit all its days but the last."""
    spec, spec_day = latest_spec(small, dataset)
    store_spec(large, spec)
    _copy_rows(small, large, FEATURE_SPEC, dataset, spec_day, copies=1)
    days = small.days(EXPOSURES, dataset)
    for table in TABLES:
        for day in days[-_DAYS_NEEDED.get(table, 0) :]:
            _copy_rows(small, large, table, dataset, day, copies)
    # These write the profiles that the last day is compared with.
    flags = ("--dataset", dataset, "--lake", large.root)
    measure(module("jobs.audit_table", *flags, "--table", EXPOSURES, "--to", days[-2]))
    measure(module("jobs.measure_drift", *flags, "--to", days[-2]))


def _copy_rows(small: Lake, large: Lake, table: str, dataset: str, day: str, copies: int) -> None:
    partition, target = small[table, dataset, day], large[table, dataset, day]
    manifest = partition.require()
    with work_folder() as staged:
        with open_view(*partition.read_together()) as connection:
            rows = f'SELECT * EXCLUDE (copy) REPLACE ({_COPY_SQL[table]}) FROM "partition", range({copies}) AS c(copy)'
            connection.execute(f"COPY ({rows}) TO '{staged / 'part-0.parquet'}' (FORMAT parquet)")
        is_built_on_days = table in (JOURNEYS, STEPS, SEQUENCES)
        target.publish(
            staged,
            code=manifest.code_version,
            inputs=large[JOURNEYS, dataset, day].current_inputs() if is_built_on_days else manifest.inputs,
            spec_version=manifest.spec_version,
            counts={name: count * copies for name, count in manifest.counts.items() if name != DAYS_READ},
        )
