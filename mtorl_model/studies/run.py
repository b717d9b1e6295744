"""Run a study: train its variants on some users, measure them on others, compare each with the reference.

python -m mtorl_model.studies.run --dataset D --lake LAKE --study ablation|departures|steps|lambda|mu
    [--folds 2] [--seeds 1] [--workers 1] [--max-epochs N]

Writes `LAKE/studies/dataset=D/<study>.csv` (a row a variant and figure), `<study>.json` (the protocol) and
`<study>.svg`, and a run in MLflow with all three. Killed and started again, it goes on behind the last training.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lakehouse.lake import Lake
from mtorl_model.champion.registry import log_files
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.metrics import Figures, channel_figures, is_predictable, reward_metrics, top_name
from mtorl_model.studies.cross_validation import FOLDS, HeldOut, Setting, cross_validate
from mtorl_model.studies.files import publish_study
from mtorl_model.studies.pictures import draw
from mtorl_model.studies.variants import REFERENCE, STUDIES, Variant, repetitions
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line

COLUMNS = (
    "variant", "at", "figure", "value", "low", "high", "difference", "difference_low", "difference_high",
)  # fmt: skip
_CHANNEL = ("f1_macro", "recall_macro", "accuracy")
_REWARD = ("auc", "logloss", top_name(0.375))


def run_study(
    lake: Lake, dataset: Dataset, name: str, *, folds: int, seeds: int, workers: int, max_epochs: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the CSV, and what its JSON says."""
    variants = [_shortened(v, max_epochs) for v in (*STUDIES[name].variants(dataset.name), *repetitions(dataset.name))]
    # The settings of one variant differ in their seed alone; an ensemble's seeds do not overlap.
    settings = [_seed(v, v.block * seeds + number) for v in variants for number in range(seeds)]
    found = cross_validate(lake, dataset.name, settings, folds=folds, workers=workers)
    users = UserBootstrap(found[0].user_N)
    figures = {
        variant.name: _mean([_figures(h, dataset, users) for h in found[at * seeds : (at + 1) * seeds]])
        for at, variant in enumerate(variants)
    }
    rows = [_row(v, name, figures[v.name], figures[REFERENCE]) for v in variants for name in figures[REFERENCE]]
    at = next(at for at, v in enumerate(variants) if v.name == REFERENCE)
    first, setting = found[at * seeds], variants[at].setting
    told = {
        "protocol": f"cross-validation by user over {folds} of {FOLDS} folds of the training and validation users; "
        f"no test user; mean of {seeds} training{'s' * (seeds > 1)} a variant and fold",
        "dataset": dataset.name,
        "study": name,
        "question": STUDIES[name].question,
        "users": users.users,
        "labels": len(first.action_N),
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences are paired",
        "channel_predictable": is_predictable(first.action_N, first.unadjusted_NA, first.user_N),
        "repetitions": [v.name for v in variants if v.is_repetition],
        "reference": {part: json.loads(getattr(setting, part).to_json()) for part in ("model", "loss", "train")},
        "command": f"make study DATASET={dataset.name} STUDY={name} FOLDS={folds} SEEDS={seeds}"
        + (f" EPOCHS={max_epochs}" if max_epochs else ""),
    }
    return rows, told


def _shortened(variant: Variant, max_epochs: int | None) -> Variant:
    if max_epochs is None:
        return variant
    setting = variant.setting
    return replace(variant, setting=replace(setting, train=replace(setting.train, max_epochs=max_epochs)))


def _seed(variant: Variant, number: int) -> Setting:
    setting = variant.setting
    seed = setting.train.seed + number * setting.train.members
    return replace(setting, train=replace(setting.train, seed=seed))


def _figures(held_out: HeldOut, dataset: Dataset, users: UserBootstrap) -> Figures:
    width = held_out.policy_NA.shape[1]
    channel = channel_figures(held_out.action_N, held_out.policy_NA.argmax(axis=1), width, users)
    figures = {f"channel {name}": channel[name] for name in _CHANNEL}
    for k, gain in enumerate(dataset.gain_names):
        reward = reward_metrics(held_out.gain_NG[:, k], held_out.predicted_NG[:, k], users).figures
        figures |= {f"{gain} {name}": reward[name] for name in _REWARD}
    return figures


def _mean(several: Sequence[Figures]) -> Figures:
    return {name: np.mean([figures[name] for figures in several], axis=0) for name in several[0]}


def _row(variant: Variant, name: str, figures: Figures, of_reference: Figures) -> dict[str, Any]:
    own, difference = estimate(figures[name]), estimate(figures[name] - of_reference[name])
    compared = variant.name != REFERENCE
    return dict(
        zip(
            COLUMNS,
            (variant.name, variant.at, name, *own.values(), *(difference.values() if compared else (None,) * 3)),
            strict=True,
        )
    )


def _workers() -> int:
    """One on a GPU, else a core each, but no more than four: every one has the steps in memory."""
    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--study", required=True, choices=list(STUDIES))
    parser.add_argument("--folds", type=int, default=2, help=f"how many of the {FOLDS} folds, 1 to {FOLDS}")
    parser.add_argument("--seeds", type=int, default=1, help="trainings a variant and fold")
    parser.add_argument("--workers", type=int, default=_workers(), help="trainings at once (default: %(default)s)")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; the preset's where left out")
    args = parser.parse_args()
    if not 1 <= args.folds <= FOLDS:
        raise UserError(f"--folds {args.folds}: choose 1 to {FOLDS}")
    for option in ("seeds", "workers", "max_epochs"):
        if (getattr(args, option) or 1) < 1:
            raise UserError(f"--{option.replace('_', '-')} {getattr(args, option)}: at least 1")
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    rows, told = run_study(
        lake, dataset, args.study,
        folds=args.folds, seeds=args.seeds, workers=args.workers, max_epochs=args.max_epochs,
    )  # fmt: skip
    axis = STUDIES[args.study].axis
    files = publish_study(lake, dataset, args.study, rows, told, lambda file: draw(rows, told, axis, file))
    log_files(lake, dataset, f"study {args.study}", {"folds": args.folds, "seeds": args.seeds}, files)
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    exit_with_one_line(main)
