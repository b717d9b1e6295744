"""Facts in which a table must agree with the other tables of its day, and with how its rows were made."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import duckdb

from jobs.quality.chance import share_margin
from jobs.quality.facts import Fact, limit_fact
from jobs.quality.partition_counts import (
    exposures_by_channel,
    label_count,
    largest_user,
    misplaced_rows,
    most_frequent_reasons,
    new_user_count,
    row_count,
    steps_not_labelled_once,
    unknown_user_rows,
    users_per_split,
)
from lakehouse.feature_specs import stored_spec
from lakehouse.journeys import count_users
from lakehouse.lake import Partition
from lakehouse.manifest import Manifest
from lakehouse.published_days import newest_fresh_day
from schemas import tables
from schemas.dataset import Dataset
from schemas.days import UNDATED, day_before
from schemas.errors import UserError
from schemas.quality import Quality
from schemas.splits import SHARES
from schemas.tables import EXPOSURES, JOURNEYS, QUARANTINE, STEPS
from schemas.tables.feature_spec import FeatureSpec

_MOST_NAMED = 3  # channels in a fact


def manifest_count_facts(partition: Partition, dataset: Dataset, manifest: Manifest) -> Iterator[Fact]:
    """Facts of this table that follow from manifests, and from the number of users with a journey."""
    match partition.table:
        case tables.EXPOSURES:
            yield from _no_lost_rows(partition, dataset, manifest)
            counts = manifest.counts
            yield from _few_quarantined_rows(partition, dataset, counts.get("quarantined", 0), counts.get("rows_in", 0))
            yield _few_duplicates(manifest, dataset.quality)
        case tables.QUARANTINE if partition.day == UNDATED:
            yield from _few_quarantined_rows(partition, dataset, manifest.rows, manifest.counts.get("rows_in", 0))
        case (
            tables.CHANNEL_POLICIES
            | tables.USER_REWARD_RANKS
            | tables.USER_EMBEDDINGS
            | tables.TASK_PREDICTIONS
            | tables.FUSION_WEIGHTS
            | tables.BUDGET_PLAN
        ):
            users = count_users(partition.lake, dataset, partition.day)
            yield Fact(
                "expect_every_user_to_be_scored", manifest.rows, users,
                "There is one row for each user of the day's journeys.", "no user may go missing unnoticed",
            )  # fmt: skip


def exposure_facts(connection: duckdb.DuckDBPyConnection, quality: Quality) -> Iterator[Fact]:
    """`exposures` on its own: no single user has most of the rows."""
    rows = row_count(connection)
    if not rows:
        return
    user, users_rows, users = largest_user(connection)
    limit = quality.one_user
    is_met = users < quality.min_users or users_rows <= limit.value * rows
    fact = limit_fact(
        "expect_no_user_to_have_most_rows", is_met, f"{users_rows:,} of {rows:,}", f"at most {limit.value:.0%}",
        f"No user has more than {limit.value:.0%} of the day's exposures.", limit,
    )  # fmt: skip
    yield fact if is_met else replace(fact, examples=(f"user_id {user}",))


def new_channels_fact(exposures: Mapping[str, int], quality: Quality, channels: tuple[str, ...]) -> Fact:
    """Few of the day's exposures have a channel that the feature spec does not know.

    As a label, such an exposure counts for the gains alone. exposures: their number by channel, most first. channels:
    those of the spec.
    """
    new, total = {name: count for name, count in exposures.items() if name not in channels}, sum(exposures.values())
    limit, count = quality.new_channels, sum(new.values())
    fact = limit_fact(
        "expect_channels_to_be_known_to_the_model", count <= limit.value * total, f"{count:,} of {total:,}",
        f"at most {limit.value:.0%}",
        f"No more than {limit.value:.0%} of the day's exposures have a channel that the feature spec does not know.",
        limit,
    )  # fmt: skip
    return replace(
        fact, examples=tuple(f"{name}: {number:,} exposures" for name, number in [*new.items()][:_MOST_NAMED])
    )


def sequence_facts(
    connection: duckdb.DuckDBPyConnection, partition: Partition, dataset: Dataset, spec: FeatureSpec | None
) -> Iterator[Fact]:
    """`sequences` compared with the day's exposures, steps and journeys: its labels, its users and their splits.

    spec: the feature spec of the model that reads the windows, None without a spec.
    """
    exposures, steps, journeys = (partition.lake[name, dataset, partition.day] for name in (EXPOSURES, STEPS, JOURNEYS))
    if spec is not None and exposures.files():
        yield new_channels_fact(exposures_by_channel(connection, exposures), dataset.quality, spec.channels)
    yield _labels_fact(connection, partition, dataset)
    count = steps_not_labelled_once(connection, exposures, steps)
    yield Fact(
        "expect_labels_to_be_steps_of_the_day", count, 0,
        "Each step of the day except the first of a journey is a label of exactly one window, and no other step is.",
        "a label is read by its place in the journey, where another step would have other inputs", rows=count,
    )  # fmt: skip
    if journeys.files():  # a range of days may have journeys only for its last days
        count = unknown_user_rows(connection, journeys.read_together())
        yield Fact(
            "expect_users_to_have_a_journey", count, 0, "Every user with a window has a journey on that day.",
            "windows of users without a journey were built from the rows of another day", rows=count,
        )  # fmt: skip
    yield _split_shares_fact(connection, dataset.quality)


def row_order_fact(partition: Partition) -> Fact:
    """`steps` have the exposures of the day in the order of `exposures`."""
    count = misplaced_rows(partition, partition.lake[EXPOSURES, partition.dataset, partition.day])
    return Fact(
        "expect_rows_to_be_those_of_exposures", count, 0,
        "Row k of each file has the exposure of row k of that file of exposures.",
        "the inputs of one exposure would be read with the outcome of another", rows=count,
    )  # fmt: skip


def sidecar_fact(connection: duckdb.DuckDBPyConnection, partition: Partition) -> Fact:
    """The spec that a partition of `feature_spec` names keeps the same features as the rows of the table."""
    kept_in_rows = dict(connection.execute('SELECT name, kept FROM "partition"').fetchall())
    manifest = partition.manifest
    try:
        spec = stored_spec(partition.lake, partition.dataset, str(manifest and manifest.spec_version))
        kept_in_file = {feature.name: feature.kept for feature in spec.features}
        names = sorted(kept_in_file.keys() | kept_in_rows.keys())
        observed = ", ".join(name for name in names if kept_in_file.get(name) != kept_in_rows.get(name))
    except UserError as error:
        observed = str(error)
    return Fact(
        "expect_sidecar_to_agree_with_rows", observed or "none", "none",
        "No feature differs between the stored spec and the table's rows.",
        "people read the table, the model reads the file",
    )  # fmt: skip


def _no_lost_rows(partition: Partition, dataset: Dataset, manifest: Manifest) -> Iterator[Fact]:
    counts = {name: manifest.counts.get(name, "not stated") for name in ("rows_in", "duplicates", "quarantined")}
    # Only datasets with separate rows of outcomes state this count.
    outcomes = manifest.counts.get("outcomes", 0)
    total = manifest.rows + outcomes + sum(n for name, n in counts.items() if name != "rows_in" and isinstance(n, int))
    yield Fact(
        "expect_rows_in_to_be_accounted_for", total, counts["rows_in"],
        "Raw rows in = exposures + duplicates + outcomes + quarantined rows.", "no raw row may be lost silently",
    )  # fmt: skip
    quarantine = partition.lake[QUARANTINE, dataset, partition.day].manifest
    yield Fact(
        "expect_quarantine_to_hold_the_refused_rows", quarantine.rows if quarantine else 0, counts["quarantined"],
        "The day's quarantine has as many rows as the manifest states.", "a quarantined row must stay readable",
    )  # fmt: skip


def _few_quarantined_rows(partition: Partition, dataset: Dataset, quarantined: int, rows_in: int) -> Iterator[Fact]:
    """Two limits, of which a day exceeds at most one. quarantined: the number of quarantined rows."""
    quality, observed = dataset.quality, f"{quarantined:,} of {rows_in:,}"
    limit, critical_limit = quality.refused_rows, quality.mostly_refused
    is_usable = quarantined <= critical_limit.value * rows_in
    is_within_limit = quarantined <= max(limit.value * rows_in, quality.negligible_rows)
    reasons = () if is_within_limit else most_frequent_reasons(partition.lake[QUARANTINE, dataset, partition.day])
    for name, is_met, expected, broken_limit in (
        ("expect_most_rows_to_be_usable", is_usable, f"at most {critical_limit.value:.0%}", critical_limit),
        ("expect_few_rows_to_be_refused", is_within_limit or not is_usable, f"at most {limit.value:.0%}", limit),
    ):
        sentence = f"No more than {broken_limit.value:.0%} of the raw rows are in quarantine."
        fact = limit_fact(name, is_met, observed, expected, sentence, broken_limit)
        yield fact if is_met else replace(fact, examples=reasons)


def _few_duplicates(manifest: Manifest, quality: Quality) -> Fact:
    duplicates, rows_in = manifest.counts.get("duplicates", 0), manifest.counts.get("rows_in", 0)
    limit = quality.duplicates
    return limit_fact(
        "expect_few_rows_to_be_duplicates", duplicates <= max(limit.value * rows_in, quality.negligible_rows),
        f"{duplicates:,} of {rows_in:,}", f"at most {limit.value:.0%}",
        f"No more than {limit.value:.0%} of the raw rows are duplicates.", limit,
    )  # fmt: skip


def _labels_fact(connection: duckdb.DuckDBPyConnection, partition: Partition, dataset: Dataset) -> Fact:
    """The windows of a day have as many labels as the day has exposures, without each user's first exposure.

    Users with earlier exposures are read from yesterday's journeys or, if these are missing or stale, from the earlier
    exposures.
    """
    lake, day = partition.lake, partition.day
    exposures = lake[EXPOSURES, dataset, day]
    earlier_days = [earlier for earlier in lake.days(EXPOSURES, dataset) if earlier < day]
    if newest_fresh_day(lake, JOURNEYS, dataset, day) == (yesterday := day_before(day)):
        earlier_users = lake[JOURNEYS, dataset, yesterday].read_together()
    else:
        earlier_users = [lake[EXPOSURES, dataset, earlier] for earlier in earlier_days]
    exposures_manifest = exposures.manifest
    expected = 0
    if exposures_manifest is not None:
        expected = exposures_manifest.rows - new_user_count(connection, exposures, earlier_users)
    return Fact(
        "expect_label_count_to_equal_exposures", label_count(connection), expected,
        "There are as many labels as exposures of the day, without each user's first exposure.",
        "every exposure after a user's first must be a label exactly once",
    )  # fmt: skip


def _split_shares_fact(connection: duckdb.DuckDBPyConnection, quality: Quality) -> Fact:
    limit, users = quality.split_shares, users_per_split(connection)
    total = sum(users.values())
    deviations = []
    for split, share in SHARES.items():
        margin = limit.value + share_margin(share, total)
        if total >= quality.min_split_users and abs(users.get(split, 0) / total - share) > margin:
            deviations.append(f"{split} {users.get(split, 0) / total:.0%}")
    return limit_fact(
        "expect_split_shares_to_be_as_declared", not deviations, f"{', '.join(deviations)} of {total:,} users",
        ", ".join(f"{split} {share:.0%}" for split, share in SHARES.items()),
        f"Each split's share of the users is within {limit.value:.0%} of the declared share, plus a margin for chance.",
        limit,
    )  # fmt: skip
