"""The published protocol, for comparison with the paper only: IT LEAKS, and its figures say so.

python -m mtorl_model.studies.published --dataset D --lake LAKE --out published.json
    [--preset small] [--windows 4000] [--max-epochs N] [--seed 0] [--device auto]

As the authors' code does: windows of n steps are drawn at random, with replacement, from the journeys of all users,
and only then split 8 : 1 : 1. Most steps of a test window also stand in training windows, as labels. F1, precision
and recall are macro means at each of the n positions, averaged over the positions. What an unseen user gets is
measured by `make evaluate`, and is another number.

Only the windows are drawn the published way. The inputs are this project's: nothing of a step's own outcome is among
them (fault 6 of the published code), so the figures are those of the protocol's leak, not of that one.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support

from lakehouse.code_version import code_version
from lakehouse.feature_specs import latest_spec
from lakehouse.files import write_whole
from lakehouse.lake import Lake
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.step_pool import StepPool
from mtorl_model.data.window_store import WindowsInMemory
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import PRESETS, MTORLConfig, preset
from mtorl_model.methods.mtorl.method import MTORL
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.tables.feature_spec import FeatureSpec

# Table 2 of the paper: macro-F1, precision, recall.
PAPER = {"kuairand": (0.6793, 0.6811, 0.6798), "criteo": (0.5002, 0.5424, 0.4893)}
NAMES = ("f1_macro", "precision_macro", "recall_macro")
_WINDOWS_AT_ONCE = 4096
_REPLICATES = 200

Ints = npt.NDArray[np.int64]


def per_step_scores(action_WL: Ints, guess_WL: Ints, label_WL: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Macro-F1, precision and recall at each position, averaged over the positions that have labels."""
    found = [
        precision_recall_fscore_support(action_W[label_W], guess_W[label_W], average="macro", zero_division=0)[:3]
        for action_W, guess_W, label_W in zip(action_WL.T, guess_WL.T, label_WL.T, strict=True)
        if label_W.any()
    ]
    precision, recall, f1 = np.mean(found, axis=0)
    return dict(zip(NAMES, (float(f1), float(precision), float(recall)), strict=True))


def intervals(
    action_WL: Ints, guess_WL: Ints, label_WL: npt.NDArray[np.bool_], user_W: npt.NDArray[Any], seed: int
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each score, from a bootstrap over the users of the windows."""
    names, user_W = np.unique(user_W, return_inverse=True)
    windows_of = np.split(np.argsort(user_W, kind="stable"), np.cumsum(np.bincount(user_W))[:-1])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_REPLICATES):
        rows = np.concatenate([windows_of[user] for user in rng.integers(0, len(names), len(names))])
        drawn.append(per_step_scores(action_WL[rows], guess_WL[rows], label_WL[rows]))
    bounds = {name: np.quantile([scores[name] for scores in drawn], (0.025, 0.975)) for name in NAMES}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def run_published(lake: Lake, dataset: Dataset, spec: FeatureSpec, config: MTORLConfig, windows: int) -> dict[str, Any]:
    """Draw, split, train one model, and measure it: what is written to --out."""
    encoder = Encoder(spec, dataset, config.reward_inputs)
    pool = StepPool(lake, dataset, encoder)
    rng = np.random.default_rng(config.train.seed)
    step_WL = pool.draw(windows, config.steps, rng)
    train_WL, valid_WL, test_WL = np.split(step_WL, [8 * windows // 10, 9 * windows // 10])
    train, valid, test = (WindowsInMemory(pool.windows(part)) for part in (train_WL, valid_WL, test_WL))
    # Killed and started again, it goes on from its last checkpoint.
    parts = [config.settings(), windows, spec.version, code_version("mtorl_model")]
    identity = json.dumps(parts, sort_keys=True)
    checkpoints = lake.table("checkpoints", dataset) / hashlib.sha256(identity.encode()).hexdigest()[:16]
    model = MTORL(config, spec, fit_initial_policy(train, spec)).fit(train, valid, Run(checkpoints, identity))
    shutil.rmtree(checkpoints)
    guesses = [model.predict(batch).policy_XA for batch in test.in_order(_WINDOWS_AT_ONCE)]
    guess_WL = np.concatenate([policy_BLA for policy_BLA in guesses if policy_BLA is not None]).argmax(axis=-1)
    action_WL, label_WL = test.windows.action_NL.astype(np.int64), test.windows.label_NL
    user_W = pool.steps["user_id"][test_WL[:, -1]]
    return {
        "protocol": "published (leaks: for comparison with the paper only)",
        "dataset": dataset.name,
        "windows": windows,
        "epochs": len(model.histories[0].epochs),
        "hidden": config.model.hidden,
        "seed": config.train.seed,
        **per_step_scores(action_WL, guess_WL, label_WL),
        "intervals": intervals(action_WL, guess_WL, label_WL, user_W, config.train.seed),
        "share_of_test_steps_also_in_training": float(np.isin(test_WL[label_WL], train_WL[train_WL >= 0]).mean()),
        "paper": dict(zip(NAMES, PAPER[dataset.name], strict=True)) if dataset.name in PAPER else None,
    }


def as_text(found: dict[str, Any]) -> str:
    leak = found["share_of_test_steps_also_in_training"]
    lines = [
        f"published protocol on {found['dataset']}: {found['windows']:,} windows, d = {found['hidden']}, "
        f"{found['epochs']} epochs",
        f"it leaks: {leak:.0%} of the test steps also stand in training windows",
    ]
    for name in NAMES:
        paper = f" (paper: {found['paper'][name]:.4f})" if found["paper"] else ""
        low, high = found["intervals"][name]
        lines.append(f"{name:<16} {found[name]:.4f} [{low:.4f}, {high:.4f}]{paper}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--windows", type=int, default=4000, help="the authors' number is the default")
    parser.add_argument("--max-epochs", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    dataset, lake = get_dataset(args.dataset), Lake(args.lake)
    if args.windows < 10 or args.max_epochs < 1:
        raise UserError("--windows is at least 10 and --max-epochs at least 1")
    # Most of a random test window is best told by heart: nothing that holds the model back from it, all epochs, and
    # the last one's weights. The validation loss, which is best early, would keep those that know little by heart.
    config = preset(args.preset, dataset.name).changed({
        "max_epochs": args.max_epochs, "patience": args.max_epochs, "keep": "last", "seed": args.seed,
        "device": args.device, "members": 1, "dropout": 0.0, "category_dropout": 0.0, "prior_adjustment": 0.0,
    })  # fmt: skip
    spec, _ = latest_spec(lake, dataset.name)
    found = run_published(lake, dataset, spec, config, args.windows)
    found["command"] = (
        f"make benchmark-published DATASET={dataset.name} PRESET={args.preset} WINDOWS={args.windows} "
        f"EPOCHS={args.max_epochs} SEED={args.seed}"
    )
    write_whole(args.out, json.dumps(found, indent=1) + "\n")
    print(as_text(found))
    print(args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
