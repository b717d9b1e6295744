"""One row per user, as of the end of day ds: the latest steps, and everything that is known for the next step.

A partition has the users whose journey changed on ds: with an exposure, or with a late gain that became known. Every
eighth day it has all users with an exposure so far (lakehouse.journeys, which reads all users as of a day). `memory` is
a list of the latest steps, oldest first. `next_step` has the inputs of a step at the end of the day: the nightly
scoring predicts from it, and the journeys of the next day continue from it. Its context columns (hour, ...) repeat the
values of the latest exposure, because those of the next exposure are not known yet.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique
from schemas.steps import MEMORY_STEPS, next_step_type, profile_inputs, session_type, step_type
from schemas.tables import JOURNEYS


def _times_type(dataset: Dataset) -> str:
    return "struct<" + ", ".join(f"`{g}`: bigint" for g in dataset.gain_names) + ">"


def journeys(dataset: Dataset) -> Table:
    # Quoted: a log may call a gain `order`.
    over_all_channels = [f'next_step."seen_{g}" <= next_step.seen_exposures' for g in dataset.gain_names]
    by_channel = " AND ".join(f'c."{g}" <= c.exposures' for g in dataset.gain_names)
    in_each_channel = f"list_bool_and(list_transform(next_step.seen_by_channel, lambda c: {by_channel}))"
    gains_covered = " AND ".join([*over_all_channels, f"coalesce({in_each_channel}, true)"])
    return Table(
        name=JOURNEYS,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            *profile_inputs(dataset),
            Column("memory", f"array<{step_type(dataset)}>", f"the latest {MEMORY_STEPS} steps, oldest first"),
            Column("next_step", next_step_type(dataset), "inputs of a step at the end of the day"),
            Column("seen_cost_nano", "bigint", "cost known so far, in 1e-9 of the log's unit (exact in any order)"),
            Column(
                "seen_sums",
                "array<struct<name: string, micro: bigint, count: bigint>>",
                "sum of each number that has a running mean, in millionths, and how many are in it",
            ),
            Column(
                "last_gain_at_ms",
                _times_type(dataset),
                "when each gain last became known; null if it never did",
            ),
            Column(
                "session",
                session_type(dataset),
                "the session of the latest exposure: how many exposures it has, when it began, the seen_ counts then",
            ),
            Column(
                "pending",
                "array<struct<known_at_ms: bigint, channel: string, gain: string>>",
                "gains of past exposures that become known after ds, in order of time",
            ),
        ),
        key=("user_id",),
        expectations=(
            unique("user_id", rationale="one user, one policy"),
            between(
                "steps", low=1, high=MEMORY_STEPS, rationale="a journey has at least one exposure and a bounded memory"
            ),
            holds("in_order", rationale="a journey out of order teaches the model to look ahead"),
            holds("counts_all", rationale="history counts must cover at least the remembered exposures"),
            holds("no_step_twice", rationale="an exposure remembered twice is one that never happened"),
            holds(
                "no_gain_without_exposure",
                rationale="more clicks than exposures, in all or in a channel, are clicks on nothing",
            ),
        ),
        audit_duckdb_sql=f"""
            WITH flat AS (
              SELECT user_id, next_step.seen_exposures AS seen,
                     {gains_covered} AS no_gain_without_exposure,
                     list_max(list_transform(memory, lambda s: s.exposed_at_ms)) AS newest_ms,
                     list_min(list_transform(pending, lambda p: p.known_at_ms)) AS next_known_ms,
                     list_transform(memory, lambda s: {{'t': s.exposed_at_ms, 'i': s.exposure_id}}) AS stamps
              FROM partition)
            SELECT user_id, newest_ms, next_known_ms, len(stamps) AS steps, stamps = list_sort(stamps) AS in_order,
                   seen >= len(stamps) AS counts_all, no_gain_without_exposure,
                   coalesce(len(list_distinct(stamps)) = len(stamps), true) AS no_step_twice
            FROM flat""",
    )
