"""Train a setting without some users, and keep what it says of them: cross-validation by user.

The users of the training and validation splits are cut into FOLDS parts by a salted hash. A fold's model learns from
nine tenths of the users of the other parts, stops by the last tenth, and is asked about the part that it has not
seen. No row of a test user is kept. What all settings of a study share: the feature spec, whose vocabularies and
scales come from all training users, the held-out ones included (no label of theirs reaches a weight).

Shapes: N labels, A channels, G gains, U users.
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

import numpy as np
import numpy.typing as npt
import torch

from lakehouse.feature_specs import latest_spec
from lakehouse.files import file_sha256, write_whole
from lakehouse.lake import Lake
from mtorl_model.data import batch, encoding, initial_policy, reward_inputs, step_pool, window_store
from mtorl_model.data.device import device
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.initial_policy import fit_initial_policy
from mtorl_model.data.step_pool import StepPool
from mtorl_model.data.window_store import WindowsInMemory
from mtorl_model.methods.common import masks
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Run
from mtorl_model.methods.mtorl import layers, losses, method, network, reward_forms
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.methods.mtorl.reward_forms import REWARD_FORMS
from mtorl_model.training import loop
from mtorl_model.training.config import TrainConfig
from mtorl_model.training.loop import forget_compiled
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.splits import TRAIN, VALIDATION
from schemas.tables import SEQUENCES

FOLDS = 5
_SALT = "mtorl-fold-1"
_STOP_PARTS = 10  # one of so many parts of the users who are not held out chooses the epoch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to train MTORL. train.members and model.prior_adjustment say how its networks are read."""

    model: ModelConfig
    loss: LossConfig
    train: TrainConfig
    without: tuple[str, ...] = ()  # inputs whose name starts so read as missing

    @property
    def config(self) -> MTORLConfig:
        return MTORLConfig(self.model, self.loss, self.train)

    @classmethod
    def of(cls, config: MTORLConfig) -> "Setting":
        return cls(config.model, config.loss, config.train)


class HeldOut(NamedTuple):
    """What a setting says of users it has not learned from, one entry a label, by exposure_id."""

    exposure_N: Ints
    user_N: npt.NDArray[Any]
    action_N: Ints
    gain_NG: Floats
    policy_NA: Floats
    unadjusted_NA: Floats  # the policy before its adjustment for the channels' shares
    predicted_NG: Floats


class Parts(NamedTuple):
    """The users who train, who choose the epoch, and who are held out."""

    train_U: Bools
    stop_U: Bools
    held_out_U: Bools


def parts_of(user_U: npt.NDArray[Any], fold: int) -> Parts:
    """The parts that users play in a fold, 0 to FOLDS - 1: the same for ever, whatever other users there are."""
    digests = [hashlib.sha256(f"{_SALT}:{user}".encode()).hexdigest() for user in user_U]
    held_out_U = np.array([int(digest[:8], 16) % FOLDS == fold for digest in digests], dtype=bool)
    stop_U = np.array([int(digest[8:16], 16) % _STOP_PARTS == 0 for digest in digests], dtype=bool) & ~held_out_U
    return Parts(~held_out_U & ~stop_U, stop_U, held_out_U)


def cross_validate(
    lake: Lake, dataset: str, settings: Sequence[Setting], *, folds: int = FOLDS, workers: int = 1
) -> list[HeldOut]:
    """For each setting the held-out labels of the first `folds` folds, the same labels in the same order.

    A training that was done before is not done again: what it said lies in `LAKE/studies/.../held_out/`. workers:
    trainings at once, each on its share of the cores. Raises UserError where the lake has no sequences.
    """
    todo = {
        one: None
        for setting in settings
        for fold in range(folds)
        for one in _Training.all_of(lake, dataset, setting, fold)
    }
    missing = [one for one in todo if not one.file.exists()]
    # A fresh interpreter for each worker: torch's threads do not survive a fork.
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (threads,)) as workforce:
        for number, done in enumerate(workforce.map(_do, missing), start=1):
            print(f"training {number} of {len(missing)}: {done.file.name}", flush=True)
    return [_pooled([_read(lake, dataset, setting, fold) for fold in range(folds)]) for setting in settings]


@dataclass(frozen=True, slots=True)
class _Training:
    """One model of a setting in one fold."""

    lake: Lake
    dataset: str
    setting: Setting  # of one member, unadjusted
    fold: int

    @classmethod
    def all_of(cls, lake: Lake, dataset: str, setting: Setting, fold: int) -> "list[_Training]":
        """The members of a setting. How they are read later makes no other training."""
        seeds = range(setting.train.seed, setting.train.seed + setting.train.members)
        unadjusted = replace(setting.model, prior_adjustment=0.0)
        return [
            cls(
                lake, dataset, replace(setting, model=unadjusted, train=replace(setting.train, seed=s, members=1)), fold
            )
            for s in seeds
        ]

    @property
    def file(self) -> Path:
        """Where its held-out predictions lie; the name changes with all that they depend on."""
        setting = self.setting
        parts = [setting.model.to_json(), setting.loss.to_json(), setting.train.to_json(), json.dumps(setting.without)]
        identity = "\n".join([*parts, str(self.fold), _content(self.lake, self.dataset)])
        return (
            self.lake.studies(self.dataset) / "held_out" / f"{hashlib.sha256(identity.encode()).hexdigest()[:20]}.npz"
        )


