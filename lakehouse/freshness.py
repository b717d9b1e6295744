"""Whether a partition still matches what it was built from: its manifest's inputs beside what lies there now.

A partition is fresh where its manifest states exactly the inputs that a build of today would read, and the same
feature spec. Which inputs a table has is told here, once, for the jobs that build it and for `make status`. No
date and no time of a file is compared: a table that is built again with the same content leaves all that
stands behind it fresh.

The code is no input: a new release would otherwise rewrite the whole history in the next backfill, unasked. The
manifest names it, `make status` counts what other code has built, and `this_code` asks for it: so does `make run`.
"""

from collections.abc import Iterable, Mapping

from lakehouse.paths import Lake
from lakehouse.publishing import Manifest, read_manifest
from schemas.tables import channel_allocation, channel_policies, exposures, journeys, user_reward_ranks

SCORES = (channel_policies.NAME, user_reward_ranks.NAME, channel_allocation.NAME)  # published together, of one model


def fingerprints(lake: Lake, table: str, dataset: str, days: Iterable[str]) -> dict[str, str]:
    """The inputs entry of a manifest: the fingerprint of each published partition, by its path below the lake."""
    return {
        str(lake.partition(table, dataset, day).relative_to(lake.root)): manifest.fingerprint
        for day in days
        if (manifest := read_manifest(lake.partition(table, dataset, day))) is not None
    }


def history_inputs(lake: Lake, dataset: str, day: str) -> dict[str, str]:
    """What the journeys and the sequences of a day rest on: all exposures up to that day, however they were folded."""
    days = lake.days(exposures.NAME, dataset)
    return fingerprints(lake, exposures.NAME, dataset, (d for d in days if d <= day))


def scored_inputs(lake: Lake, dataset: str, day: str) -> dict[str, str]:
    """What the policies and ranks of a day rest on, the model apart: that day's journeys."""
    return fingerprints(lake, journeys.NAME, dataset, [day])


def planned_inputs(lake: Lake, dataset: str, day: str) -> dict[str, str]:
    """What the budget plan of a day rests on, the budget apart: that day's scores and journeys."""
    read = (*SCORES, journeys.NAME)
    return {path: found for table in read for path, found in fingerprints(lake, table, dataset, [day]).items()}


def is_fresh(
    found: Manifest | None,
    inputs: Mapping[str, str],
    *,
    spec_version: str | None = None,
    this_code: str | None = None,
) -> bool:
    """Whether a partition with this manifest can stay as it is. this_code: the version it must be built by, if any."""
    return (
        found is not None
        and found.inputs == dict(inputs)
        and found.spec_version == spec_version
        and this_code in (None, found.code_version)
    )
