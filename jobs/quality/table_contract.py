"""From a table's name to its contract."""

from pathlib import Path

from lakehouse.paths import Lake
from schemas.contract import Table
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.tables import (
    budget_plan,
    channel_allocation,
    channel_policies,
    exposures,
    feature_spec,
    journeys,
    prequential,
    promotions,
    quarantine,
    sequences,
    user_reward_ranks,
)
from schemas.tables.feature_spec import SPEC_FILE, FeatureSpec, latest_spec

TABLES = (
    exposures.NAME,
    quarantine.NAME,
    journeys.NAME,
    feature_spec.NAME,
    sequences.NAME,
    channel_policies.NAME,
    user_reward_ranks.NAME,
    channel_allocation.NAME,
    budget_plan.NAME,
    prequential.NAME,
    promotions.NAME,
)


def table_contract(
    name: str, dataset: Dataset, lake: Lake, spec: FeatureSpec | None = None, steps: int = sequences.DEFAULT_STEPS
) -> Table:
    """The contract of a table; a UserError for an unknown name.

    spec (default: the newest published one) and steps say what the columns and windows of `sequences` are.
    """
    match name:
        case exposures.NAME:
            return exposures.exposures(dataset)
        case quarantine.NAME:
            return quarantine.QUARANTINE
        case journeys.NAME:
            return journeys.journeys(dataset)
        case feature_spec.NAME:
            return feature_spec.FEATURE_SPEC
        case sequences.NAME:
            return sequences.sequences(dataset, spec or latest_spec(lake, dataset.name)[0], steps)
        case channel_policies.NAME:
            return channel_policies.channel_policies(dataset)
        case user_reward_ranks.NAME:
            return user_reward_ranks.user_reward_ranks(dataset)
        case channel_allocation.NAME:
            return channel_allocation.channel_allocation(dataset)
        case budget_plan.NAME:
            return budget_plan.budget_plan(dataset)
        case prequential.NAME:
            return prequential.prequential(dataset)
        case promotions.NAME:
            return promotions.PROMOTIONS
        case _:
            raise UserError(f"unknown table '{name}': choose one of {', '.join(TABLES)}")


def spec_of_version(lake: Lake, dataset: str, version: str | None) -> FeatureSpec:
    """The published feature spec of that version, or the newest where there is none (any more)."""
    for day in reversed(lake.days(feature_spec.NAME, dataset)):
        spec = FeatureSpec.from_json((lake.partition(feature_spec.NAME, dataset, day) / SPEC_FILE).read_text())
        if spec.version == version:
            return spec
    return latest_spec(lake, dataset)[0]


def spec_in_file(path: Path) -> FeatureSpec:
    """The feature spec in a JSON file, or a UserError."""
    try:
        return FeatureSpec.from_json(path.read_text())
    except (FileNotFoundError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no feature spec: {error}") from error
