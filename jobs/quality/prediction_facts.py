"""Facts of predictions for all users: their means are near the rates of the day."""

from collections.abc import Iterator, Mapping
from math import exp, sqrt

import duckdb

from jobs.quality.audit_results import ABOUT_COLUMNS
from jobs.quality.chance import STANDARD_ERRORS
from jobs.quality.day_profile import day_profile
from jobs.quality.facts import Fact, limit_fact
from jobs.quality.partition_counts import means
from lakehouse.duckdb_view import open_view
from lakehouse.lake import Lake
from schemas.contract import quoted_name
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES
from schemas.tables.channel_policies import FROM_MODEL


def prediction_facts(connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, day: str) -> Iterator[Fact]:
    """For `user_reward_ranks`: the mean prediction of each gain; gains that become known late are left out.

    No facts for a day without exposures, or where no user was scored by the model.
    """
    profile = day_profile(lake, dataset, day)
    if profile:
        gained = {gain: profile.gains[gain] for gain in dataset.gain_names if gain not in dataset.late_gains}
        yield from _mean_facts(connection, dataset, gained, profile.exposures, f"source = '{FROM_MODEL}'")


def task_facts(connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, day: str) -> Iterator[Fact]:
    """For `task_predictions`: the mean chance of each task; tasks that become known late are left out.

    No facts for a day without exposures.
    """
    tasks = {task: gains for task, gains in dataset.tasks.items() if not set(gains) & set(dataset.late_gains)}
    exposures = lake[EXPOSURES, dataset, day]
    if not tasks or exposures.manifest is None or not exposures.manifest.rows:
        return
    sums = ", ".join(f"sum({' * '.join(map(quoted_name, gains))})" for gains in tasks.values())
    with open_view(exposures) as exposures_connection:
        counts = exposures_connection.execute(f'SELECT {sums} FROM "partition"').fetchall()[0]
    gained = dict(zip(tasks, map(int, counts), strict=True))
    yield from _mean_facts(connection, dataset, gained, exposures.manifest.rows, "true")


def _mean_facts(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, gained: Mapping[str, int], exposures: int, condition: str
) -> Iterator[Fact]:
    """The mean of each predicted_<name> compared with the share of exposures that gained it.

    condition: of the rows that count, in SQL.
    """
    limit, predictions = (
        dataset.quality.mean_prediction,
        means(connection, [f"predicted_{g}" for g in gained], condition),
    )
    for name, count in gained.items():
        if f"predicted_{name}" not in predictions:
            continue
        predicted, users = predictions[f"predicted_{name}"]
        # Half a gain more on each side keeps a rate of 0 comparable.
        ratio = (predicted * users + 0.5) / (users + 1) / ((count + 0.5) / (exposures + 1))
        bound = limit.value * exp(STANDARD_ERRORS * sqrt(1 / (count + 1) + 1 / (predicted * users + 1)))
        yield limit_fact(
            f"expect_mean_prediction_to_be_near_observed(predicted_{name})", 1 / bound <= ratio <= bound,
            f"mean {predicted:.3f}, observed {count / exposures:.3f}", f"within a factor of {limit.value:g}",
            f"The mean prediction of {name} is within a factor of {limit.value:g} of the day's rate, plus a margin for "
            "chance.",
            limit, ABOUT_COLUMNS,
        )  # fmt: skip
