"""The published protocol, for comparison with the paper only: IT LEAKS, and its figures are marked as leaking.

python -m mtorl_model.studies.published --dataset D --lake LAKE --out published.json
    [--method mtorl] [--preset small] [--windows 4000] [--max-epochs N] [--seed 0] [--device auto]

As in the authors' code, windows of n steps are drawn at random, with replacement, from the journeys of all users, and
only then split 8 : 1 : 1. So most steps of a test window are also labels in training windows. F1, precision and recall
are macro means at each of the n positions, averaged over the positions. `make evaluate` measures the quality for unseen
users, which is another number.

Only the drawing of the windows follows the paper. The inputs are those of this project: they do not contain a step's
own outcome (fault 6 of the published code), so the figures show the leak of the protocol without that of the code.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.code_version import code_version
from lakehouse.feature_specs import latest_spec
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.step_pool import StepPool
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import MethodConfig, Run, choose_preset
from mtorl_model.studies.baselines.paper import TABLE_2
from mtorl_model.studies.baselines.spaces import CHOICES, REFERENCE
from mtorl_model.studies.position_scores import SCORES, position_scores, score_intervals
from schemas.dataset import Dataset
from schemas.errors import exit_with_one_line
from schemas.tables.feature_spec import FeatureSpec

_WINDOWS_PER_BATCH = 4096


def run_published(
    lake: Lake, dataset: Dataset, spec: FeatureSpec, method: str, config: MethodConfig, windows: int, seed: int = 0
) -> dict[str, Any]:
    """Draw the windows, split them, train one model of the method and measure it: the content of --out."""
    encoder = Encoder(spec, dataset, config.reward_inputs)
    pool = StepPool(lake, dataset, encoder)
    rng = np.random.default_rng(seed)
    step_WL = pool.draw(windows, config.steps, rng)
    train_WL, valid_WL, test_WL = np.split(step_WL, [8 * windows // 10, 9 * windows // 10])
    train, valid, test = (WindowsInMemory(pool.windows(part)) for part in (train_WL, valid_WL, test_WL))
    # A killed run resumes from its last checkpoint when it is started again.
    parts = [method, config.settings(), windows, seed, spec.version, code_version("mtorl_model")]
    identity = json.dumps(parts, sort_keys=True)
    checkpoints = scratch_folder("checkpoints") / hashlib.sha256(identity.encode()).hexdigest()[:16]
    run = Run(checkpoints, identity)
    model = METHODS[method](config, spec, fit_initial_policy(train, spec)).fit(train, valid, run)
    shutil.rmtree(checkpoints, ignore_errors=True)
    policies = [model.predict(batch).policy_XA for batch in test.in_order(_WINDOWS_PER_BATCH)]
    guess_WL = np.concatenate([policy_BLA for policy_BLA in policies if policy_BLA is not None]).argmax(axis=-1)
    action_WL, label_WL = test.windows.action_NL.astype(np.int64), test.windows.label_NL
    user_W = pool.steps["user_id"][test_WL[:, -1]]
    paper = TABLE_2.get(dataset.name, {}).get(method)
    return {
        "protocol": "published (leaks: for comparison with the paper only)",
        "dataset": dataset.name,
        "method": method,
        "windows": windows,
        "epochs": len(run.curves),
        "hidden": config.settings().get("hidden"),
        "seed": seed,
        **position_scores(action_WL, guess_WL, label_WL),
        "intervals": score_intervals(action_WL, guess_WL, label_WL, user_W, seed),
        "share_of_test_steps_also_in_training": float(np.isin(test_WL[label_WL], train_WL[train_WL >= 0]).mean()),
        "paper": dict(zip(SCORES, paper, strict=True)) if paper else None,
    }


def as_text(results: dict[str, Any]) -> str:
    leaked_share = results["share_of_test_steps_also_in_training"]
    lines = [
        f"published protocol on {results['dataset']}, {results['method']}: {results['windows']:,} windows, "
        f"d = {results['hidden']}, {results['epochs']} epochs",
        f"it leaks: {leaked_share:.0%} of the test steps are also in training windows",
    ]
    for name in SCORES:
        paper = f" (paper: {results['paper'][name]:.4f})" if results["paper"] else ""
        low, high = results["intervals"][name]
        lines.append(f"{name:<16} {results[name]:.4f} [{low:.4f}, {high:.4f}]{paper}")
    return "\n".join(lines)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: its place among the lake's studies")
    parser.add_argument("--method", default=REFERENCE, choices=CHOICES)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--windows", type=int, default=4000, help="default %(default)s, as in the authors' code")
    parser.add_argument("--max-epochs", type=int, default=100, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    require_at_least(args, windows=10, max_epochs=1)
    # The leak rewards a model that has memorised the training windows. So there is no regularisation, all epochs run,
    # and the weights of the last epoch are kept: the validation loss, which is best early, would keep a model that has
    # memorised little.
    settings = {
        "max_epochs": args.max_epochs, "patience": args.max_epochs, "keep": "last", "seed": args.seed,
        "device": args.device, "members": 1, "dropout": 0.0, "category_dropout": 0.0, "prior_adjustment": 0.0,
    }  # fmt: skip
    config = choose_preset(METHODS[args.method].presets(dataset.name), args.preset)
    settings = {name: value for name, value in {**settings, "trees": False}.items() if name in config.settings()}
    spec, _ = latest_spec(lake, dataset.name)
    results = run_published(lake, dataset, spec, args.method, config.changed(settings), args.windows, args.seed)
    results["command"] = (
        f"make benchmark-published DATASET={dataset.name} PRESET={args.preset} WINDOWS={args.windows} "
        f"EPOCHS={args.max_epochs} SEED={args.seed}" + (f" METHOD={args.method}" if args.method != REFERENCE else "")
    )
    name = "published" if args.method == REFERENCE else f"published_{args.method}"
    out = args.out or lake.studies(dataset) / f"{name}.json"
    write_whole(out, json.dumps(results, indent=1) + "\n")
    print(as_text(results))
    print(out)


if __name__ == "__main__":
    exit_with_one_line(main)
