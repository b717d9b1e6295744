"""Which correction for gains still to come is the best: measured where the final outcomes are known.

python -m mtorl_model.studies.delay --dataset D --lake LAKE --from DAY --to DAY --until DAY --out delay.json
    [--preset small] [--max-epochs 8] [--seed 0]

For a lake whose days go on long enough behind --until for every gain to have come (a generated log: python -m
jobs.generate_log --layout criteo --days 60). Each correction trains a model on the days --from to --to with the labels
as known at the end of --to, then goes through the days up to --until: the model first predicts the day, then is
fine-tuned with what is known at its end. Its predictions are measured against the final outcomes. `final` trains
on the final outcomes instead, which nobody has on the day: the best that a correction could reach.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.feature_specs import published_spec
from lakehouse.lake import Lake
from mtorl_model.data.delayed_feedback import LIKELIHOOD, NO_CORRECTION, WAIT, FeedbackConfig, cutoff_at_end_of
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.split_windows import split_windows
from mtorl_model.data.window_store import open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import predict_labels
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import PRESETS, MTORLConfig, preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import draw_day
from schemas.dataset import Dataset, get_dataset
from schemas.days import day_plus, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TRAIN, VALIDATION

FINAL = "final"
_NEVER_MS = 2**62  # later than anything that happens
_WAITING_DAYS = (3, 7)


class GainPredictions(NamedTuple):
    """Of one gain at N labels: the prediction, made before the day was seen, and the final outcome."""

    user_N: npt.NDArray[np.int64]
    predicted_N: npt.NDArray[np.float64]
    gained_N: npt.NDArray[np.float64]


def predictions(
    lake: Lake,
    dataset: Dataset,
    first: str,
    last: str,
    until: str,
    config: MTORLConfig,
    feedback: FeedbackConfig | None,
) -> dict[str, GainPredictions]:
    """By late gain, what a model predicted for each day after last, before it saw it. feedback None: final outcomes."""
    spec = published_spec(lake, dataset.name, last)
    encoder = Encoder(spec, dataset, config.reward_inputs)
    cutoff = cutoff_at_end_of(last, lake, dataset, days_between(first, last), feedback) if feedback else None
    train, valid = (open_windows(lake, encoder, first, last, split, cutoff) for split in (TRAIN, VALIDATION))
    model = MTORL(config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run())
    fine_tuning = FineTuneConfig(device=config.train.device)
    predicted: dict[str, list[GainPredictions]] = {gain: [] for gain in dataset.late_gains}
    for day in days_between(day_plus(last, 1), until):
        # Test users stay out: the correction is chosen by these figures.
        tables = [
            table
            for split in (TRAIN, VALIDATION)
            for table in split_windows(lake, dataset, [day], split, encoder, with_times=False)
        ]
        labels = predict_labels(model, tables, dataset)
        user_N = np.concatenate([_users_of_labels(table, encoder) for table in tables])
        gains_NG = labels.prediction.gains_XG
        assert gains_NG is not None
        for gain, parts in predicted.items():
            k = spec.gains.index(gain)
            parts.append(GainPredictions(user_N, gains_NG[:, k], labels.gain_NG[:, k]))
        sample = draw_day(
            lake, encoder, dataset, day, fine_tuning, feedback or FeedbackConfig(correction=NO_CORRECTION),
            known_at_ms=None if feedback else _NEVER_MS,
        )  # fmt: skip
        model.fine_tune(sample, fine_tuning)
    return {gain: GainPredictions(*map(np.concatenate, zip(*parts, strict=True))) for gain, parts in predicted.items()}


def _users_of_labels(table: pa.Table, encoder: Encoder) -> npt.NDArray[np.int64]:
    window_N, _ = encoder.encode(table).label_NL.nonzero()
    ids: npt.NDArray[np.int64] = table.column("user_id").to_numpy()[window_N]
    return ids


def figures(own: GainPredictions, plain: GainPredictions) -> dict[str, Any]:
    """Log loss and calibration against the final outcomes, and the difference of the log loss to `plain`'s."""
    users = UserBootstrap(own.user_N)
    loss_N, plain_N = (
        -np.log(np.clip(np.where(s.gained_N == 1, s.predicted_N, 1 - s.predicted_N), 1e-7, 1)) for s in (own, plain)
    )
    count_R, loss_R, plain_R, predicted_R, gained_R = users.sums(
        np.stack([np.ones_like(loss_N), loss_N, plain_N, own.predicted_N, own.gained_N], axis=1)
    ).T
    return {
        "logloss": estimate(loss_R / count_R),
        "logloss_minus_none": estimate((loss_R - plain_R) / count_R),
        "predicted_over_observed": estimate(predicted_R / np.maximum(gained_R, 1)),
        "labels": len(loss_N),
        "rate": float(own.gained_N.mean()),
    }


def measure(
    lake: Lake, dataset: Dataset, first: str, last: str, until: str, config: MTORLConfig
) -> dict[str, dict[str, Any]]:
    """By late gain and correction, the figures. Raises UserError where the dataset has no late gain."""
    if not dataset.late_gains:
        raise UserError(f"every gain of {dataset.name} comes with its exposure: there is nothing to correct")
    tried = {
        FINAL: None,
        NO_CORRECTION: FeedbackConfig(correction=NO_CORRECTION),
        **{f"{WAIT} {days} days": FeedbackConfig(WAIT, days) for days in _WAITING_DAYS},
        LIKELIHOOD: FeedbackConfig(LIKELIHOOD),
    }
    by_correction: dict[str, dict[str, GainPredictions]] = {}
    for name, feedback in tried.items():
        by_correction[name] = predictions(lake, dataset, first, last, until, config, feedback)
        print(f"{name}: done", flush=True)
    return {
        gain: {name: figures(own[gain], by_correction[NO_CORRECTION][gain]) for name, own in by_correction.items()}
        for gain in dataset.late_gains
    }


def as_lines(gain: str, by_correction: dict[str, Any]) -> list[str]:
    first = next(iter(by_correction.values()))
    lines = [f"{gain}: {first['labels']:,} labels, rate {first['rate']:.4f}; log loss, minus none, predicted/observed"]
    for name, found in by_correction.items():
        columns = [found[key] for key in ("logloss", "logloss_minus_none", "predicted_over_observed")]
        shown = (f"{c['value']:.4f} [{c['low']:.4f}, {c['high']:.4f}]" for c in columns)
        lines.append(f"  {name:<12} {'  '.join(shown)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--until", required=True, metavar="DAY")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--max-epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    settings = {"max_epochs": args.max_epochs, "seed": args.seed, "members": 1}
    config = preset(args.preset, dataset.name).changed(settings)
    found = measure(lake, dataset, args.first_day, args.last_day, args.until, config)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    for gain, by_correction in found.items():
        print("\n".join(as_lines(gain, by_correction)))


if __name__ == "__main__":
    exit_with_one_line(main)
