"""Table 2 of the paper on users never seen: every method with the same folds, windows and tuning budget.

python -m mtorl_model.studies.baselines.study --dataset D --lake LAKE [--trials 10] [--folds 2] [--seeds 2]
    [--max-epochs N] [--methods din cql ...]

Each method is tuned with the same number of trials (tuning.py), then trained in every fold with every seed, and
measured on the fold's held-out users. Figures are means over the seeds, intervals are over users, differences to MTORL
are paired. Where the log drew channels at random, the value of every method's channels is estimated (policy_values.py);
a good imitation of the log may be worth little. No user of the test split is read. A killed study continues where it
stopped.

Writes `LAKE/D/studies/baselines.json`.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.lake import Lake
from lakehouse.storage.files import write_whole
from mtorl_model.evaluation.bootstrap import UserBootstrap, estimate
from mtorl_model.evaluation.metrics import Figures, channel_figures, reward_metrics
from mtorl_model.methods.method import MethodConfig, Prediction
from mtorl_model.studies.baselines.folds import HeldOut, Labels, fold_of, held_out_prediction
from mtorl_model.studies.baselines.policy_values import policy_values
from mtorl_model.studies.baselines.spaces import REFERENCE, add_compared_methods, base_config, methods_of_command
from mtorl_model.studies.baselines.tuning import tuned
from mtorl_model.studies.cross_validation import FOLDS
from schemas.dataset import Dataset
from schemas.errors import UserError, exit_with_one_line

NAME = "baselines"
_CHANNEL = ("f1_macro", "precision_macro", "recall_macro", "accuracy")
_REWARD = ("auc", "logloss")


def run_study(
    lake: Lake, dataset: Dataset, methods: Sequence[str], *, trials: int, folds: int, seeds: int,
    max_epochs: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The content of baselines.json. methods must contain REFERENCE."""
    # All before the first training: a missing library would end the study after hours.
    untuned = {name: base_config(name, dataset.name, max_epochs) for name in methods}
    configs: dict[str, MethodConfig] = {}
    trainings: dict[str, list[list[HeldOut]]] = {}
    for name in methods:
        configs[name] = tuned(lake, dataset.name, name, untuned[name], trials)
        trainings[name] = [
            [held_out_prediction(lake, dataset.name, name, seeded(configs[name], seed), k) for k in range(folds)]
            for seed in range(seeds)
        ]
        print(f"{name}: {seeds} x {folds} trainings", flush=True)
    labels = [fold_of(lake, dataset.name, k, configs[REFERENCE].steps).held_out for k in range(folds)]
    users = UserBootstrap(np.concatenate([part.user_N for part in labels]))
    figures = {name: _mean([_figures(parts, labels, dataset) for parts in trainings[name]]) for name in methods}
    rows = [
        {
            "method": name, "figure": figure, **estimate(value_R),
            "difference": None if name == REFERENCE else estimate(value_R - figures[REFERENCE][figure]),
        }
        for name in methods
        for figure, value_R in figures[name].items()
    ]  # fmt: skip
    return {
        "protocol": f"unseen users: cross-validation by user over {folds} of {FOLDS} folds of the training and "
        f"validation users; {trials} tuning trials for each method; mean of {seeds} trainings for each fold",
        "dataset": dataset.name,
        "users": users.users,
        "labels": sum(len(part.action_N) for part in labels),
        "interval": f"95 %, {users.replicates} bootstrap draws of users; differences to {REFERENCE} are paired",
        "settings": {name: json.loads(config.to_json()) for name, config in configs.items()},
        "rows": rows,
        "value": policy_values(lake, dataset.name, labels, trainings),
        "command": f"make study STUDY={NAME} DATASET={dataset.name} TRIALS={trials} FOLDS={folds} SEEDS={seeds}"
        + (f" EPOCHS={max_epochs}" if max_epochs else "")
        + methods_of_command(methods),
    }


def seeded(config: MethodConfig, seed: int) -> MethodConfig:
    """The config with the seed of a training; trees have the name tree_seed for theirs."""
    names = {"seed", "tree_seed"} & config.settings().keys()
    return config.changed(dict.fromkeys(names, seed))


def _figures(parts: Sequence[HeldOut], labels: Sequence[Labels], dataset: Dataset) -> Figures:
    """The figures of one seed over all folds, for the kinds that the method predicts."""
    prediction = Prediction.concatenate([part.prediction for part in parts])
    action_N, user_N, gain_NG = (
        np.concatenate([getattr(part, name) for part in labels]) for name in ("action_N", "user_N", "gain_NG")
    )
    figures: Figures = {}
    if prediction.policy_XA is not None:
        known_N = action_N >= 0
        guess_N, channels = prediction.policy_XA[known_N].argmax(axis=1), prediction.policy_XA.shape[1]
        channel = channel_figures(action_N[known_N], guess_N, channels, UserBootstrap(user_N[known_N]))
        figures |= {f"channel {name}": channel[name] for name in _CHANNEL}
    if prediction.gains_XG is not None:
        users = UserBootstrap(user_N)
        for k, gain in enumerate(dataset.gain_names):
            reward = reward_metrics(gain_NG[:, k], prediction.gains_XG[:, k], users).figures
            figures |= {f"{gain} {name}": reward[name] for name in _REWARD}
    return figures


def _mean(trainings: Sequence[Figures]) -> Figures:
    return {name: np.mean([figures[name] for figures in trainings], axis=0) for name in trainings[0]}


def as_text(result: dict[str, Any]) -> str:
    """A line for each method, and one for each value."""
    rows = {(row["method"], row["figure"]): row for row in result["rows"]}
    names = list(dict.fromkeys(figure for _, figure in rows))
    lines = [f"{result['users']:,} users, {result['labels']:,} labels; {result['protocol']}", f"{'':16}"]
    lines[1] += "".join(f"{name:>26}" for name in names)
    for method in result["settings"]:
        cells = [f"{rows[method, name]['value']:.4f}" if (method, name) in rows else "-" for name in names]
        lines.append(f"{method:16}" + "".join(f"{cell:>26}" for cell in cells))
    value = result["value"]
    lines.append(f"value: {'identified' if value['identified'] else 'not identified'} ({value['why']})")
    lines += [f"{row['policy']:24}{row['estimator']:>8} {row['value']:.4f}" for row in value["rows"] if "value" in row]
    return "\n".join(lines)


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--trials", type=int, default=10, help="tuning trials for each method; 0: the presets")
    parser.add_argument("--folds", type=int, default=2, help=f"how many of the {FOLDS} folds, 1 to {FOLDS}")
    parser.add_argument("--seeds", type=int, default=2, help="trainings for each fold")
    parser.add_argument("--max-epochs", type=int, metavar="N", help="at most; default: as many as the preset")
    add_compared_methods(parser)
    args = parser.parse_args()
    if not 1 <= args.folds <= FOLDS:
        raise UserError(f"--folds {args.folds}: choose 1 to {FOLDS}")
    require_at_least(args, seeds=1, trials=0, max_epochs=1)
    lake, dataset = lake_of(args), dataset_of(args)
    methods = list(dict.fromkeys([REFERENCE, *args.methods]))
    sizes = {"trials": args.trials, "folds": args.folds, "seeds": args.seeds}
    result = run_study(lake, dataset, methods, max_epochs=args.max_epochs, **sizes)
    path = lake.studies(dataset) / f"{NAME}.json"
    write_whole(path, json.dumps(result, indent=1) + "\n")
    print(as_text(result))
    print(path)


if __name__ == "__main__":
    exit_with_one_line(main)
