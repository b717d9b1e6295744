"""Facts of `user_reward_ranks`: the mean predictions are near the rates of the day."""

from collections.abc import Iterator
from math import exp, sqrt

import duckdb

from jobs.quality.audit_results import ABOUT_COLUMNS
from jobs.quality.chance import STANDARD_ERRORS
from jobs.quality.day_profile import day_profile
from jobs.quality.facts import Fact, limit_fact
from jobs.quality.partition_counts import means
from lakehouse.lake import Lake
from schemas.dataset import Dataset
from schemas.tables.channel_policies import FROM_MODEL


def prediction_facts(connection: duckdb.DuckDBPyConnection, lake: Lake, dataset: Dataset, day: str) -> Iterator[Fact]:
    """The model's mean prediction of each gain compared with the day's rate; gains that become known late are left out.

    No facts for a day without exposures, or where no user was scored by the model.
    """
    profile, limit = day_profile(lake, dataset, day), dataset.quality.mean_prediction
    gains = [gain for gain in dataset.gain_names if gain not in dataset.late_gains]
    predictions = means(connection, [f"predicted_{gain}" for gain in gains], f"source = '{FROM_MODEL}'")
    for gain in gains if profile else []:
        if f"predicted_{gain}" not in predictions:
            continue
        predicted, users = predictions[f"predicted_{gain}"]
        gained = profile.gains[gain]
        observed = gained / profile.exposures
        # Half a gain more on each side keeps a rate of 0 comparable.
        ratio = (predicted * users + 0.5) / (users + 1) / ((gained + 0.5) / (profile.exposures + 1))
        bound = limit.value * exp(STANDARD_ERRORS * sqrt(1 / (gained + 1) + 1 / (predicted * users + 1)))
        yield limit_fact(
            f"expect_mean_prediction_to_be_near_observed(predicted_{gain})", 1 / bound <= ratio <= bound,
            f"mean {predicted:.3f}, observed {observed:.3f}", f"within a factor of {limit.value:g}",
            f"The mean prediction of {gain} is within a factor of {limit.value:g} of the day's rate, plus a margin for "
            "chance.",
            limit, ABOUT_COLUMNS,
        )  # fmt: skip
