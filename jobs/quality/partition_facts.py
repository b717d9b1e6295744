"""What must hold for a partition as a whole and for its columns: facts, each beside the value it should have.

A fact is measured without loading the rows: from the manifest, the Parquet schema, and counts in DuckDB.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from math import sqrt
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from jobs.quality.audit_results import ABOUT_COLUMNS, ABOUT_PARTITION
from jobs.quality.partition_view import (
    columns_found,
    columns_wanted,
    commonest_reasons,
    data_files,
    label_count,
    new_user_count,
    null_counts,
    row_count,
    stranger_count,
    unfinite_counts,
    user_splits,
)
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest, content_fingerprint
from schemas import tables
from schemas.contract import Expectation, Severity, Table
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_before
from schemas.expectations import between
from schemas.quality import Limit, Quality
from schemas.splits import SHARES
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE
from schemas.tables.feature_spec import SPEC_FILE, FeatureSpec


@dataclass(frozen=True, slots=True)
class Fact:
    """One measured value and the one it should have. rows: how many rows break it, where it is about rows."""

    name: str  # in the style of Great Expectations, e.g. expect_column_values_to_not_be_null(cost)
    found: str | int
    wanted: str | int
    sentence: str
    why: str
    about: str = ABOUT_PARTITION
    severity: Severity = Severity.CRITICAL
    rows: int | None = None
    examples: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return self.found == self.wanted

    @property
    def observation(self) -> str:
        """The found value in words, beside the wanted one where they differ; empty where `rows` says it all."""
        if self.rows is not None:
            return ""
        found, wanted = (f"{v:,}" if isinstance(v, int) else v for v in (self.found, self.wanted))
        return found if self.holds else f"{found}, not {wanted}"


def manifest_facts(lake: Lake, table: Table, dataset: Dataset, ds: str, manifest: Manifest) -> Iterator[Fact]:
    """The manifest names this partition and describes these files."""
    partition = lake[table.name, dataset, ds].path
    yield Fact(
        "expect_manifest_to_name_the_partition",
        f"{manifest.table}/{manifest.dataset}/{manifest.ds}", f"{table.name}/{dataset.name}/{ds}",
        "The manifest names this table, dataset and day.", "a folder copied from elsewhere is not this day",
    )  # fmt: skip
    yield Fact(
        "expect_fingerprint_to_equal_manifest",
        content_fingerprint(partition)[:12], manifest.fingerprint[:12],
        "The data files have the fingerprint that the manifest states.",
        "files that changed after publishing are not what the partitions downstream were built from",
    )  # fmt: skip


def schema_facts(connection: duckdb.DuckDBPyConnection, partition: Path, table: Table) -> Iterator[Fact]:
    """Each column of the contract is there and of its type, and there is no other."""
    found, wanted = columns_found(connection, partition), columns_wanted(connection, table)
    for column in table.columns:
        got, want = _shown_types(found.get(column.name, "no such column"), wanted[column.name], column.dtype)
        yield Fact(
            f"expect_column_values_to_be_of_type({column.name})", got, want,
            f"{column.name} is there, as {column.dtype if len(column.dtype) < 60 else 'the contract types it'}.",
            "readers rely on the contract's columns and types", ABOUT_COLUMNS,
        )  # fmt: skip
    yield Fact(
        "expect_table_columns_to_be_in_contract", ", ".join(sorted(set(found) - set(wanted))) or "none", "none",
        "There is no column that the contract does not know.",
        "a column nobody declared has no rule for when it is known", ABOUT_COLUMNS, Severity.WARNING,
    )  # fmt: skip


def content_facts(connection: duckdb.DuckDBPyConnection, table: Table, manifest: Manifest) -> Iterator[Fact]:
    """The row count, and for each column: filled where the contract promises it, and finite. The schema must hold."""
    yield Fact(
        "expect_table_row_count_to_equal_manifest", row_count(connection), manifest.rows,
        "There are as many rows as the manifest states.", "rows were lost or doubled after publishing",
    )  # fmt: skip
    for name, count in null_counts(connection, [c for c in table.columns if not c.nullable]).items():
        yield Fact(
            f"expect_column_values_to_not_be_null({name})", count, 0, f"{name} is filled in every row.",
            "the contract promises a value in every row", ABOUT_COLUMNS, rows=count,
        )  # fmt: skip
    for name, count in unfinite_counts(connection, table.columns).items():
        yield Fact(
            f"expect_column_values_to_be_finite({name})", count, 0, f"{name} is never NaN or infinite.",
            "one NaN makes every mean and every loss NaN", ABOUT_COLUMNS, rows=count,
        )  # fmt: skip


def table_facts(
    lake: Lake, table: Table, dataset: Dataset, ds: str, manifest: Manifest, spec: FeatureSpec | None
) -> Iterator[Fact]:
    """What only this table must agree with: other tables. spec: what `sequences` is audited by."""
    match table.name:
        case tables.EXPOSURES:
            yield from _nothing_dropped(lake, dataset, ds, manifest)
            counts = manifest.counts
            yield from _few_refused(lake, dataset, ds, counts.get("quarantined", 0), counts.get("rows_in", 0))
            yield _few_duplicates(manifest, dataset.quality)
        case tables.QUARANTINE if ds == UNDATED:
            yield from _few_refused(lake, dataset, ds, manifest.rows, manifest.counts.get("rows_in", 0))
        case tables.SEQUENCES if spec is not None:
            yield Fact(
                "expect_feature_spec_to_be_at_hand", manifest.spec_version or "not stated", spec.version,
                "The feature spec that the windows were cut with is the one they are audited by.",
                "without its spec nobody can encode these columns",
            )  # fmt: skip
        case tables.CHANNEL_POLICIES | tables.USER_REWARD_RANKS | tables.BUDGET_PLAN:
            scored = lake[JOURNEYS, dataset, ds].manifest
            yield Fact(
                "expect_every_user_to_be_scored", manifest.rows, scored.rows if scored else 0,
                "There are as many rows as the day's journeys have users.", "no user may go missing unnoticed",
            )  # fmt: skip


def _nothing_dropped(lake: Lake, dataset: Dataset, ds: str, manifest: Manifest) -> Iterator[Fact]:
    counts = {name: manifest.counts.get(name, "not stated") for name in ("rows_in", "duplicates", "quarantined")}
    total = manifest.rows + sum(n for name, n in counts.items() if name != "rows_in" and isinstance(n, int))
    yield Fact(
        "expect_rows_in_to_be_accounted_for", total, counts["rows_in"],
        "Raw rows in = exposures + duplicates + quarantined rows.", "nothing may be dropped silently",
    )  # fmt: skip
    refused = lake[QUARANTINE, dataset, ds].manifest
    yield Fact(
        "expect_quarantine_to_hold_the_refused_rows", refused.rows if refused else 0, counts["quarantined"],
        "The day's quarantine holds as many rows as were refused.", "a refused row must stay readable",
    )  # fmt: skip


def labels_fact(
    connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, ds: str, manifest: Manifest
) -> Fact:
    """The windows of a day have as many labels as the day has exposures that are not a user's first.

    Earlier users are those of yesterday's journeys, or, where these are missing or no longer rest on the same
    exposures, of the earlier exposures that the windows were made from.
    """
    today = lake[EXPOSURES, dataset, ds]
    yesterday = lake[JOURNEYS, dataset, day_before(ds)]
    earlier_exposures = {key: fingerprint for key, fingerprint in manifest.inputs.items()
                         if key.startswith(f"{EXPOSURES}/") and Path(key).name < today.path.name}  # fmt: skip
    same = yesterday.is_fresh(earlier_exposures)
    earlier = [yesterday.path] if same else [lake.root / key for key in earlier_exposures]
    exposures = today.manifest
    return Fact(
        "expect_label_count_to_equal_exposures", label_count(connection),
        exposures.rows - new_user_count(connection, today.path, earlier) if exposures else 0,
        "There are as many labels as exposures of the day, a user's first ever left out.",
        "every exposure after a user's first is a label exactly once",
    )  # fmt: skip


def _few_refused(lake: Lake, dataset: Dataset, ds: str, refused: int, rows_in: int) -> Iterator[Fact]:
    """refused: of the raw rows that the manifest counts. Of the two rules a day breaks one at most."""
    quality, found = dataset.quality, f"{refused:,} of {rows_in:,}"
    limit, mostly = quality.refused_rows, quality.mostly_refused
    usable = refused <= mostly.value * rows_in
    few = refused <= max(limit.value * rows_in, quality.negligible_rows)
    reasons = () if few else commonest_reasons(lake[QUARANTINE, dataset, ds].path)
    for name, holds, wanted, most in (
        ("expect_most_rows_to_be_usable", usable, f"at most {mostly.value:.0%}", mostly),
        ("expect_few_rows_to_be_refused", few or not usable, f"at most {limit.value:.0%}", limit),
    ):
        sentence = f"No more than {most.value:.0%} of the raw rows were refused."
        told = verdict(name, holds, found, wanted, sentence, most)
        yield told if holds else replace(told, examples=reasons)


def _few_duplicates(manifest: Manifest, quality: Quality) -> Fact:
    copies, rows_in = manifest.counts.get("duplicates", 0), manifest.counts.get("rows_in", 0)
    limit = quality.duplicates
    return verdict(
        "expect_few_rows_to_be_duplicates", copies <= max(limit.value * rows_in, quality.negligible_rows),
        f"{copies:,} of {rows_in:,}", f"at most {limit.value:.0%}",
        f"No more than {limit.value:.0%} of the raw rows are copies of others.", limit,
    )  # fmt: skip


def verdict(
    name: str, holds: bool, found: str, wanted: str, sentence: str, limit: Limit, about: str = ABOUT_PARTITION
) -> Fact:
    """A fact that is judged here: `found` stands in it only where it does not hold."""
    return Fact(name, wanted if holds else found, wanted, sentence, limit.why, about, limit.severity)


def user_facts(connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, ds: str) -> Iterator[Fact]:
    """Of `sequences`: whose windows they are."""
    known = lake[JOURNEYS, dataset, ds].path
    if data_files(known):  # a range of days has the journeys of its last day only
        strangers = stranger_count(connection, known)
        yield Fact(
            "expect_users_to_have_a_journey", strangers, 0, "Every user with a window has a journey as of that day.",
            "windows of users whom nobody scores teach the model about a day that is not this one", rows=strangers,
        )  # fmt: skip
    users, limit = user_splits(connection), dataset.quality.split_shares
    total = sum(users.values())
    far = []
    for split, share in SHARES.items():
        luck = 3 * sqrt(share * (1 - share) / max(total, 1))
        if total >= dataset.quality.min_split_users and abs(users.get(split, 0) / total - share) > limit.value + luck:
            far.append(f"{split} {users.get(split, 0) / total:.0%}")
    yield verdict(
        "expect_split_shares_to_be_as_declared", not far, f"{', '.join(far)} of {total:,} users",
        ", ".join(f"{split} {share:.0%}" for split, share in SHARES.items()),
        f"The users' splits are within {limit.value:.0%} of their shares, chance apart.", limit,
    )  # fmt: skip


def sidecar_fact(partition: Path, connection: duckdb.DuckDBPyConnection) -> Fact:
    """The file beside a feature spec's table says the same as its rows (kept, by feature name)."""
    rows = dict(connection.execute('SELECT name, kept FROM "partition"').fetchall())
    try:
        spec = FeatureSpec.from_json((partition / SPEC_FILE).read_text())
        kept = {f.name: f.kept for f in spec.features}
        found = ", ".join(sorted(name for name in kept.keys() | rows.keys() if kept.get(name) != rows.get(name)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"unreadable: {type(error).__name__}"
    return Fact(
        "expect_sidecar_to_agree_with_rows", found or "none", "none",
        f"No feature differs between {SPEC_FILE} and the table's rows.",
        "people read the table, the model reads the file",
    )  # fmt: skip


def day_rules(table: Table, dataset: Dataset, ds: str) -> tuple[Expectation, ...]:
    """Rules that depend on the day: what a partition of that day may hold. Bounds in ms UTC."""
    if ds == UNDATED:
        return ()
    start, end = day_bounds_ms(ds, dataset.timezone)
    last = end - 1
    match table.name:
        case tables.EXPOSURES:
            why = "an exposure on another day's partition is counted there or nowhere"
            return (between("exposed_at_ms", low=start, high=last, why=why),)
        case tables.JOURNEYS:
            return (
                between("newest_ms", high=last, why="a journey as of a day knows nothing of the days after it"),
                between("next_known_ms", low=end, why="a gain already known at the end of the day is not pending"),
            )
        case tables.SEQUENCES:
            return (
                between("first_label_ms", low=start, high=last, why="the windows of a day label that day"),
                between("last_label_ms", low=start, high=last, why="the windows of a day label that day"),
            )
        case _:
            return ()


def day_bounds_ms(ds: str, timezone: str) -> tuple[int, int]:
    """The first millisecond of the day in that time zone, and the first of the next."""
    zone = ZoneInfo(timezone)
    day = date.fromisoformat(ds)
    start, end = (datetime(d.year, d.month, d.day, tzinfo=zone) for d in (day, day + timedelta(days=1)))
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def _shown_types(found: str, wanted: str, dtype: str) -> tuple[str, str]:
    """Both types as people should see them: equal if they agree, around the first difference if they are long."""
    if found == wanted:
        return dtype, dtype
    if max(len(found), len(wanted)) <= 80:
        return found, wanted
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), 0)
    start = max(0, at - 30)
    return f"...{found[start : at + 30]}...", f"...{wanted[start : at + 30]}..."
