"""Search the paper's hyper-parameters (table 4) for a dataset, with Optuna.

python -m mtorl_model.studies.search --dataset D --lake LAKE --trials N
    [--hidden-at-most D] [--max-epochs 10] [--seed 0] [--device auto]

Trials train on the training users. Their objective is the lowest validation loss (policy + reward, unweighted, so that
lambda and mu cannot lower it); no test user is read. A trial that is above the median of the earlier trials after the
same number of epochs is pruned. Optuna's study is stored in the scratch folder of the machine: a later call continues
up to N trials in all, and repeats a trial that was killed. The first trial has the preset's own values.

Table 4's embedding size has no counterpart here: x_t has the hidden size (equation 4).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from lakehouse.lake import Lake
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.champion.registry import log_files
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.methods.method import Run
from mtorl_model.methods.mtorl.config import preset
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies.files import publish_study
from mtorl_model.studies.pictures import draw_search
from mtorl_model.studies.setting import Setting
from mtorl_model.studies.training_pool import training_pool
from mtorl_model.training.loop import forget_compiled
from schemas.dataset import Dataset
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
_STARTUP_TRIALS = 5  # are never pruned
_HEARTBEAT_S = 30


def setting_of(base: Setting, params: Mapping[str, Any]) -> Setting:
    """The base with the hyper-parameters of a trial."""
    model = replace(
        base.model,
        hidden=params["hidden"],
        tcn_layers=params["layers"],
        addnorm_layers=params["layers"],
        heads=params["heads"],
        dropout=params["dropout"],
        steps=params["steps"],
    )
    train = replace(
        base.train,
        batch_size=params["batch_size"],
        learning_rate=params["learning_rate"],
        weight_decay=params["weight_decay"],
    )
    return replace(base, model=model, train=train)


def params_of(setting: Setting) -> dict[str, Any]:
    """The hyper-parameters of a setting: the inverse of setting_of."""
    model, train = setting.model, setting.train
    return {
        "batch_size": train.batch_size,
        "learning_rate": train.learning_rate,
        "dropout": model.dropout,
        "weight_decay": train.weight_decay,
        "hidden": model.hidden,
        "layers": model.tcn_layers,
        "heads": model.heads,
        "steps": model.steps,
    }


class Objective:
    """The lowest validation loss of the training of a trial."""

    def __init__(self, lake: Lake, dataset: Dataset, base: Setting, space: Mapping[str, tuple[float, ...]]) -> None:
        self.encoder, self.pool = training_pool(lake, dataset.name, base.model.reward_form)
        self.base, self.space = base, space
        self.split_U = np.array([split_of(user) for user in self.pool.user_U.tolist()])

    def __call__(self, trial: "optuna.Trial") -> float:
        import optuna

        params = {name: trial.suggest_categorical(name, values) for name, values in self.space.items()}
        setting = setting_of(self.base, params)

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
    """Optuna's study after `trials` trials in all, those of earlier calls included."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objective = Objective(lake, dataset, base, space)
    study = _open_study(lake, dataset, objective)
    base_params = params_of(base)
    if all(base_params[name] in values for name, values in space.items()) and base_trial(study, base) is None:
        study.enqueue_trial(base_params)

    def print_trial(_: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        loss = f"{trial.value:.4f}" if trial.state == optuna.trial.TrialState.COMPLETE else trial.state.name.lower()
        print(f"trial {len(finished_trials(study))} of {trials}: {loss} {trial.params}", flush=True)

    def stop(study: optuna.Study, _: optuna.trial.FrozenTrial) -> None:
        if len(finished_trials(study)) >= trials:
            study.stop()

    # A training that diverges raises UserError: its trial has failed, and the search continues with the next one.
    if len(finished_trials(study)) < trials:
        study.optimize(objective, n_trials=2 * trials, callbacks=[print_trial, stop], catch=(UserError,))
    return study


def _open_study(lake: Lake, dataset: Dataset, objective: Objective) -> "optuna.Study":
    """Create the study in the lake, or load it. Other sequences, another space or another base give another study."""
    import optuna

    # SQLite needs a disk of this machine, where the lake may not be.
    lake_digest = hashlib.sha256(str(lake.root).encode()).hexdigest()[:16]
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{scratch_folder('searches') / f'{lake_digest}-{dataset.name}.db'}",
        heartbeat_interval=_HEARTBEAT_S,
        heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
    )
    base, spec = objective.base, objective.encoder.spec
    sequences = lake.fingerprints(SEQUENCES, dataset, lake.days(SEQUENCES, dataset)).values()
    parts = [*sequences, spec.version, base.model.to_json(), base.loss.to_json(), base.train.to_json()]
    identity = hashlib.sha256("\n".join([*parts, json.dumps(dict(objective.space))]).encode()).hexdigest()[:12]
    study = optuna.create_study(
        storage=storage,
        study_name=identity,
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
    )
    # A sampler with the same seed would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=base.train.seed + len(study.trials))
    return study


def base_trial(study: "optuna.Study", base: Setting) -> "optuna.trial.FrozenTrial | None":
    """The finished trial with the hyper-parameters of the base."""
    return next((trial for trial in finished_trials(study) if trial.params == params_of(base)), None)


def finished_trials(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials that ended without an error, pruned ones included."""
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def publish_search(
    study: "optuna.Study", base: Setting, protocol: Mapping[str, Any], lake: Lake, dataset: Dataset
) -> list[Path]:
    """Write search.csv (one row per trial), search.svg and search.json (the protocol and a summary); their paths."""
    trials = finished_trials(study)
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
    preset_trial = base_trial(study, base)
    summary = {
        "best": study.best_params,
        "best_loss": study.best_value,
        "preset_loss": preset_trial.value if preset_trial else None,
        "trials": len(trials),
        "pruned": sum(row["pruned"] for row in rows),
    }
    names = list(trials[0].params)
    content = {**protocol, **summary}
    return publish_study(lake, dataset, "search", rows, content, lambda file: draw_search(rows, names, file))


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--trials", required=True, type=int, help="in all, those of earlier calls included")
    parser.add_argument("--hidden-at-most", type=int, default=max(SPACE["hidden"]), help="for machines without a GPU")
    parser.add_argument("--max-epochs", type=int, default=10, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    args = parser.parse_args()
    require_at_least(args, trials=1, max_epochs=1, hidden_at_most=int(min(SPACE["hidden"])))
    sizes = tuple(size for size in SPACE["hidden"] if size <= args.hidden_at_most)
    lake, dataset = lake_of(args), dataset_of(args)
    settings = {"max_epochs": args.max_epochs, "seed": args.seed, "device": args.device, "members": 1}
    base = Setting.from_config(preset("small", dataset.name).changed(settings))
    study = search(lake, dataset, base, {**SPACE, "hidden": sizes}, args.trials)
    protocol = {
        "protocol": "trained on training users, judged by the lowest validation loss (policy + reward) of validation "
        "users; no test user; one training per trial",
        "dataset": dataset.name,
        "command": f"make search DATASET={dataset.name} TRIALS={args.trials} HIDDEN={max(sizes)} "
        f"EPOCHS={args.max_epochs}",
    }
    files = publish_search(study, base, protocol, lake, dataset)
    params = {"trials": args.trials, "hidden_at_most": max(sizes), "max_epochs": args.max_epochs}
    log_files(lake, dataset, "search", params, files)
    print(f"best: {study.best_value:.4f} with {study.best_params}")
    print("\n".join(map(str, files)))


if __name__ == "__main__":
    exit_with_one_line(main)
