"""The table `prequential`: how the champion from before a day predicts the day's labels, before training on them."""

import numpy as np

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.reading import consistent_read
from lakehouse.rows import inputs_of_model, publish_if_missing, publish_model_rows, rows_of_model
from mtorl_model.champion.day_samples import Sample
from mtorl_model.champion.registry import Registry
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.comparison import head_losses
from mtorl_model.evaluation.label_predictions import LabelPredictions
from mtorl_model.evaluation.label_sources import source_of
from mtorl_model.evaluation.metrics import reward_metrics
from mtorl_model.methods.method import Method
from schemas.dataset import Dataset
from schemas.days import day_plus
from schemas.errors import Busy
from schemas.splits import TRAIN
from schemas.tables import PREQUENTIAL
from schemas.tables.prequential import CHANNEL, RANKING, labels_of_new_channels, prequential

RECENT_DAYS = 7  # the summary's calibration is pooled over this many days


def measure_day(
    lake: Lake, dataset: Dataset, day: str, version: Version, model: Method, sample: Sample
) -> list[dict[str, object]]:
    """A row for each head, from all labels of training users as known at the end of the day; [] without labels.

    Raises Busy if the day's tables have been published again since the sample was drawn.
    """
    if not sample.has_labels:
        return []
    source = source_of(model)
    partitions = source.partitions(lake, dataset, day)
    with consistent_read(partitions):
        if not source.fingerprints(lake, dataset, [day]).items() <= sample.inputs.items():
            raise Busy(f"{partitions[0].path} was published again after its sample was drawn: run again")
        predicted = source.read(lake, dataset, [model], [day], TRAIN, sample.cutoff)
    assert predicted is not None  # the sample has labels
    (labels,) = predicted
    rows: list[dict[str, object]] = []
    for head, (loss_N, labelled_N) in head_losses(labels, model).items():
        if labelled_N.any():
            users = UserBootstrap(labels.user_N[labelled_N])
            loss_R = users.sums(np.stack([np.ones(labelled_N.sum()), loss_N[labelled_N]], axis=1)).T
            logloss = estimate(loss_R[1] / np.maximum(loss_R[0], 1))
            rows.append(
                {
                    "head": head, "day": day, "model_version": version.name, "trained_through": version.day,
                    "users": users.users, "labels": int(labelled_N.sum()), "logloss": logloss["value"],
                    "logloss_low": logloss["low"], "logloss_high": logloss["high"],
                    **_head_figures(head, labels, labelled_N, model, users),
                }
            )  # fmt: skip
    return rows


def _head_figures(
    head: str, labels: LabelPredictions, labelled_N: np.ndarray, model: Method, users: UserBootstrap
) -> dict[str, float | None]:
    """The figures that depend on the kind of head."""
    if head == CHANNEL:
        share_A = np.bincount(labels.action_N[labelled_N], minlength=len(model.spec.channels)) / labelled_N.sum()
        positive_A = share_A[share_A > 0]
        entropy = float(-(positive_A * np.log(positive_A)).sum())
        return {"base_logloss": entropy, "auc": None, "rate": None, "predicted_rate": None, "known_share": 1.0}
    if head == RANKING:
        gain_figures = {"auc": None, "rate": None, "predicted_rate": None, "known_share": 1.0}
        return {"base_logloss": 0.5, **gain_figures}  # that of a random order
    k = model.label_names.index(head)
    known_N = labels.maturity_NG[labelled_N, k]
    assert labels.prediction.gains_XG is not None  # the head is a gain
    predicted_N = labels.prediction.gains_XG[labelled_N, k] * known_N
    figures = reward_metrics(labels.gain_NG[labelled_N, k], predicted_N, users).figures
    auc = float(figures["auc"][0])
    return {
        "base_logloss": float(figures["base_logloss"][0]),
        "auc": auc if np.isfinite(auc) else None,
        "rate": float(figures["rate"][0]),
        "predicted_rate": float(predicted_N.mean()),
        "known_share": float(known_N.mean()),
    }


def publish_figures(registry: Registry, day: str, version: Version, model: Method, sample: Sample) -> bool:
    """Measure and publish; returns False if the figures of this model on these labels are published already.

    The rows of other models do not change.
    """
    lake, dataset = registry.lake, registry.dataset
    inputs = {"model": version.name, "spec": model.spec.version}
    # With late gains the replay is an input, too, because delays are estimated on it.
    day_keys = source_of(model).fingerprints(lake, dataset, [day])
    inputs |= sample.inputs if dataset.late_gain_times else {key: sample.inputs[key] for key in day_keys}
    if inputs_of_model(lake[PREQUENTIAL, dataset, day].manifest, registry.model) == inputs:
        return False
    rows = measure_day(lake, dataset, day, version, model, sample)
    publish_model_rows(lake, prequential(dataset), dataset, day, registry.model, rows, inputs)
    return True


def publish_without_figures(registry: Registry, day: str) -> None:
    """Publish the day without rows, because no model can predict it; earlier figures of the day stay."""
    lake, dataset = registry.lake, registry.dataset
    publish_if_missing(lake, prequential(dataset), dataset, day)


def summary(registry: Registry, day: str) -> list[str]:
    """One line per head: the day's log loss and, for a gain, predicted and observed rate and their recent ratio."""
    lake, dataset = registry.lake, registry.dataset
    days = [d for d in lake.days(PREQUENTIAL, dataset) if day_plus(day, -RECENT_DAYS) < d <= day]
    rows = [row for d in days for row in rows_of_model(lake, prequential(dataset), dataset, d, registry.model)]
    lines = []
    for row in (r for r in rows if r["day"] == day):
        loss = "1 - MTF-GAUC" if row["head"] == RANKING else "log loss"
        line = f"{row['head']}: {loss} {row['logloss']:.4f} (base {row['base_logloss']:.4f}), {row['labels']:,} labels"
        if row["rate"] is not None:
            head_rows = [r for r in rows if r["head"] == row["head"]]
            predicted, observed = (sum(r[name] * r["labels"] for r in head_rows) for name in ("predicted_rate", "rate"))
            line += f"; predicted {row['predicted_rate']:.4f}, observed {row['rate']:.4f}"
            line += f"; {predicted / observed:.3f} over {len(head_rows)} days" if observed else ""
        lines.append(line)
    new_channels = labels_of_new_channels({row["head"]: row["labels"] for row in rows if row["day"] == day})
    return lines + ([f"{new_channels:,} labels have a channel that the model does not know"] if new_channels else [])
