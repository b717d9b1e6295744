"""Compare the corrections for late gains on a log whose final outcomes are known.

python -m mtorl_model.studies.delay --dataset D --lake LAKE --from DAY --to DAY --until DAY --out delay.json
    [--preset small] [--max-epochs 8] [--seed 0]

The lake needs enough days after --until for every gain to become known, as a generated log has (python -m
jobs.generate_log --layout criteo --days 60). Each correction trains a model on the days --from to --to, with the labels
as they are known at the end of --to, and then goes through the days up to --until: the model first predicts the day and
is then fine-tuned with the labels that are known at the end of that day. Its predictions are compared with the final
outcomes. `final` is trained on the final outcomes, which are unknown in practice: it is the best that a correction
could reach.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.feature_specs import published_spec
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from mtorl_model.data.delayed_feedback import LIKELIHOOD, NO_CORRECTION, WAIT, FeedbackConfig, cutoff_at_end_of
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.splits import split_windows
from mtorl_model.data.windows.store import open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import predict_labels
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import PRESETS, MTORLConfig, preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import draw_day
from schemas.dataset import Dataset
from schemas.days import day_plus, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TRAIN, VALIDATION

FINAL = "final"
_AFTER_ALL_MS = 2**62  # later than every event
_WAITING_DAYS = (3, 7)


class GainPredictions(NamedTuple):
    """For one gain at N labels: the prediction, made before training on the day, and the final outcome."""

    user_N: npt.NDArray[np.int64]
    predicted_N: npt.NDArray[np.float64]
    gained_N: npt.NDArray[np.float64]


def predict_days(
    lake: Lake,
    dataset: Dataset,
    first: str,
    last: str,
    end_day: str,
    config: MTORLConfig,
    feedback: FeedbackConfig | None,
) -> dict[str, GainPredictions]:
    """By late gain, the predictions for the days after `last`, each made before the model is fine-tuned on that day.

    first, last: the days of the first training. end_day: the last day that is predicted. feedback: the correction;
    None: trained on the final outcomes.
    """
    spec = published_spec(lake, dataset.name, last)
    encoder = Encoder(spec, dataset, config.reward_inputs)
    cutoff = cutoff_at_end_of(last, lake, dataset, days_between(first, last), feedback) if feedback else None
    train, valid = (open_windows(lake, encoder, first, last, split, cutoff) for split in (TRAIN, VALIDATION))
    model = MTORL(config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run())
    fine_tuning = FineTuneConfig(device=config.train.device)
    predictions: dict[str, list[GainPredictions]] = {gain: [] for gain in dataset.late_gains}
    for day in days_between(day_plus(last, 1), end_day):
        # Without test users: these figures decide which correction is used.
        tables = [
            table
            for split in (TRAIN, VALIDATION)
            for table in split_windows(lake, dataset, [day], split, encoder, with_times=False)
        ]
        labels = predict_labels(model, tables, dataset)
        user_N = np.concatenate([_users_of_labels(table, encoder) for table in tables])
        gains_NG = labels.prediction.gains_XG
        assert gains_NG is not None
        for gain, parts in predictions.items():
            k = spec.gains.index(gain)
            parts.append(GainPredictions(user_N, gains_NG[:, k], labels.gain_NG[:, k]))
        correction, known_at_ms = (
            (feedback, None) if feedback else (FeedbackConfig(correction=NO_CORRECTION), _AFTER_ALL_MS)
        )
        sample = draw_day(lake, encoder, dataset, day, fine_tuning, correction, known_at_ms=known_at_ms)
        model.fine_tune(sample, fine_tuning)
    return {
        gain: GainPredictions(*map(np.concatenate, zip(*parts, strict=True))) for gain, parts in predictions.items()
    }


def _users_of_labels(table: pa.Table, encoder: Encoder) -> npt.NDArray[np.int64]:
    window_N, _ = encoder.encode(table).label_NL.nonzero()
    ids: npt.NDArray[np.int64] = table.column("user_id").to_numpy()[window_N]
    return ids


def compare_with_none(corrected: GainPredictions, uncorrected: GainPredictions) -> dict[str, Any]:
    """Log loss and calibration against the final outcomes, and the difference in log loss to no correction."""
    users = UserBootstrap(corrected.user_N)
    loss_N, uncorrected_loss_N = (
        -np.log(np.clip(np.where(p.gained_N == 1, p.predicted_N, 1 - p.predicted_N), 1e-7, 1))
        for p in (corrected, uncorrected)
    )
    columns = (np.ones_like(loss_N), loss_N, uncorrected_loss_N, corrected.predicted_N, corrected.gained_N)
    count_R, loss_R, uncorrected_R, predicted_R, gained_R = users.sums(np.stack(columns, axis=1)).T
    return {
        "logloss": estimate(loss_R / count_R),
        "logloss_minus_none": estimate((loss_R - uncorrected_R) / count_R),
        "predicted_over_observed": estimate(predicted_R / np.maximum(gained_R, 1)),
        "labels": len(loss_N),
        "rate": float(corrected.gained_N.mean()),
    }


def measure(
    lake: Lake, dataset: Dataset, first: str, last: str, end_day: str, config: MTORLConfig
) -> dict[str, dict[str, Any]]:
    """The figures by late gain and correction. Raises UserError if the dataset has no late gain."""
    if not dataset.late_gains:
        raise UserError(f"every gain of {dataset.name} is known with its exposure, so this study needs another dataset")
    corrections = {
        FINAL: None,
        NO_CORRECTION: FeedbackConfig(correction=NO_CORRECTION),
        **{f"{WAIT} {days} days": FeedbackConfig(WAIT, days) for days in _WAITING_DAYS},
        LIKELIHOOD: FeedbackConfig(LIKELIHOOD),
    }
    predictions: dict[str, dict[str, GainPredictions]] = {}
    for name, feedback in corrections.items():
        predictions[name] = predict_days(lake, dataset, first, last, end_day, config, feedback)
        print(f"{name}: done", flush=True)
    return {
        gain: {
            name: compare_with_none(by_gain[gain], predictions[NO_CORRECTION][gain])
            for name, by_gain in predictions.items()
        }
        for gain in dataset.late_gains
    }


def as_lines(gain: str, by_correction: Mapping[str, Any]) -> list[str]:
    first = next(iter(by_correction.values()))
    lines = [f"{gain}: {first['labels']:,} labels, rate {first['rate']:.4f}; log loss, minus none, predicted/observed"]
    for name, figures in by_correction.items():
        estimates = [figures[key] for key in ("logloss", "logloss_minus_none", "predicted_over_observed")]
        cells = (f"{e['value']:.4f} [{e['low']:.4f}, {e['high']:.4f}]" for e in estimates)
        lines.append(f"  {name:<12} {'  '.join(cells)}")
    return lines


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--until", required=True, metavar="DAY")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--max-epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dataset = dataset_of(args)
    settings = {"max_epochs": args.max_epochs, "seed": args.seed, "members": 1}
    config = preset(args.preset, dataset.name).changed({**settings, "trees": False})
    results = measure(lake_of(args), dataset, args.first_day, args.last_day, args.until, config)
    write_whole(args.out, json.dumps(results, indent=1) + "\n")
    for gain, by_correction in results.items():
        print("\n".join(as_lines(gain, by_correction)))


if __name__ == "__main__":
    exit_with_one_line(main)
