"""Fit the feature spec on the training users of a range of days; published under the range's last day.

python -m jobs.build_feature_spec --dataset kuairand --lake lake [--from DAY] [--to DAY] [--this-code]

Reads the tables `exposures` and `steps`. A spec that was fitted on the same rows is left alone.
"""

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.history.feature_selection import fit_spec
from jobs.history.feature_statistics import ReadSteps
from jobs.history.training_steps import read_training_steps
from lakehouse.arguments import (
    add_day_range,
    add_lake,
    add_this_code,
    dataset_of,
    dataset_parser,
    day_range_of,
    lake_of,
    required_code_of,
)
from lakehouse.arrow_types import stored_schema
from lakehouse.code_version import code_version
from lakehouse.feature_specs import store_spec
from lakehouse.lake import Lake
from lakehouse.published_days import exposure_days, stale_days
from lakehouse.reading import consistent_read
from lakehouse.storage.scratch import work_folder
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables import EXPOSURES, FEATURE_SPEC, STEPS
from schemas.tables.feature_spec import FEATURE_SPEC_TABLE, FeatureSpec

PENALTY = 0.5  # s of equation 3, the paper's constant
MAX_ACTIONS = 100  # a larger policy would have a few exposures to learn each channel from; Open Bandit has 80


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    add_day_range(parser)
    add_this_code(parser)
    args = parser.parse_args()
    dataset, lake, code = dataset_of(args), lake_of(args), required_code_of(args, "jobs")
    days = exposure_days(lake, dataset, *day_range_of(args))

    partition = lake[FEATURE_SPEC, dataset, days[-1]]
    inputs = partition.current_inputs() | {"fitted_from": days[0]}
    manifest = partition.manifest
    if manifest and manifest.is_fresh(inputs, spec_version=manifest.spec_version, this_code=code):
        print(f"feature spec {dataset.name} {manifest.spec_version}: fresh, left alone")
        return
    lake.require_writable()
    spec = fit(lake, dataset, days, code)
    _publish(lake, dataset, spec, days, inputs)
    dropped = [f for f in spec.features if not f.kept]
    print(
        f"feature spec {dataset.name} {spec.version}: {len(spec.kept_features)} features kept, {len(dropped)} dropped"
    )
    for feature in dropped:
        print(f"  dropped {feature.name}: {feature.reason}")


def fit(lake: Lake, dataset: Dataset, days: list[str], required_code: str | None) -> FeatureSpec:
    """The spec of the training users' steps on these days.

    required_code: the code version that must have built the steps, None for any. Raises UserError for steps that are
    missing or stale.
    """
    partitions = [lake[table, dataset, day] for table in (EXPOSURES, STEPS) for day in days]
    with consistent_read(partitions):
        _require_steps(lake, dataset, days, required_code)
        read = partial(read_training_steps, lake, dataset, days)
        actions = actions_of(dataset, _channels(read), days)
        return fit_spec(read, dataset, actions, days[0], days[-1], PENALTY)


def _require_steps(lake: Lake, dataset: Dataset, days: list[str], required_code: str | None) -> None:
    for day in days:
        lake[EXPOSURES, dataset, day].require()
    inputs = lake.history_inputs(EXPOSURES, dataset, days)
    if stale := stale_days(lake, STEPS, dataset, inputs, this_code=required_code):
        raise UserError(
            f"the steps of {dataset.name} on {stale[0]} in {lake.root} are missing or stale: run build_sequences first "
            "(make run)"
        )
    for day in days:
        lake[STEPS, dataset, day].require()


def _channels(read: ReadSteps) -> list[str]:
    names = {name for rows in read(["channel"]) for name in pc.unique(rows.column("channel")).to_pylist()}
    return sorted(names - {None})


def actions_of(dataset: Dataset, channels: Sequence[str], days: Sequence[str]) -> list[str]:
    """The channels that a policy chooses among: as listed in the contract, else those of the training users, by name.

    channels: those in the exposures of training users on these days. Raises UserError for fewer than two and for more
    than MAX_ACTIONS.
    """
    names_in_log = [channel for channel in channels if not dataset.channels or channel in dataset.channels]
    span = f"from {days[0]} to {days[-1]}"
    if len(names_in_log) < 2:
        in_log = (
            f"all exposures of training users {span} are in the channel {names_in_log[0]!r}"
            if names_in_log
            else f"no exposure of a training user {span} has a channel"
        )
        raise UserError(
            f"{dataset.name}: {in_log}, and a policy needs at least 2 channels: choose days with more channels, or "
            "another channel in the contract"
        )
    actions = list(dataset.channels) or names_in_log
    if len(actions) > MAX_ACTIONS:
        raise UserError(
            f"{dataset.name}: {len(actions)} channels {span}, and a policy chooses among {MAX_ACTIONS} at most: choose "
            "a coarser channel in the contract, or list the channels to choose among in its `channels`"
        )
    return actions


def _publish(lake: Lake, dataset: Dataset, spec: FeatureSpec, days: list[str], inputs: dict[str, str]) -> None:
    store_spec(lake, spec)
    rows = [{c: getattr(feature, c) for c in FEATURE_SPEC_TABLE.column_names} for feature in spec.features]
    with work_folder() as work:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=stored_schema(FEATURE_SPEC_TABLE)),
            work / "part-0.parquet",
            write_page_checksum=True,
        )
        lake[FEATURE_SPEC, dataset, days[-1]].publish(
            work, inputs=inputs, code=code_version("jobs"), spec_version=spec.version
        )


if __name__ == "__main__":
    exit_with_one_line(main)
