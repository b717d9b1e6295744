"""One row per check: why the day's challenger became champion, or did not. A day without a challenger has no rows.

Both models predict the validation users of the latest days, with labels as known at the end of the day.
"""

from schemas.contract import Column, Table
from schemas.expectations import holds, one_of, unique
from schemas.tables import PROMOTIONS

POLICY_AUDIT = "policy_audit"
PROMOTED, REFUSED = "promoted", "refused"

PROMOTIONS_TABLE = Table(
    name=PROMOTIONS,
    doc=__doc__,
    columns=(
        Column("check", "string", "channel, a gain, or policy_audit"),
        Column("challenger", "string", "registered model and version, e.g. mtorl_kuairand/4"),
        Column("champion", "string", "the version it was compared with"),
        Column("decision", "string", "promoted or refused: the same in all rows"),
        Column("passed", "boolean", "whether the challenger passed this check"),
        Column("reason", "string", "what failed; empty if the check passed"),
        Column("users", "bigint", "validation users with a label"),
        Column("labels", "bigint", "their labels"),
        Column("champion_logloss", "double", "nats; null for the audit", nullable=True),
        Column("challenger_logloss", "double", "nats; null for the audit", nullable=True),
        Column("difference", "double", "challenger - champion, nats; below 0 is better", nullable=True),
        Column("low", "double", "its paired 95 % interval over users", nullable=True),
        Column("high", "double", "its paired 95 % interval over users", nullable=True),
        Column("margin", "double", "the largest difference that passes", nullable=True),
    ),
    key=("check",),
    expectations=(
        unique("check", rationale="one check, one answer"),
        one_of("decision", (PROMOTED, REFUSED), rationale="a challenger is promoted or refused"),
        holds("follows", rationale="promoted means that every check passed, refused that one did not"),
    ),
    audit_duckdb_sql=f"""
        SELECT *, (decision = '{PROMOTED}') = (SELECT bool_and(passed) FROM partition) AS follows FROM partition""",
)
