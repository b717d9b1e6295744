"""Cross-validation by user: train a setting without some users, and keep its predictions for them.

A salted hash cuts the users of the training and validation splits into FOLDS parts. The model of a fold learns from
nine tenths of the users of the other parts; the last tenth decides when to stop; the predictions are for the part of
the fold. No row of a test user is used. All settings of a study share the feature spec, whose vocabularies and scales
come from all training users, the held-out ones included. (No label of a held-out user affects a weight.)

Shapes: N labels, A channels, G gains, U users, W windows, L steps.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from lakehouse.lake import Lake
from lakehouse.storage.files import file_sha256, write_whole
from mtorl_model.data import batch, encoding, initial_policy, reward_inputs
from mtorl_model.data.device import device
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.windows import step_pool, store
from mtorl_model.data.windows.store import WindowsInMemory
from mtorl_model.methods.common import masks
from mtorl_model.methods.common.networks import layers, members, step_losses
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Prediction, Run
from mtorl_model.methods.mtorl import losses, method, network, reward_forms
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.studies import training_pool as pool_module
from mtorl_model.studies.setting import Setting
from mtorl_model.studies.training_pool import training_pool
from mtorl_model.training import loop
from mtorl_model.training.loop import forget_compiled
from schemas.errors import UserError
from schemas.tables import SEQUENCES

FOLDS = 5
_SALT = "mtorl-fold-1"
_STOP_PARTS = 10  # one of this many parts of the users who are not held out decides when to stop

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class HeldOut(NamedTuple):
    """A setting's predictions for users whom it has not learned from, one entry per label, sorted by exposure_id."""

    exposure_N: Ints
    user_N: npt.NDArray[Any]
    action_N: Ints
    gain_NG: Floats
    policy_NA: Floats
    unadjusted_NA: Floats  # the policy before its adjustment for the channels' shares
    predicted_NG: Floats


class Parts(NamedTuple):
    """The users who train, who decide when to stop, and who are held out."""

    train_U: Bools
    stop_U: Bools
    held_out_U: Bools


def fold_parts(user_U: npt.NDArray[Any], fold: int) -> Parts:
    """The parts of the users in a fold, 0 to FOLDS - 1. A user's part does not depend on the other users."""
    digests = [hashlib.sha256(f"{_SALT}:{user}".encode()).hexdigest() for user in user_U]
    held_out_U = np.array([int(digest[:8], 16) % FOLDS == fold for digest in digests], dtype=bool)
    stop_U = np.array([int(digest[8:16], 16) % _STOP_PARTS == 0 for digest in digests], dtype=bool) & ~held_out_U
    return Parts(~held_out_U & ~stop_U, stop_U, held_out_U)


def cross_validate(
    lake: Lake, dataset: str, settings: Sequence[Setting], *, folds: int = FOLDS, workers: int = 1
) -> list[HeldOut]:
    """For each setting the held-out labels of the first `folds` folds, the same labels in the same order.

    workers: trainings that run in parallel, each on its share of the cores. The predictions of finished trainings are
    in `LAKE/studies/.../held_out/` and are used again. Raises UserError if the lake has no sequences.
    """
    trainings = dict.fromkeys(
        training
        for setting in settings
        for fold in range(folds)
        for training in _trainings(lake, dataset, setting, fold)
    )
    missing = [training for training in trainings if not training.file.exists()]
    # Each worker needs a new interpreter, because torch's threads do not survive a fork.
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        for number, finished in enumerate(pool.map(_train, missing), start=1):
            print(f"training {number} of {len(missing)}: {finished.file.name}", flush=True)
    return [_concatenate([_read(lake, dataset, setting, fold) for fold in range(folds)]) for setting in settings]


@dataclass(frozen=True, slots=True)
class _Training:
    """One model of a setting in one fold. setting: with one member, without prior adjustment."""

    lake: Lake
    dataset: str
    setting: Setting
    fold: int

    @property
    def file(self) -> Path:
        """The file of its held-out predictions. The name changes with everything that they depend on."""
        setting = self.setting
        parts = [
            setting.model.to_json(),
            setting.loss.to_json(),
            setting.train.to_json(),
            json.dumps(setting.hidden_inputs),
        ]
        identity = "\n".join([*parts, str(self.fold), _inputs_digest(self.lake, self.dataset)])
        name = f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.npz"
        return self.lake.studies(self.dataset) / "held_out" / name


def _trainings(lake: Lake, dataset: str, setting: Setting, fold: int) -> list[_Training]:
    """One training per member. Settings that differ only in how they predict have the same trainings."""
    seeds = range(setting.train.seed, setting.train.seed + setting.train.members)
    model = replace(setting.model, prior_adjustment=0.0)
    members = [replace(setting, model=model, train=replace(setting.train, seed=seed, members=1)) for seed in seeds]
    return [_Training(lake, dataset, member, fold) for member in members]


