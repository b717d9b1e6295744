"""Train a method on a fold of the training and validation users, and keep its predictions for the other users.

The folds are those of cross_validation.py; no user of the test split is read.

Shapes: N labels, A channels, G gains, F features, W windows, L steps.
"""

import hashlib
import io
import shutil
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lakehouse.lake import Lake
from lakehouse.storage.files import file_sha256, write_whole
from lakehouse.storage.scratch import scratch_folder
from mtorl_model import methods
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.evaluation.label_predictions import previous_channel
from mtorl_model.methods import METHODS
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Method, MethodConfig, Prediction, Run
from mtorl_model.studies.cross_validation import fold_parts, stored_arrays
from mtorl_model.studies.training_pool import training_pool
from schemas.errors import UserError
from schemas.tables import SEQUENCES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_REWARD_FORM = "binary"  # of the inputs of all methods


class Labels(NamedTuple):
    """The labels of some users, sorted by exposure; previous_N is -1 without a previous channel."""

    exposure_N: Ints
    user_N: npt.NDArray[Any]
    action_N: Ints
    previous_N: Ints
    gain_NG: Floats
    windows: WindowsInMemory
    order_N: Ints

    def at_labels(self, prediction: Prediction) -> Prediction:
        """The prediction of the windows, [W, L], at these labels."""
        return prediction.take(self.windows.windows.label_NL).take(self.order_N)

    def features(self) -> npt.NDArray[np.float32]:
        """The inputs of each label as a row of numbers, [N, F]."""
        return self.windows.windows.label_features()[self.order_N]


class Fold(NamedTuple):
    """The windows that a method learns from and stops by, and the labels to be predicted."""

    train: WindowsInMemory
    stop: Labels
    held_out: Labels


@cache
def fold_of(lake: Lake, dataset: str, fold: int, steps: int) -> Fold:
    """Cut the windows of a fold. Raises UserError if a part has no windows."""
    _, pool = training_pool(lake, dataset, _REWARD_FORM)
    parts = []
    for users_U in fold_parts(pool.user_U, fold):
        step_WL, label_WL = pool.cut(users_U, steps)
        if not len(step_WL):
            raise UserError(f"too few users of {dataset} in {lake.root} to compare methods")
        windows = pool.windows(step_WL, label_WL)
        time_WL = np.where(step_WL >= 0, pool.steps["exposed_at_ms"][np.maximum(step_WL, 0)], -1)
        previous_WL = previous_channel(windows.action_NL, time_WL)
        label_WL = windows.label_NL
        exposure_N = pool.steps["exposure_id"][step_WL[label_WL]]
        order_N = np.argsort(exposure_N)
        parts.append(
            Labels(
                exposure_N[order_N],
                pool.steps["user_id"][step_WL[label_WL]][order_N],
                windows.action_NL[label_WL].astype(np.int64)[order_N],
                previous_WL[label_WL][order_N],
                windows.gains_NLG[label_WL].astype(np.float64)[order_N],
                WindowsInMemory(windows),
                order_N,
            )
        )
    train, stop, held_out = parts
    return Fold(train.windows, stop, held_out)


def trained(lake: Lake, dataset: str, name: str, config: MethodConfig, fold: Fold, run: Run) -> Method:
    """The method, fitted on the fold."""
    spec = training_pool(lake, dataset, _REWARD_FORM)[0].spec
    model = METHODS[name](config, spec, fit_initial_policy(fold.train, spec))
    return model.fit(fold.train, fold.stop.windows, run)


def predict(model: Method, labels: Labels) -> Prediction:
    """The predictions for the labels, [N]."""
    return labels.at_labels(
        Prediction.concatenate([model.predict(b) for b in labels.windows.in_order(WINDOWS_AT_ONCE)])
    )


class HeldOut(NamedTuple):
    """A training's predictions for the held-out labels of its fold, and the best channel of its training users."""

    prediction: Prediction
    best_fixed: int


def held_out_prediction(lake: Lake, dataset: str, name: str, config: MethodConfig, fold_number: int) -> HeldOut:
    """Train and predict, or read the predictions of an earlier call; a killed training resumes from its checkpoint."""
    identity = "\n".join([name, config.to_json(), str(fold_number), inputs_digest(lake, dataset)])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:20]
    file = lake.studies(dataset) / "baselines" / f"{name}_{digest}.npz"
    if not file.exists():
        fold = fold_of(lake, dataset, fold_number, config.steps)
        checkpoints = scratch_folder("checkpoints") / digest
        model = trained(lake, dataset, name, config, fold, Run(checkpoints, identity))
        _write(file, HeldOut(predict(model, fold.held_out), model.initial_policy.best_fixed))
        shutil.rmtree(checkpoints, ignore_errors=True)
    return _read(file)


def _write(file: Path, held_out: HeldOut) -> None:
    buffer = io.BytesIO()
    arrays = {name: array for name, array in held_out.prediction._asdict().items() if array is not None}
    np.savez(buffer, allow_pickle=False, best_fixed=held_out.best_fixed, **arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, buffer.getvalue())


def _read(file: Path) -> HeldOut:
    arrays = stored_arrays(file)
    prediction = Prediction(**{name: arrays[name] for name in Prediction._fields if name in arrays})
    return HeldOut(prediction, int(arrays["best_fixed"]))


@cache
def inputs_digest(lake: Lake, dataset: str) -> str:
    """A digest of everything but the config that a training depends on: sequences, feature spec, code that trains."""
    spec = training_pool(lake, dataset, _REWARD_FORM)[0].spec
    sequences = lake.fingerprints(SEQUENCES, dataset, lake.days(SEQUENCES, dataset)).values()
    package = Path(methods.__file__).parent.parent
    files = sorted(path for folder in ("data", "methods", "training") for path in (package / folder).rglob("*.py"))
    return "\n".join([*sequences, spec.version, *map(file_sha256, files)])
