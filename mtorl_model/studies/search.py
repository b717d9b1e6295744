"""Search the paper's hyper-parameters (table 4) for a dataset, with Optuna.

python -m mtorl_model.studies.search --dataset D --lake LAKE --trials N
    [--hidden-at-most D] [--max-epochs 10] [--seed 0] [--device auto]

Trials train on the training users and are judged by the lowest validation loss (policy + reward, unweighted, so that
lambda and mu could not buy it); no test user is read. A trial that after an epoch stands above the median of the
earlier ones at that epoch is pruned. The study lies in `LAKE/studies/dataset=D/search.db`: started again, it goes on
to N trials in all, and a trial that was killed is tried again. The preset's own values are the first trial.

Table 4's embedding size has no counterpart: x_t has the hidden size (equation 4).
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.feature_specs import latest_spec
from lakehouse.lake import Lake
from mtorl_model.champion.registry import log_files
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.step_pool import StepPool
from mtorl_model.data.window_store import WindowsInMemory
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies.cross_validation import Setting
from mtorl_model.studies.files import publish_study
from mtorl_model.studies.pictures import draw_search
from mtorl_model.training.loop import forget_compiled
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TRAIN, VALIDATION, split_of
from schemas.tables import SEQUENCES

if TYPE_CHECKING:
    import optuna

SPACE: Mapping[str, tuple[float, ...]] = {
    "batch_size": (32, 64, 128, 256, 512, 1024, 2048),
    "learning_rate": (1e-2, 5e-3, 1e-3, 5e-4, 1e-4),
    "dropout": (0.1, 0.2, 0.5),
    "weight_decay": (0.0, 1e-4, 1e-5, 1e-6),
    "hidden": (128, 256, 512, 768),
    "layers": (2, 3, 4),  # L1 and L2
    "heads": (1, 2, 4, 8),
    "steps": (5, 10, 15, 20, 25, 30, 35, 40),
}
_STARTUP_TRIALS = 5  # before any is pruned
_HEARTBEAT_S = 30


def setting_of(base: Setting, chosen: Mapping[str, Any]) -> Setting:
    """The base with the values of one trial."""
    return replace(
        base,
        model=replace(
            base.model, hidden=chosen["hidden"], tcn_layers=chosen["layers"], addnorm_layers=chosen["layers"],
            heads=chosen["heads"], dropout=chosen["dropout"], steps=chosen["steps"],
        ),
        train=replace(
            base.train, batch_size=chosen["batch_size"], learning_rate=chosen["learning_rate"],
            weight_decay=chosen["weight_decay"],
        ),
    )  # fmt: skip


def values_of(setting: Setting) -> dict[str, Any]:
    """The values that setting_of would need for this setting."""
    model, train = setting.model, setting.train
    return {
        "batch_size": train.batch_size, "learning_rate": train.learning_rate, "dropout": model.dropout,
        "weight_decay": train.weight_decay, "hidden": model.hidden, "layers": model.tcn_layers,
        "heads": model.heads, "steps": model.steps,
    }  # fmt: skip


class Objective:
    """The lowest validation loss of one trial's training."""

    def __init__(self, lake: Lake, dataset: Dataset, base: Setting, space: Mapping[str, tuple[float, ...]]) -> None:
        spec, _ = latest_spec(lake, dataset.name)
        self.encoder = Encoder(spec, dataset, base.config.reward_inputs)
        self.pool = StepPool(lake, dataset, self.encoder, splits=(TRAIN, VALIDATION))
        self.base, self.space = base, space
        self.split_U = np.array([split_of(user) for user in self.pool.user_U.tolist()])

    def __call__(self, trial: "optuna.Trial") -> float:
        import optuna

        chosen = {name: trial.suggest_categorical(name, values) for name, values in self.space.items()}
        setting = setting_of(self.base, chosen)

        def prune(epochs: int, best_loss: float) -> None:
            trial.report(best_loss, epochs)
            if trial.should_prune():
                raise optuna.TrialPruned

        train, valid = (self._windows(split, setting.model.steps) for split in (TRAIN, VALIDATION))
        model = MTORL(setting.config, self.encoder.spec, fit_initial_policy(train, self.encoder.spec))
        forget_compiled(setting.train)
        return model.fit(train, valid, Run(after_epoch=prune)).histories[0].best.monitor

    def _windows(self, split: str, steps: int) -> WindowsInMemory:
        return WindowsInMemory(self.pool.windows(*self.pool.cut(self.split_U == split, steps)))


