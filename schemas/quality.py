"""What a day of a dataset must look like, alone and beside other days, and how far it may drift: its thresholds.

A dataset contract holds one `Quality`; what it does not say is as here. What a table must be whatever the dataset
(keys, sums, vocabularies, policies that differ between users) stands with the table's contract in `schemas/tables/`.
docs/quality.md tells what follows from a threshold that is broken.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.contract import DuckDbSql, Severity


@dataclass(frozen=True, slots=True)
class RowRule:
    """A statement about a single exposure that is true of every row, or of nearly every row.

    name: the column that the audit computes from duckdb_sql; it reads as the statement that holds.
    duckdb_sql: a boolean expression over the columns of `exposures`.
    min_share: the statement must be true in at least this share of the rows.
    """

    name: str
    duckdb_sql: DuckDbSql
    why: str
    min_share: float = 1.0
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Limit:
    """A number that a figure may reach, and why it matters if it goes beyond."""

    value: float
    why: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Quality:
    """The thresholds of a dataset. A share is from 0 to 1; a ratio is the larger of two values over the smaller.

    rows: what holds in each exposure of this dataset, beside the rules that every dataset has.
    most_missing: the largest share of missing values of a column that is usual, where a person knows it; any other
    column is compared with its own trailing days.
    excused: days that are known to be unlike others, each with its reason: only what would be a critical difference
    from the trailing days is a warning there.
    uncompared: columns whose values say which day it is, so that two days always differ, each with its reason.
    """

    rows: tuple[RowRule, ...] = ()
    most_missing: Mapping[str, float] = field(default_factory=dict)
    excused: Mapping[str, str] = field(default_factory=dict)
    uncompared: Mapping[str, str] = field(default_factory=dict)

    # The exposures of a day alone.
    rare_gains: float = 0.001  # the mean of the dataset's first gain, at least
    frequent_gains: Limit = Limit(0.95, "a day without or full of gains points at a broken feed")
    unknown_channels: Limit = Limit(0.1, "an exposure of unknown channel is never a label")
    mostly_refused: Limit = Limit(0.5, "what is left of a changed feed stands for nothing", Severity.CRITICAL)

    # A day beside its trailing days: the median of those days of the latest `trailing_days` that hold rows.
    trailing_days: int = 14
    enough_days: int = 3  # with fewer, a day is compared with nothing
    lost_rows: Limit = Limit(
        0.1,
        "a day with a tenth of its usual rows is a broken delivery: journeys would lack the rest; if it is really so, "
        "excuse it (docs/quality.md)",
        Severity.CRITICAL,
    )
    fewer_rows: Limit = Limit(0.5, "a day with half its usual rows may lack a file")
    more_rows: Limit = Limit(3.0, "a day with three times its usual rows may have been delivered twice")
    newly_missing: Limit = Limit(0.1, "a column that is emptier than usual has lost its source")
    moved_channels: Limit = Limit(0.25, "exposures that move to other channels are a new policy, or a mixed-up column")
    handful: int = 10  # refused rows or duplicates that are never worth a word
    refused_rows: Limit = Limit(0.01, "refused rows are lost to the day until somebody repairs them")
    duplicates: Limit = Limit(0.1, "many copies point at a file that was delivered twice")

    # A day's tables beside each other.
    fewest_users: int = 30  # with fewer, their splits say nothing
    split_shares: Limit = Limit(0.02, "shares unlike 80 / 10 / 10 mean that some users never reached their split")
    calibration: Limit = Limit(1.5, "predictions far from what happens buy the wrong exposures")
    mean_prediction: Limit = Limit(3.0, "ranks whose rewards are far from those observed were made of something else")

    # Drift. These are the fixed limits: where a figure has been measured on `learn_days` trailing days, its limit is
    # their median + `spreads` robust standard deviations, kept between half the fixed limit and four times it, or below
    # the fixed one where the day is not compared with the day before.
    learn_days: int = 7
    remembered_days: int = 28
    spreads: float = 6.0
    psi: Limit = Limit(0.25, "the model reads this column: far from what it was trained on, its answers are guesses")
    js: Limit = Limit(0.2, "the model reads this column: far from what it was trained on, its answers are guesses")
    channel_mix: Limit = Limit(0.15, "the channels are what the policy chooses among: another mix is another policy")
    fewest_gains: int = 10  # users with a gain, on either day; of fewer no rate is compared
    rate: Limit = Limit(1.5, "a reward rate that jumps is a change in the audience, in the log, or in what is counted")
    policy_change: Limit = Limit(0.2, "policies that turn over in a night follow noise, or a model that has gone wrong")
    unknown: Limit = Limit(0.1, "categories outside the vocabulary share one code: the model cannot tell them apart")


# One calendar for all datasets: a day has one weekday, so two days never agree in it.
CALENDAR = {"weekday": "a day has one weekday"}