@cache
def _content(lake: Lake, dataset: str) -> str:
    """Fingerprint of all that a training depends on beside its setting: sequences, code, kind of device."""
    known = lake.fingerprints(SEQUENCES, dataset, lake.days(SEQUENCES, dataset)).values()
    modules = (
        batch, window_store, encoding, reward_inputs, initial_policy, masks, layers, losses, network, reward_forms,
        method, step_pool, loop,
    )  # fmt: skip
    code = [file_sha256(Path(str(module.__file__))) for module in modules] + [file_sha256(Path(__file__))]
    return hashlib.sha256("\n".join([*known, *code, device()]).encode()).hexdigest()


@cache
def _pool(lake: Lake, dataset: str, reward_form: str) -> tuple[Encoder, StepPool]:
    """Read once a process."""
    contract = get_dataset(dataset)
    spec, _ = latest_spec(lake, dataset)
    encoder = Encoder(spec, contract, REWARD_FORMS[reward_form].inputs)
    return encoder, StepPool(lake, contract, encoder, splits=(TRAIN, VALIDATION))


def windows_without(windows: Encoded, encoder: Encoder, without: Iterable[str]) -> Encoded:
    """The windows with every input whose name starts with one of `without` as if it were missing: 0."""
    starts = tuple(without)
    if not starts:
        return windows
    names, profile = encoder.input_names, windows.profile_numeric_NF.shape[-1]
    hidden = [np.array([name.startswith(starts) for name in kind], dtype=bool) for kind in names[:2]]
    if not any(h.any() for h in hidden):
        raise UserError(f"no input's name starts with {' or '.join(starts)}")
    codes = windows.categorical_NLK.shape[-1]
    steps = len(names.numeric) - profile
    return windows._replace(
        categorical_NLK=np.where(hidden[0][:codes], 0, windows.categorical_NLK),
        profile_categorical_NK=np.where(hidden[0][codes:], 0, windows.profile_categorical_NK),
        numeric_NLF=np.where(hidden[1][:steps], np.float32(0), windows.numeric_NLF),
        profile_numeric_NF=np.where(hidden[1][steps:], np.float32(0), windows.profile_numeric_NF),
    )


def _do(todo: _Training) -> _Training:
    """Train it and publish what it says of the fold's held-out users."""
    setting = todo.setting
    encoder, pool = _pool(todo.lake, todo.dataset, setting.model.reward_form)
    cut = [pool.cut(users, setting.model.steps) for users in parts_of(pool.user_U, todo.fold)]
    if not all(len(steps) for steps, _ in cut):
        raise UserError(f"too few users of {todo.dataset} in {todo.lake.root} to cross-validate with")
    learned, stop, held_out = (
        WindowsInMemory(windows_without(pool.windows(steps, labels), encoder, setting.without)) for steps, labels in cut
    )
    trained = MTORL(setting.config, encoder.spec, fit_initial_policy(learned, encoder.spec))
    forget_compiled(setting.train)
    trained.fit(learned, stop, Run())
    predictions = [trained.predict(b) for b in held_out.in_order(WINDOWS_AT_ONCE)]
    policy_WLA, gains_WLG = (np.concatenate(arrays) for arrays in zip(*predictions, strict=True))
    label = held_out.windows.label_NL
    numbers = cut[2][0][label]
    order = np.argsort(pool.steps["exposure_id"][numbers])
    columns = {
        "exposure_N": pool.steps["exposure_id"][numbers],
        "user_N": pool.steps["user_id"][numbers],
        "action_N": held_out.windows.action_NL[label].astype(np.int64),
        "gain_NG": held_out.windows.gains_NLG[label].astype(np.float64),
        "unadjusted_NA": policy_WLA[label],
        "predicted_NG": gains_WLG[label],
    }
    buffer = io.BytesIO()
    shares = np.array(trained.initial_policy.channel_shares)
    np.savez(
        buffer, allow_pickle=False, channel_shares=shares, **{name: array[order] for name, array in columns.items()}
    )
    write_whole(todo.file, buffer.getvalue())
    return todo


def _read(lake: Lake, dataset: str, setting: Setting, fold: int) -> HeldOut:
    """The mean of the members, adjusted for the channels' shares: as MTORL.predict reads its networks."""
    members = []
    for member in _Training.all_of(lake, dataset, setting, fold):
        with np.load(member.file, allow_pickle=False) as arrays:
            members.append(dict(arrays))
    means = {name: np.mean([m[name] for m in members], axis=0) for name in ("unadjusted_NA", "predicted_NG")}
    policy_NA = means["unadjusted_NA"] * members[0]["channel_shares"] ** -setting.model.prior_adjustment
    return HeldOut(
        **{name: members[0][name] for name in ("exposure_N", "user_N", "action_N", "gain_NG")},
        policy_NA=policy_NA / policy_NA.sum(axis=1, keepdims=True),
        unadjusted_NA=means["unadjusted_NA"],
        predicted_NG=np.minimum(means["predicted_NG"], 1.0),
    )


def _pooled(folds: Sequence[HeldOut]) -> HeldOut:
    return HeldOut(*map(np.concatenate, zip(*folds, strict=True)))
