"""One row per check: why the day's challenger became champion, or did not. A day without a challenger has no rows.

Each method has its own champion and challenger, so a day may have rows of several models.

Both models predict the validation users of the latest days, with labels as known at the end of the day. Checks whose
name ends with AGAINST_FRESH_FIT are not part of the decision: they show whether a full training is due.
"""

from schemas.contract import Column, Severity, Table
from schemas.expectations import holds, one_of, unique_together
from schemas.tables import PROMOTIONS

POLICY_AUDIT = "policy_audit"
SINCE_FULL_TRAINING = "_since_full_training"  # after a head: compared with the last full training
FULL_TRAINING = "full_training"  # the row that explains why there is no comparison with the last full training
AGAINST_FRESH_FIT = "_against_fresh_fit"  # after a head: compared with trees that were fitted on this day
BASIS = "_basis"  # after value, imitation or constant: what recommendations by it are worth (schemas/basis.py)
FRESH_FIT = "fresh_fit"  # in place of a version: these trees
PROMOTED, REFUSED = "promoted", "refused"
# Whether a row compares the challenger with the champion that it may replace.
IS_DAILY_CHECK = f"""
    "check" <> '{FULL_TRAINING}'
    AND NOT ends_with("check", '{SINCE_FULL_TRAINING}') AND NOT ends_with("check", '{AGAINST_FRESH_FIT}')
    AND NOT ends_with("check", '{BASIS}')"""

PROMOTIONS_TABLE = Table(
    name=PROMOTIONS,
    doc=__doc__,
    columns=(
        Column(
            "check",
            "string",
            "a head (channel or a gain), policy_audit or full_training; a head may end with "
            "_since_full_training or _against_fresh_fit; value_basis, imitation_basis or constant_basis",
        ),
        Column(
            "challenger",
            "string",
            "registered model and version, e.g. mtorl_kuairand/4; against a fresh fit: the champion after the decision",
        ),
        Column("champion", "string", "the version it was compared with, or fresh_fit"),
        Column("decision", "string", "promoted or refused: the same in all rows of a model"),
        Column("passed", "boolean", "whether the challenger passed this check"),
        Column("reason", "string", "what failed, or why nothing was compared; empty if the check passed"),
        Column("users", "bigint", "validation users with a label"),
        Column("labels", "bigint", "their labels"),
        Column("champion_logloss", "double", "nats; null for the audit and for a basis", nullable=True),
        Column("challenger_logloss", "double", "nats; null for the audit and for a basis", nullable=True),
        Column("difference", "double", "challenger - champion, nats; below 0 is better", nullable=True),
        Column("low", "double", "its paired 95 % interval over users", nullable=True),
        Column("high", "double", "its paired 95 % interval over users", nullable=True),
        Column("margin", "double", "the largest difference that passes", nullable=True),
        Column(
            "value_difference",
            "double",
            "of a basis: the value of its recommendations minus that of the best constant, in first gains per exposure",
            nullable=True,
        ),
        Column("value_low", "double", "its paired 95 % interval over users", nullable=True),
        Column("value_high", "double", "its paired 95 % interval over users", nullable=True),
    ),
    key=("challenger", "check"),
    expectations=(
        unique_together(("challenger", "check"), rationale="one check of a challenger, one answer"),
        one_of("decision", (PROMOTED, REFUSED), rationale="a challenger is promoted or refused"),
        holds("follows", rationale="promoted means that every check of the decision passed, refused that one did not"),
        holds(
            "keeps_up",
            rationale="a champion that is worse than trees fitted on the day has not learned what it could: it is due "
            "for a full training",
            severity=Severity.WARNING,
        ),
    ),
    audit_duckdb_sql=f"""
        SELECT *,
               (decision = '{PROMOTED}') = bool_and(passed OR ends_with("check", '{AGAINST_FRESH_FIT}'))
                 OVER (PARTITION BY split_part(challenger, '/', 1)) AS follows,
               passed OR NOT ends_with("check", '{AGAINST_FRESH_FIT}') AS keeps_up
        FROM partition""",
    model_column="challenger",
)
