"""Run a study: train its variants on some users, measure them on others, compare each with the reference.

python -m mtorl_model.studies.run --dataset D --lake LAKE --study ablation|departures|steps|lambda|mu
    [--folds 2] [--seeds 1] [--workers 1] [--max-epochs N]

Writes `LAKE/D/studies/<study>.csv` (one row per variant and figure), `<study>.json` (the protocol) and
`<study>.svg`, and a run in MLflow with all three. A killed run resumes after its last finished training.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.lake import Lake
from mtorl_model.champion.registry import log_files
from mtorl_model.evaluation.bootstrap import UserBootstrap
from mtorl_model.evaluation.metrics import Figures, channel_figures, is_predictable, reward_metrics, top_name
from mtorl_model.studies.cross_validation import FOLDS, HeldOut, cross_validate
from mtorl_model.studies.files import publish_study, study_row
from mtorl_model.studies.pictures import draw
from mtorl_model.studies.setting import Setting
from mtorl_model.studies.variants import REFERENCE, STUDIES, Variant, repetitions
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line

_CHANNEL = ("f1_macro", "recall_macro", "accuracy")
_REWARD = ("auc", "logloss", top_name(0.375))


def run_study(
    lake: Lake, dataset: Dataset, name: str, *, folds: int, seeds: int, workers: int, max_epochs: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the CSV, and the protocol of the JSON."""
    variants = [*STUDIES[name].variants(dataset.name), *repetitions(dataset.name)]
    variants = [_limit_epochs(variant, max_epochs) for variant in variants]
    # The settings of one variant differ only in their seed. The seeds of ensembles do not overlap.
    settings = [
        _seeded(variant, variant.seed_block * seeds + number) for variant in variants for number in range(seeds)
    ]
    held_out = cross_validate(lake, dataset.name, settings, folds=folds, workers=workers)
    users = UserBootstrap(held_out[0].user_N)
    figures = {
        variant.name: _mean([_figures(h, dataset, users) for h in held_out[k * seeds : (k + 1) * seeds]])
        for k, variant in enumerate(variants)
    }
    rows = [
        study_row(variant.name, variant.axis_value, figure, figures[variant.name][figure], figures[REFERENCE][figure])
        for variant in variants
        for figure in figures[REFERENCE]
    ]
    k = next(k for k, variant in enumerate(variants) if variant.name == REFERENCE)
    first, setting = held_out[k * seeds], variants[k].setting
    protocol = {
        "protocol": f"cross-validation by user over {folds} of {FOLDS} folds of the training and validation users; "
        f"no test user; mean of {seeds} training{'s' * (seeds > 1)} per variant and fold",
        "dataset": dataset.name,
        "study": name,
        "question": STUDIES[name].question,
        "users": users.users,
        "labels": len(first.action_N),
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences are paired",
        "channel_predictable": is_predictable(first.action_N, first.unadjusted_NA, first.user_N),
        "repetitions": [variant.name for variant in variants if variant.is_repetition],
        "reference": {part: json.loads(getattr(setting, part).to_json()) for part in ("model", "loss", "train")},
        "command": f"make study DATASET={dataset.name} STUDY={name} FOLDS={folds} SEEDS={seeds}"
        + (f" EPOCHS={max_epochs}" if max_epochs else ""),
    }
    return rows, protocol


def _limit_epochs(variant: Variant, max_epochs: int | None) -> Variant:
    if max_epochs is None:
        return variant
    setting = variant.setting
    return replace(variant, setting=replace(setting, train=replace(setting.train, max_epochs=max_epochs)))


def _seeded(variant: Variant, number: int) -> Setting:
    """The setting with the seed of its training of that number."""
    setting = variant.setting
    seed = setting.train.seed + number * setting.train.members
    return replace(setting, train=replace(setting.train, seed=seed))


def _figures(held_out: HeldOut, dataset: Dataset, users: UserBootstrap) -> Figures:
    channels = held_out.policy_NA.shape[1]
    channel = channel_figures(held_out.action_N, held_out.policy_NA.argmax(axis=1), channels, users)
    figures = {f"channel {name}": channel[name] for name in _CHANNEL}
    for k, gain in enumerate(dataset.gain_names):
        reward = reward_metrics(held_out.gain_NG[:, k], held_out.predicted_NG[:, k], users).figures
        figures |= {f"{gain} {name}": reward[name] for name in _REWARD}
    return figures


def _mean(trainings: Sequence[Figures]) -> Figures:
    return {name: np.mean([figures[name] for figures in trainings], axis=0) for name in trainings[0]}


def _default_workers() -> int:
    """A GPU has one worker, a CPU one per core up to four: each worker has all steps in memory."""
    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 4)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--study", required=True, choices=list(STUDIES))
    parser.add_argument("--folds", type=int, default=2, help=f"how many of the {FOLDS} folds, 1 to {FOLDS}")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per variant and fold")
    parser.add_argument("--workers", type=int, default=_default_workers(), help="parallel trainings; %(default)s here")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; default: as many as the preset")
    args = parser.parse_args()
    if not 1 <= args.folds <= FOLDS:
        raise UserError(f"--folds {args.folds}: choose 1 to {FOLDS}")
    require_at_least(args, seeds=1, workers=1, max_epochs=1)
    lake, dataset = lake_of(args), dataset_of(args)
    sizes = {"folds": args.folds, "seeds": args.seeds}
    rows, protocol = run_study(lake, dataset, args.study, workers=args.workers, max_epochs=args.max_epochs, **sizes)
    axis = STUDIES[args.study].axis
    files = publish_study(lake, dataset, args.study, rows, protocol, lambda file: draw(rows, protocol, axis, file))
    log_files(lake, dataset, f"study {args.study}", sizes, files)
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    exit_with_one_line(main)
