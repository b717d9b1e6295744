"""One row per exposure, in the order of `exposures`: the inputs derived from facts known before it.

Row k of a file has the exposure of row k of the file of the same name in `exposures`. Columns of `exposures` are not
repeated here: the user, the time, the context known before the exposure, the properties of the candidate, the outcome,
and the time at which a late gain became known.
"""

from schemas.contract import Column, Known, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, unique
from schemas.steps import derived_inputs, session_inputs
from schemas.tables import STEPS


def steps(dataset: Dataset) -> Table:
    # Quoted: a log may call a gain `order`.
    gains_covered = " AND ".join(f'"seen_{g}" <= seen_exposures' for g in dataset.gain_names)
    return Table(
        name=STEPS,
        doc=__doc__,
        columns=(
            Column("exposure_id", "bigint", "the exposure", Known.NEVER),
            Column("journey_position", "int", "place in the user's journey, from 0", Known.NEVER),
            *derived_inputs(dataset),
            *session_inputs(dataset),
        ),
        key=("exposure_id",),
        expectations=(
            unique("exposure_id", rationale="an exposure counted twice distorts every rate"),
            holds("in_journey", rationale="a step has no fewer steps before it than exposures that it sees"),
            between("gap_s", low=0, rationale="a negative gap means that steps are out of order"),
            between("session_age_s", low=0, rationale="a session cannot begin after its exposures"),
            holds("in_session", rationale="an exposure sees no more of its session than the exposures before it"),
            holds("no_gain_without_exposure", rationale="more clicks than exposures are clicks on nothing"),
        ),
        audit_duckdb_sql=f"""
            SELECT *, journey_position >= seen_exposures AS in_journey,
                   session_exposures BETWEEN 0 AND position AND session_exposures <= seen_exposures AS in_session,
                   {gains_covered} AS no_gain_without_exposure
            FROM partition""",
    )
