"""A day's profile: how its exposures are distributed over the values of each column, the channels and the gains.

A profile is computed once per published day and stored as LAKE/<name>/day_profiles/<ds>.json. Audits and drift
compare profiles, so the rows of a day are read only once. Profiles of several days can be added.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import duckdb

from lakehouse.duckdb_types import duckdb_type
from lakehouse.duckdb_view import open_view
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from schemas.contract import Column, Known, Role, quoted_name
from schemas.dataset import Dataset
from schemas.steps import known_after_columns
from schemas.tables import EXPOSURES

MISSING = ""  # counts a column's missing values, and exposures without a known channel
MOST_VALUES = 5_000  # values of a category that are counted one by one, the most frequent first
REMAINING = "\x00rest"  # counts all other values of a category
# Numbers are counted in buckets that are the same on every day: four for each doubling, starting at a millionth.
_BUCKET = """
CASE WHEN {x} IS NULL OR NOT isfinite({x}) THEN ''
     ELSE CAST(CAST(sign({x}) * greatest(0, floor(4 * log2(greatest(abs({x}), 1e-6) * 1e6)) + 1) AS BIGINT) AS VARCHAR)
END"""
_FORMAT = 2  # of the file; a profile in another format is computed again


@dataclass(frozen=True, slots=True)
class DayProfile:
    """Counts of one day, or the sums over several days.

    columns: for each feature column, the number of exposures with each value. A value is the text of a category, the
    bucket of a number, MISSING or REMAINING. Columns of a user's profile count users.
    gains: the number of exposures whose gain was known by the end of the day of the exposure. Otherwise an older day,
    whose late gains had more time to become known, could not be compared with a newer one.
    gain_users: the number of users with such a gain. Chance is judged by users, because the exposures of one user are
    not independent of each other.
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
    """The columns that the model may read, of the exposure itself or of earlier ones. Channels are counted apart."""
    earlier_columns = (column for column in known_after_columns(dataset) if column.name != "channel")
    return (*dataset.features(Known.BEFORE), *dataset.features(Known.BEFORE, static=True), *earlier_columns)


def day_profile(lake: Lake, dataset: Dataset, day: str) -> DayProfile | None:
    """The profile of a published day, computed if it is not stored or the day has changed; None if the day is empty."""
    exposures = lake[EXPOSURES, dataset, day]
    manifest = exposures.manifest
    if manifest is None or manifest.rows == 0:
        return None
    file = lake.day_profiles(dataset) / f"{day}.json"
    version = _version(dataset, manifest.fingerprint)
    try:
        stored = json.loads(file.read_text())
        if stored.pop("made_of") == version:
            return DayProfile(**stored)
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, AttributeError):
        print(f"{file} is damaged: made again")
    with open_view(exposures) as connection:
        profile = compute_profile(connection, dataset, dataset.end_of_day_ms(day))
    write_whole(file, json.dumps({"made_of": version, **asdict(profile)}, ensure_ascii=False) + "\n")
    return profile


def sum_of_profiles(profiles: Iterable[DayProfile]) -> DayProfile | None:
    """The sum of the days' counts, in which a user counts once per day; None without a day."""
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


def compute_profile(connection: duckdb.DuckDBPyConnection, dataset: Dataset, end_ms: int) -> DayProfile:
    """The profile of the exposures in the view `partition`. end_ms: the first millisecond after the day, UTC."""
    static = [c for c in profiled_columns(dataset) if c.static]
    user_columns = ", ".join(f'max("{c.name}") AS "{c.name}"' for c in static)
    connection.execute(
        f'CREATE OR REPLACE TEMP TABLE users AS SELECT user_id{", " if static else ""}{user_columns} FROM "partition"'
        " GROUP BY user_id"
    )
    is_known = [f"{_known_at(dataset, gain)} <= {end_ms - 1}" for gain in dataset.gain_names]
    filters = [f'FILTER ("{g}" = 1 AND {k})' for g, k in zip(dataset.gain_names, is_known, strict=True)]
    gains = "".join(f", count(*) {gained}, count(DISTINCT user_id) {gained}" for gained in filters)
    row = connection.execute(f'SELECT count(*), (SELECT count(*) FROM users){gains} FROM "partition"').fetchall()[0]
    return DayProfile(
        exposures=int(row[0]),
        users=int(row[1]),
        columns={c.name: _column_counts(connection, c, "users" if c.static else '"partition"')
                 for c in profiled_columns(dataset)},
        channels=_value_counts(connection, 'coalesce("channel", \'\')', '"partition"'),
        gains=dict(zip(dataset.gain_names, map(int, row[2::2]), strict=True)),
        gain_users=dict(zip(dataset.gain_names, map(int, row[3::2]), strict=True)),
    )  # fmt: skip


def _known_at(dataset: Dataset, gain: str) -> str:
    """The column with the time at which a gain becomes known, in ms."""
    return quoted_name(dataset.late_gain_times[gain]) if gain in dataset.late_gains else "exposed_at_ms"


def _column_counts(connection: duckdb.DuckDBPyConnection, column: Column, source: str) -> dict[str, int]:
    if column.role is Role.NUMERIC and duckdb_type(column.dtype) != "VARCHAR":
        return _value_counts(connection, _BUCKET.format(x=f'CAST("{column.name}" AS DOUBLE)'), source)
    return _value_counts(connection, f"coalesce(CAST(\"{column.name}\" AS VARCHAR), '')", source)


def _value_counts(connection: duckdb.DuckDBPyConnection, expression: str, source: str) -> dict[str, int]:
    """The number of rows of a table or view with each value of an expression, the most frequent value first."""
    rows = connection.execute(
        f"SELECT {expression} AS v, count(*) AS n FROM {source} GROUP BY v ORDER BY n DESC, v"
    ).fetchall()
    counts = dict(rows[:MOST_VALUES])
    if remaining := sum(n for _, n in rows[MOST_VALUES:]):
        counts[REMAINING] = remaining
    return counts


def _version(dataset: Dataset, fingerprint: str) -> str:
    """A digest of everything that a profile follows from: a profile with another digest is computed again."""
    columns = [(c.name, c.dtype, c.role.value, c.static) for c in profiled_columns(dataset)]
    settings = json.dumps([_FORMAT, MOST_VALUES, columns, dataset.gain_names, fingerprint])
    return hashlib.sha256(settings.encode()).hexdigest()[:32]
