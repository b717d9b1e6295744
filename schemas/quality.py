"""Thresholds for a day of a dataset: how the day must look on its own and next to other days, and how far it may drift.

The contract of a dataset has one `Quality`; a field that it leaves out has the default given here. Rules that hold for
every dataset (keys, sums, vocabularies, policies that differ between users) are part of the tables' contracts in
`schemas/tables/`. docs/quality.md explains what happens if a threshold is exceeded.
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
    rationale: str
    min_share: float = 1.0
    severity: Severity = Severity.CRITICAL


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a figure, and why it matters if the figure goes beyond it."""

    value: float
    rationale: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Quality:
    """The thresholds of a dataset. A share is from 0 to 1; a ratio is the larger of two values over the smaller.

    rows: statements about single exposures of this dataset, in addition to the rules for every dataset.
    max_missing_share: for columns whose usual share of missing values is known, the largest share that is normal.
    Every other column is compared with its own trailing days.
    excused: days that are known to be unusual, each with the reason. A critical difference from the trailing days is
    only a warning on these days.
    not_compared: columns that differ between any two days, each with the reason. Drift leaves them out.
    longest_gap_days: more days than this without a row end the log; rows beyond such a gap wait.
    """

    rows: tuple[RowRule, ...] = ()
    max_missing_share: Mapping[str, float] = field(default_factory=dict)
    excused: Mapping[str, str] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)

    # A monthly campaign leaves up to 30 days empty. A wrong stamp is nearly always years away: a wrong epoch or unit.
    longest_gap_days: int = 31

    # The exposures of a single day. The gain rate is the mean of the dataset's first gain.
    min_gain_rate: float = 0.001
    max_gain_rate: Limit = Limit(0.95, "a day without or full of gains points at a broken feed")
    unknown_channels: Limit = Limit(0.1, "an exposure of unknown channel is never a label")
    one_user: Limit = Limit(
        0.5, "an id that stands for many users, or a robot, would dominate what the model learns", Severity.CRITICAL
    )
    min_users: int = 20  # with fewer users, their shares of the rows are not judged
    mostly_refused: Limit = Limit(0.5, "the remaining rows of a changed feed are not representative", Severity.CRITICAL)

    # A day compared with its trailing days: the latest `trailing_days` days that have rows.
    trailing_days: int = 14
    min_trailing_days: int = 3  # with fewer trailing days, nothing is compared
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
    negligible_rows: int = 10  # up to this many quarantined rows or duplicates, there is no warning
    refused_rows: Limit = Limit(0.01, "quarantined rows are missing in the day until they are repaired")
    duplicates: Limit = Limit(0.1, "many copies point at a file that was delivered twice")

    # The tables of a day compared with each other.
    min_split_users: int = 30  # with fewer users, the shares of the splits are not compared
    split_shares: Limit = Limit(0.02, "shares unlike 80 / 10 / 10 mean that some users never reached their split")
    new_channels: Limit = Limit(
        0.05,
        "the model cannot choose these channels: a full training is due (mtorl_history_*)",
    )
    calibration: Limit = Limit(1.5, "predictions far from what happens buy the wrong exposures")
    mean_prediction: Limit = Limit(3.0, "rewards of ranks that are far from the observed ones come from other data")

    # Drift. The limits below are the fixed ones. Once a figure has been measured on `min_measured_days` days, its limit
    # is the median of its latest `max_measured_days` values plus `limit_deviations` robust standard deviations. The
    # learned limit is at least half of the fixed one. It is at most four times the fixed one in a comparison with the
    # day before, and at most the fixed one in any other comparison.
    min_measured_days: int = 7
    max_measured_days: int = 28
    limit_deviations: float = 6.0
    psi: Limit = Limit(0.25, "the model reads this column; far from its training values, predictions are unreliable")
    js_distance: Limit = Limit(
        0.2, "the model reads this column; far from its training values, predictions are unreliable"
    )
    channel_mix: Limit = Limit(0.15, "the channels are what the policy chooses among: another mix is another policy")
    min_users_with_gain: int = 10  # on either day; with fewer, the rates of a gain are not compared
    rate: Limit = Limit(1.5, "a reward rate that jumps is a change in the audience, in the log, or in what is counted")
    policy_change: Limit = Limit(0.2, "policies that turn over in a night follow noise, or a model that has gone wrong")
    fusion_change: Limit = Limit(
        0.3, "powers that turn over in a night rank by noise, or by a model that has gone wrong"
    )
    unknown_categories: Limit = Limit(
        0.1, "categories outside the vocabulary share one code: the model cannot tell them apart"
    )


# The same for every dataset: all exposures of a day have one weekday, so any two days differ in it.
CALENDAR = {"weekday": "a day has one weekday"}
