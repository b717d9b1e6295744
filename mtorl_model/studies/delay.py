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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse.paths import Lake, day_plus, days_between
from mtorl_model.champion.day_learning import adapt_members
from mtorl_model.data.delayed_feedback import LIKELIHOOD, NONE, WAIT, FeedbackConfig, known_by_end_of
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.split_windows import split_windows
from mtorl_model.data.window_store import open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.label_predictions import predict_labels
from mtorl_model.methods.mtorl.artifact import Artifact
from mtorl_model.methods.mtorl.config import PRESETS, preset
from mtorl_model.train import Configs, new_model
from mtorl_model.training.config import FineTuneConfig
from mtorl_model.training.day_sample import draw_day
from mtorl_model.training.loop import fit
from schemas.dataset import Dataset, get_dataset
from schemas.days import day_plus, days_between
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TRAIN, VALIDATION

FINAL = "final"
_NEVER_MS = 2**62  # later than anything that happens
_WAITING_DAYS = (3, 7)


class Said(NamedTuple):
    """Of one gain at N labels: the prediction, made before the day was seen, and the final outcome."""

    user_N: npt.NDArray[np.int64]
    predicted_N: npt.NDArray[np.float64]
    gained_N: npt.NDArray[np.float64]


def predictions(
    lake: Lake, dataset: Dataset, first: str, last: str, until: str, configs: Configs, feedback: FeedbackConfig | None
) -> dict[str, Said]:
    """By late gain, what a model said of each day after last, before it saw it. feedback None: final outcomes."""
    model_config, loss_config, train_config = configs
    spec = published_spec(lake, dataset.name, last)
    encoder = Encoder(spec, dataset, model_config.reward_form)
    known_by = known_by_end_of(last, lake, dataset, days_between(first, last), feedback) if feedback else None
    train, valid = (open_windows(lake, encoder, first, last, split, known_by) for split in (TRAIN, VALIDATION))
    model = new_model(model_config, encoder, train_config.seed)
    fit(model, train, valid, loss_config, train_config)
    artifact = Artifact((model.to("cpu"),), spec, fit_initial_policy(train, spec))
    config = FineTuneConfig(device=train_config.device)
    said: dict[str, list[Said]] = {gain: [] for gain in dataset.late_gains}
    for day in days_between(day_plus(last, 1), until):
        # Test users stay out: the correction is chosen by these figures.
        tables = [
            table
            for split in (TRAIN, VALIDATION)
            for table in split_windows(lake, dataset, [day], split, encoder, with_times=False)
        ]
        labels = predict_labels(artifact, tables, dataset)
        user_N = np.concatenate([_users_of_labels(table, encoder) for table in tables])
        for gain, parts in said.items():
            k = spec.gains.index(gain)
            parts.append(Said(user_N, labels.predicted_NG[:, k], labels.gain_NG[:, k]))
        sample = draw_day(
            lake, encoder, dataset, day, config, feedback or FeedbackConfig(correction=NONE),
            known_at_ms=None if feedback else _NEVER_MS,
        )  # fmt: skip
        adapt_members(artifact, sample, config, loss_config)
    return {gain: Said(*map(np.concatenate, zip(*parts, strict=True))) for gain, parts in said.items()}


def _users_of_labels(table: pa.Table, encoder: Encoder) -> npt.NDArray[np.int64]:
    window_N, _ = encoder.encode(table).label_NL.nonzero()
    ids: npt.NDArray[np.int64] = table.column("user_id").to_numpy()[window_N]
    return ids


def figures(said: Said, plain: Said) -> dict[str, Any]:
    """Log loss and calibration against the final outcomes, and the difference of the log loss to `plain`'s."""
    users = UserBootstrap(said.user_N)
    loss_N, plain_N = (
        -np.log(np.clip(np.where(s.gained_N == 1, s.predicted_N, 1 - s.predicted_N), 1e-7, 1)) for s in (said, plain)
    )
    count_R, loss_R, plain_R, predicted_R, gained_R = users.sums(
        np.stack([np.ones_like(loss_N), loss_N, plain_N, said.predicted_N, said.gained_N], axis=1)
    ).T
    return {
        "logloss": estimate(loss_R / count_R),
        "logloss_minus_none": estimate((loss_R - plain_R) / count_R),
        "predicted_over_observed": estimate(predicted_R / np.maximum(gained_R, 1)),
        "labels": len(loss_N),
        "rate": float(said.gained_N.mean()),
    }


def measure(
    lake: Lake, dataset: Dataset, first: str, last: str, until: str, configs: Configs
) -> dict[str, dict[str, Any]]:
    """By late gain and correction, the figures. Raises UserError where the dataset has no late gain."""
    if not dataset.late_gains:
        raise UserError(f"every gain of {dataset.name} comes with its exposure: there is nothing to correct")
    tried = {
        FINAL: None,
        NONE: FeedbackConfig(correction=NONE),
        **{f"{WAIT} {days} days": FeedbackConfig(WAIT, days) for days in _WAITING_DAYS},
        LIKELIHOOD: FeedbackConfig(LIKELIHOOD),
    }
    found: dict[str, dict[str, Said]] = {}
    for name, feedback in tried.items():
        found[name] = predictions(lake, dataset, first, last, until, configs, feedback)
        print(f"{name}: done", flush=True)
    return {
        gain: {name: figures(said[gain], found[NONE][gain]) for name, said in found.items()}
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
    model, loss, train = preset(args.preset, dataset.name)
    configs = model, loss, replace(train, max_epochs=args.max_epochs, seed=args.seed, members=1)
    found = measure(lake, dataset, args.first_day, args.last_day, args.until, configs)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    for gain, by_correction in found.items():
        print("\n".join(as_lines(gain, by_correction)))


if __name__ == "__main__":
    exit_with_one_line(main)