@cache
def _inputs_digest(lake: Lake, dataset: str) -> str:
    """A digest of all that a training depends on besides its setting: sequences, code, kind of device."""
    sequences = lake.fingerprints(SEQUENCES, dataset, lake.days(SEQUENCES, dataset)).values()
    modules = (
        batch, store, encoding, reward_inputs, initial_policy, masks, layers, members, step_losses, losses,
        network, reward_forms, method, step_pool, pool_module, loop,
    )  # fmt: skip
    code = [file_sha256(Path(str(module.__file__))) for module in modules] + [file_sha256(Path(__file__))]
    return hashlib.sha256("\n".join([*sequences, *code, device()]).encode()).hexdigest()


def hide_inputs(windows: Encoded, encoder: Encoder, hidden_inputs: Iterable[str]) -> Encoded:
    """The windows with 0, the code of a missing value, in every input whose name begins with one of `hidden_inputs`.

    Raises UserError if no input has such a name.
    """
    beginnings = tuple(hidden_inputs)
    if not beginnings:
        return windows
    names, profile = encoder.input_names, windows.profile_numeric_NF.shape[-1]
    is_categorical_hidden, is_numeric_hidden = (
        np.array([name.startswith(beginnings) for name in kind], dtype=bool) for kind in names[:2]
    )
    if not is_categorical_hidden.any() and not is_numeric_hidden.any():
        raise UserError(f"no input's name begins with {' or '.join(beginnings)}")
    codes = windows.categorical_NLK.shape[-1]
    numbers = len(names.numeric) - profile
    return windows._replace(
        categorical_NLK=np.where(is_categorical_hidden[:codes], 0, windows.categorical_NLK),
        profile_categorical_NK=np.where(is_categorical_hidden[codes:], 0, windows.profile_categorical_NK),
        numeric_NLF=np.where(is_numeric_hidden[:numbers], np.float32(0), windows.numeric_NLF),
        profile_numeric_NF=np.where(is_numeric_hidden[numbers:], np.float32(0), windows.profile_numeric_NF),
    )


def _train(training: _Training) -> _Training:
    """Train, and write the predictions for the fold's held-out users."""
    setting = training.setting
    encoder, pool = training_pool(training.lake, training.dataset, setting.model.reward_form)
    cuts = [pool.cut(users, setting.model.steps) for users in fold_parts(pool.user_U, training.fold)]
    if not all(len(steps) for steps, _ in cuts):
        raise UserError(f"too few users of {training.dataset} in {training.lake.root} to cross-validate with")
    train, stop, held_out = (
        WindowsInMemory(hide_inputs(pool.windows(steps, labels), encoder, setting.hidden_inputs))
        for steps, labels in cuts
    )
    model = MTORL(setting.config, encoder.spec, fit_initial_policy(train, encoder.spec))
    forget_compiled(setting.train)
    model.fit(train, stop, Run())
    predictions = [model.predict(windows) for windows in held_out.in_order(WINDOWS_AT_ONCE)]
    policy_WLA, gains_WLG = Prediction.concatenate(predictions).policy_and_gains
    label_WL = held_out.windows.label_NL
    step_N = cuts[2][0][label_WL]
    order_N = np.argsort(pool.steps["exposure_id"][step_N])
    columns = {
        "exposure_N": pool.steps["exposure_id"][step_N],
        "user_N": pool.steps["user_id"][step_N],
        "action_N": held_out.windows.action_NL[label_WL].astype(np.int64),
        "gain_NG": held_out.windows.gains_NLG[label_WL].astype(np.float64),
        "unadjusted_NA": policy_WLA[label_WL],
        "predicted_NG": gains_WLG[label_WL],
    }
    buffer = io.BytesIO()
    shares = np.array(model.initial_policy.channel_shares)
    sorted_columns = {name: array[order_N] for name, array in columns.items()}
    np.savez(buffer, allow_pickle=False, channel_shares=shares, **sorted_columns)
    write_whole(training.file, buffer.getvalue())
    return training


def _read(lake: Lake, dataset: str, setting: Setting, fold: int) -> HeldOut:
    """The mean of the members, adjusted for the channels' shares, as MTORL.predict combines its networks."""
    members = [stored_arrays(training.file) for training in _trainings(lake, dataset, setting, fold)]
    means = {name: np.mean([m[name] for m in members], axis=0) for name in ("unadjusted_NA", "predicted_NG")}
    policy_NA = means["unadjusted_NA"] * members[0]["channel_shares"] ** -setting.model.prior_adjustment
    return HeldOut(
        **{name: members[0][name] for name in ("exposure_N", "user_N", "action_N", "gain_NG")},
        policy_NA=policy_NA / policy_NA.sum(axis=1, keepdims=True),
        unadjusted_NA=means["unadjusted_NA"],
        predicted_NG=np.minimum(means["predicted_NG"], 1.0),
    )


def stored_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a finished training. Raises UserError if they differ from the checksums in the file."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (BadZipFile, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{file} is damaged ({error}): delete it, and run the study again") from error


def _concatenate(folds: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(*map(np.concatenate, zip(*folds, strict=True)))
