"""Tune each method with the same number of trials on the same users.

A trial learns from the training users of the first fold and is judged on the users who decide when to stop: the mean of
the channel's macro-F1 and the gains' AUCs, of those that the method predicts. No held-out user decides a setting.
Optuna's study is stored in the lake, so a later call continues up to the number of trials in all.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.evaluation.bootstrap import UserBootstrap
from mtorl_model.evaluation.metrics import channel_figures, reward_metrics
from mtorl_model.methods.method import MethodConfig, Prediction, Run
from mtorl_model.studies.baselines.folds import Labels, fold_of, inputs_digest, predict, trained
from mtorl_model.studies.baselines.spaces import space_of, start_of
from schemas.errors import UserError

if TYPE_CHECKING:
    import optuna


def score_of(prediction: Prediction, labels: Labels) -> float:
    """The mean of macro-F1 and AUCs; higher is better."""
    no_replicates = UserBootstrap(labels.user_N, replicates=0)
    scores: list[float] = []
    known_N = labels.action_N >= 0
    if prediction.policy_XA is not None:
        users = UserBootstrap(labels.user_N[known_N], replicates=0)
        guess_N, channels = prediction.policy_XA[known_N].argmax(axis=1), prediction.policy_XA.shape[1]
        scores.append(float(channel_figures(labels.action_N[known_N], guess_N, channels, users)["f1_macro"][0]))
    if prediction.gains_XG is not None:
        for gain_N, p_N in zip(labels.gain_NG.T, prediction.gains_XG.T, strict=True):
            scores.append(float(reward_metrics(gain_N, p_N, no_replicates).figures["auc"][0]))
    return float(np.nanmean(scores))


def tuned(lake: Lake, dataset: str, name: str, base: MethodConfig, trials: int) -> MethodConfig:
    """The config of the best trial; the base itself without trials or settings to tune."""
    space = space_of(name, base)
    if not trials or not space:
        return base
    study = _open(lake, dataset, name, base, space)

    def objective(trial: "optuna.Trial") -> float:
        config = base.changed({key: trial.suggest_categorical(key, values) for key, values in space.items()})
        fold = fold_of(lake, dataset, 0, config.steps)
        return score_of(predict(trained(lake, dataset, name, config, fold, Run()), fold.stop), fold.stop)

    def stop(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
        print(f"{name}: trial {_finished(study)} of {trials}: {trial.value} {trial.params}", flush=True)
        if _finished(study) >= trials:
            study.stop()

    # A training that diverges raises UserError: its trial has failed, and the study draws another one.
    if _finished(study) < trials:
        study.optimize(objective, n_trials=2 * trials, callbacks=[stop], catch=(UserError,))
    return base.changed(study.best_params)


def _finished(study: "optuna.Study") -> int:
    return sum(trial.state.name == "COMPLETE" for trial in study.trials)


def _open(
    lake: Lake, dataset: str, name: str, base: MethodConfig, space: Mapping[str, tuple[Any, ...]]
) -> "optuna.Study":
    """Create or load the study. Another base, space, code or other sequences give another study."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file: Path = lake.studies(dataset) / "baselines" / "trials.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    identity = "\n".join([base.to_json(), repr(sorted(space.items())), inputs_digest(lake, dataset)])
    study_name = f"{name}_{hashlib.sha256(identity.encode()).hexdigest()[:12]}"
    study = optuna.create_study(
        storage=f"sqlite:///{file}", study_name=study_name, load_if_exists=True, direction="maximize"
    )
    # A sampler with the same seed would draw the first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    # A trial that was killed has no result, so its settings are tried again.
    start = start_of(base, space)
    same = [trial for trial in study.trials if start in (trial.params, trial.system_attrs.get("fixed_params"))]
    if not any(trial.state.name in ("COMPLETE", "WAITING") for trial in same):
        study.enqueue_trial(start)
    return study