def search(
    lake: Lake, dataset: Dataset, base: Setting, space: Mapping[str, tuple[float, ...]], trials: int
) -> "optuna.Study":
    """The study after `trials` trials in all, those of earlier calls included."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective = Objective(lake, dataset, base, space)
    folder = lake.studies(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / 'search.db'}",
        heartbeat_interval=_HEARTBEAT_S,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    # Other data, another space or another base is another study.
    content = lake.fingerprints(SEQUENCES, dataset, lake.days(SEQUENCES, dataset)).values()
    parts = [*content, objective.encoder.spec.version, base.model.to_json(), base.loss.to_json(), base.train.to_json()]
    identity = hashlib.sha256("\n".join([*parts, json.dumps(dict(space))]).encode()).hexdigest()[:12]
    study = optuna.create_study(
        storage=storage,
        study_name=identity,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
    # A sampler of the same seed would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=base.train.seed + len(study.trials))
    own = values_of(base)
    if all(own[name] in values for name, values in space.items()) and own_trial(study, base) is None:
        study.enqueue_trial(own)

    def tell(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        loss = f"{trial.value:.4f}" if trial.state == optuna.trial.TrialState.COMPLETE else trial.state.name.lower()
        print(f"trial {len(done_trials(study))} of {trials}: {loss} {trial.params}", flush=True)

    def stop(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        if len(done_trials(study)) >= trials:
            study.stop()

    # Some learning rates diverge: such a trial has failed, and the next one is on.
    if len(done_trials(study)) < trials:
        study.optimize(objective, n_trials=2 * trials, callbacks=[tell, stop], catch=(UserError,))
    return study


def own_trial(study: "optuna.Study", base: Setting) -> "optuna.trial.FrozenTrial | None":
    """The finished trial of the base's own values."""
    return next((trial for trial in done_trials(study) if trial.params == values_of(base)), None)


def done_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Those that came to their end, pruned ones included."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def report(study: "optuna.Study", base: Setting, told: Mapping[str, Any], lake: Lake, dataset: Dataset) -> list[Path]:
    """Write search.csv (a row a trial), search.svg and search.json; their paths."""
    trials = done_trials(study)
    rows = [
        {
            "trial": trial.number,
            "validation_loss": trial.value,
            "epochs": len(trial.intermediate_values),
            "pruned": trial.state.name == "PRUNED",
            **trial.params,
        }
        for trial in trials
    ]
    own = own_trial(study, base)
    summary = {
        "best": study.best_params, "best_loss": study.best_value, "preset_loss": own.value if own else None,
        "trials": len(trials), "pruned": sum(row["pruned"] for row in rows),
    }  # fmt: skip
    names = list(trials[0].params)
    return publish_study(
        lake, dataset, "search", rows, {**told, **summary}, lambda file: draw_search(rows, names, file)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--trials", required=True, type=int, help="in all, those of earlier calls included")
    parser.add_argument("--hidden-at-most", type=int, default=max(SPACE["hidden"]), help="for machines without a GPU")
    parser.add_argument("--max-epochs", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    if args.trials < 1 or args.max_epochs < 1:
        raise UserError("--trials and --max-epochs are at least 1")
    sizes = tuple(h for h in SPACE["hidden"] if h <= args.hidden_at_most)
    if not sizes:
        raise UserError(f"--hidden-at-most {args.hidden_at_most}: at least {min(SPACE['hidden'])}")
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    settings = {"max_epochs": args.max_epochs, "seed": args.seed, "device": args.device, "members": 1}
    base = Setting.of(preset("small", dataset.name).changed(settings))
    study = search(lake, dataset, base, {**SPACE, "hidden": sizes}, args.trials)
    told = {
        "protocol": "trained on training users, judged by the lowest validation loss (policy + reward) of validation "
        "users; no test user; one training a trial",
        "dataset": dataset.name,
        "command": f"make search DATASET={dataset.name} TRIALS={args.trials} HIDDEN={max(sizes)} "
        f"EPOCHS={args.max_epochs}",
    }
    files = report(study, base, told, lake, dataset)
    params = {"trials": args.trials, "hidden_at_most": max(sizes), "max_epochs": args.max_epochs}
    log_files(lake, dataset, "search", params, files)
    print(f"best: {study.best_value:.4f} with {study.best_params}")
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    exit_with_one_line(main)
