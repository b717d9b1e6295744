"""One head a row: how the champion judged a day that it had not been trained on yet. Test, then train.

The day's labels of training users, as they were known at the end of the day, against the predictions of the champion
as it was before the day. A gain that may still come counts as "known by the end of the day": what is measured is the
prediction times the chance that the gain would be known by then, `known_share` on average. So a calibrated model has
predicted_rate = rate on the day itself, and nobody waits for the labels to mature.
A day before which there was no model, or without labels, has no rows.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique
from schemas.tables import PREQUENTIAL

CHANNEL = "channel"  # the head that predicts the channel; the others have the names of their gains


def prequential(dataset: Dataset) -> Table:
    limit = dataset.quality.calibration
    return Table(
        name=PREQUENTIAL,
        doc=__doc__,
        columns=(
            Column("head", "string", "channel, or the gain"),
            Column("day", "string", "the day that is judged, YYYY-MM-DD"),
            Column("model_version", "string", "registered model and version, e.g. mtorl_kuairand/3"),
            Column("trained_through", "string", "the last day that this version was trained on"),
            Column("users", "bigint", "users with a label on the day"),
            Column("labels", "bigint", "labels of the day"),
            Column("logloss", "double", "mean log loss, nats"),
            Column("logloss_low", "double", "its 95 % interval over users; null with few users", nullable=True),
            Column("logloss_high", "double", "its 95 % interval over users; null with few users", nullable=True),
            Column(
                "base_logloss",
                "double",
                "log loss of the day's own rates, predicted for every user; a model cannot know these rates before",
            ),
            Column("auc", "double", "of a gain; null for the channel, and where all labels are equal", nullable=True),
            Column(
                "rate",
                "double",
                "of a gain: share of the labels that have it, known by the end of the day",
                nullable=True,
            ),
            Column("predicted_rate", "double", "of a gain: mean prediction of that", nullable=True),
            Column("known_share", "double", "mean chance that a gain to come is known by the end of the day"),
        ),
        key=("head",),
        expectations=(
            unique("head", why="one head, one figure"),
            one_of("head", (CHANNEL, *dataset.gain_names), why="the heads of the model"),
            holds("is_unseen", why="a model tested on a day that it was trained on looks better than it is"),
            between("logloss", low=0, why="a log loss is never negative"),
            *(
                between(rate, low=0, high=1, why="a share of the labels is from 0 to 1")
                for rate in ("rate", "predicted_rate")
            ),
            between("calibration", low=1 / limit.value, high=limit.value, why=limit.why, severity=limit.severity),
        ),
        # A difference of less than three standard errors says nothing about the model. Half a gain more on either side
        # keeps a rate of 0 comparable. A gain that has labels but no rate or no prediction cannot be judged: null.
        audit_duckdb_sql=f"""
            WITH judged AS (
              SELECT *, least(greatest(rate, predicted_rate, 0), 1) AS larger,
                     abs(predicted_rate - rate) <= 3 * sqrt(larger * (1 - larger) / nullif(labels, 0)) AS within_noise
              FROM partition)
            SELECT * EXCLUDE (larger, within_noise), trained_through < day AS is_unseen,
                   CASE WHEN head = '{CHANNEL}' OR labels = 0 OR within_noise THEN 1
                        ELSE (predicted_rate * labels + 0.5) / (rate * labels + 0.5) END AS calibration
            FROM judged""",
    )
