"""What a day of exposures looks like, in counts: how its columns, channels and gains are spread.

A profile is made once of a published day and kept as LAKE/day_profiles/dataset=<name>/<ds>.json. Audits and drift
compare profiles, so a day is read once however many days it is compared with, and profiles of several days add up.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import duckdb

from jobs.quality.ddl import duckdb_type
from jobs.quality.partition_view import opened
from lakehouse.lake import Lake
from lakehouse.staging import write_to_lake
from schemas.contract import Column, Known, Role
from schemas.dataset import Dataset
from schemas.steps import known_after_columns
from schemas.tables import EXPOSURES

MISSING = ""  # under this value a column's missing values are counted, and exposures of no known channel
MOST_VALUES = 5_000  # of a category are counted one by one, the commonest first; the rest together
REST = "\x00rest"
# Numbers are counted in buckets that are the same on every day: four to a doubling, from a millionth on.
_BUCKET = """
CASE WHEN {x} IS NULL OR NOT isfinite({x}) THEN ''
     ELSE CAST(CAST(sign({x}) * greatest(0, floor(4 * log2(greatest(abs({x}), 1e-6) * 1e6)) + 1) AS BIGINT) AS VARCHAR)
END"""
_FORMAT = 2  # of the file; a profile of another one is made again


@dataclass(frozen=True, slots=True)
class DayProfile:
    """Counts of one day, or of several together.

    columns: for each feature column its values (a category's text, a number's bucket, MISSING, REST) and how many
    exposures have them; of a user's profile, how many users. gains: exposures with the gain known by the end of their
    own day, so that days compare whose late gains have had unlike times to come. gain_users: users with such a gain,
    by whom chance is judged, since one user's exposures are no independent draws.
    """

    exposures: int
    users: int
    columns: dict[str, dict[str, int]]
    channels: dict[str, int]
    gains: dict[str, int]
    gain_users: dict[str, int]

    def missing_share(self, column: str) -> float:
        counts = self.columns[column]
        return counts.get(MISSING, 0) / max(sum(counts.values()), 1)


def profiled_columns(dataset: Dataset) -> tuple[Column, ...]:
    """The columns that the model may read: as they are, or of the exposures before."""
    brought = (c for c in known_after_columns(dataset) if c.name != "channel")  # channels are counted apart
    return (*dataset.features(Known.BEFORE), *dataset.features(Known.BEFORE, static=True), *brought)


def profile_of(lake: Lake, dataset: Dataset, day: str) -> DayProfile | None:
    """The profile of a published day, made if it is not there or the day has changed; None for a day without rows."""
    manifest = lake[EXPOSURES, dataset, day].manifest
    if manifest is None or manifest.rows == 0:
        return None
    file = lake.day_profiles(dataset) / f"{day}.json"
    made_of = _made_of(dataset, manifest.fingerprint)
    try:
        kept = json.loads(file.read_text())
        if kept.pop("made_of") == made_of:
            return DayProfile(**kept)
    except FileNotFoundError:
        pass
    with opened(lake[EXPOSURES, dataset, day].path) as connection:
        profile = measure(connection, dataset, dataset.end_of_day_ms(day))
    write_to_lake(lake, file, json.dumps({"made_of": made_of, **asdict(profile)}, ensure_ascii=False) + "\n")
    return profile


def together(profiles: Iterable[DayProfile]) -> DayProfile | None:
    """The sum of the days' counts (a user counts once a day); None of no days."""
    days = list(profiles)
    if not days:
        return None
    columns: dict[str, Counter[str]] = {}
    for day in days:
        for name, counts in day.columns.items():
            columns.setdefault(name, Counter()).update(counts)
    channels, gains, gain_users = Counter[str](), Counter[str](), Counter[str]()
    for day in days:
        channels.update(day.channels)
        gains.update(day.gains)
        gain_users.update(day.gain_users)
    return DayProfile(
        sum(d.exposures for d in days), sum(d.users for d in days), {n: dict(c) for n, c in columns.items()},
        dict(channels), dict(gains), dict(gain_users),
    )  # fmt: skip


def measure(connection: duckdb.DuckDBPyConnection, dataset: Dataset, end_ms: int) -> DayProfile:
    """The profile of the view `partition`. end_ms: the first millisecond after the day, UTC."""
    static = [c for c in profiled_columns(dataset) if c.static]
    of_users = ", ".join(f'max("{c.name}") AS "{c.name}"' for c in static)
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE users AS SELECT user_id{", " if static else ""}{of_users} FROM "partition"'
        " GROUP BY user_id"
    )
    known = [f"{_known_sql(dataset, gain)} <= {end_ms - 1}" for gain in dataset.gain_names]
    tests = [f'FILTER ("{g}" = 1 AND {k})' for g, k in zip(dataset.gain_names, known, strict=True)]
    gains = "".join(f", count(*) {test}, count(DISTINCT user_id) {test}" for test in tests)
    row = connection.execute(f'SELECT count(*), (SELECT count(*) FROM users){gains} FROM "partition"').fetchall()[0]
    return DayProfile(
        exposures=int(row[0]),
        users=int(row[1]),
        columns={c.name: _counts(connection, c, "users" if c.static else '"partition"')
                 for c in profiled_columns(dataset)},
        channels=_counted(connection, 'coalesce("channel", \'\')', '"partition"'),
        gains=dict(zip(dataset.gain_names, map(int, row[2::2]), strict=True)),
        gain_users=dict(zip(dataset.gain_names, map(int, row[3::2]), strict=True)),
    )  # fmt: skip


def _known_sql(dataset: Dataset, gain: str) -> str:
    return f'"{dataset.late_gain_times[gain]}"' if gain in dataset.late_gains else "exposed_at_ms"


def _counts(connection: duckdb.DuckDBPyConnection, column: Column, source: str) -> dict[str, int]:
    if column.role is Role.NUMERIC and duckdb_type(column.dtype) != "VARCHAR":
        return _counted(connection, _BUCKET.format(x=f'CAST("{column.name}" AS DOUBLE)'), source)
    return _counted(connection, f"coalesce(CAST(\"{column.name}\" AS VARCHAR), '')", source)


def _counted(connection: duckdb.DuckDBPyConnection, value: str, source: str) -> dict[str, int]:
    rows = connection.execute(
        f"SELECT {value} AS v, count(*) AS n FROM {source} GROUP BY v ORDER BY n DESC, v"
    ).fetchall()
    counts = dict(rows[:MOST_VALUES])
    if rest := sum(n for _, n in rows[MOST_VALUES:]):
        counts[REST] = rest
    return counts


def _made_of(dataset: Dataset, fingerprint: str) -> str:
    columns = [(c.name, c.dtype, c.role.value, c.static) for c in profiled_columns(dataset)]
    told = json.dumps([_FORMAT, MOST_VALUES, columns, dataset.gain_names, fingerprint])
    return hashlib.sha256(told.encode()).hexdigest()[:32]
