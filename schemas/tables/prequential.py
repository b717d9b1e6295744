"""One row per head of a model: how well the champion predicted a day before it was trained on it (prequential test).

Each method has its own champion, so a day may have rows of several models.

The labels are those of training users, as known at the end of the day. The predictions are those of the champion before
the day. A late gain is labelled by "known at the end of the day", so its prediction is multiplied by the probability
that the gain is known by then; `known_share` is the mean of this probability. A calibrated model therefore has
predicted_rate = rate on the day itself, without a wait until all late gains are known.
A day has no rows if there was no model before it or if it has no labels.
"""

from collections.abc import Mapping

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of, unique_together
from schemas.tables import PREQUENTIAL

CHANNEL = "channel"  # the head that predicts the channel; every other head has the name of its gain
RANKING = "ranking"  # the head of a fusion; its loss is 1 - MTF-GAUC (evaluation/fusion_metrics.py)


def labels_of_new_channels(labels: Mapping[str, int]) -> int:
    """The number of labels with a channel that the model does not know: they count for the gains alone.

    labels: the number of labels of each head. A model without the head `channel` predicts no channel.
    """
    gains = [number for head, number in labels.items() if head != CHANNEL]
    return max(0, max(gains) - labels[CHANNEL]) if gains and CHANNEL in labels else 0


def prequential(dataset: Dataset) -> Table:
    limit = dataset.quality.calibration
    return Table(
        name=PREQUENTIAL,
        doc=__doc__,
        columns=(
            Column("head", "string", "channel, a gain, a task of a method on candidates, or ranking"),
            Column("day", "string", "the day that is predicted, YYYY-MM-DD"),
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
            Column("auc", "double", "of a gain; null for the channel, and if all labels are equal", nullable=True),
            Column(
                "rate",
                "double",
                "of a gain: share of the labels that have it, known by the end of the day",
                nullable=True,
            ),
            Column("predicted_rate", "double", "of a gain: mean predicted probability of such a label", nullable=True),
            Column("known_share", "double", "mean probability that a gain is known by the end of the day"),
        ),
        key=("model_version", "head"),
        expectations=(
            unique_together(("model_version", "head"), rationale="one head of a model, one figure"),
            one_of("head", heads(dataset), rationale="the heads of all models"),
            holds("is_unseen", rationale="a model tested on a day that it was trained on looks better than it is"),
            between("logloss", low=0, rationale="a log loss is never negative"),
            *(
                between(rate, low=0, high=1, rationale="a share of the labels is from 0 to 1")
                for rate in ("rate", "predicted_rate")
            ),
            between(
                "calibration", low=1 / limit.value, high=limit.value, rationale=limit.rationale, severity=limit.severity
            ),
        ),
        # A difference below three standard errors may be chance. Half a gain is added to both sides, so that a rate of
        # 0 can be compared. Neither the channel nor a ranking has a rate. A gain with labels but without a rate or a
        # prediction has the calibration null.
        audit_duckdb_sql=f"""
            WITH judged AS (
              SELECT *, least(greatest(rate, predicted_rate, 0), 1) AS larger,
                     abs(predicted_rate - rate) <= 3 * sqrt(larger * (1 - larger) / nullif(labels, 0)) AS within_noise
              FROM partition)
            SELECT * EXCLUDE (larger, within_noise), trained_through < day AS is_unseen,
                   CASE WHEN head IN ('{CHANNEL}', '{RANKING}') OR labels = 0 OR within_noise THEN 1
                        ELSE (predicted_rate * labels + 0.5) / (rate * labels + 0.5) END AS calibration
            FROM judged""",
        model_column="model_version",
    )


def heads(dataset: Dataset) -> tuple[str, ...]:
    """All heads that a model of the dataset may have."""
    return tuple(dict.fromkeys((CHANNEL, *dataset.gain_names, *dataset.tasks, RANKING)))
