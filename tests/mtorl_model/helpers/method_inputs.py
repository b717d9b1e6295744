"""The two kinds of input in the tests of all methods: how to fit on it, and how to change what must not be read.

X: the leading axes of a prediction, [B, L] for windows and [N] for candidates.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from candidate_rows import store_of
from random_batch import pad_left, with_garbage

from lakehouse.lake import Lake
from mtorl_model.data.batch import Batch
from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder, NumberScale
from mtorl_model.data.delayed_feedback import WITHOUT_DELAY, LabelCutoff
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import InitialPolicy, fit_initial_policy
from mtorl_model.data.windows.store import WindowsInMemory, WindowStore, open_windows
from mtorl_model.methods.method import CANDIDATES, WINDOWS, Method, Prediction, Run
from mtorl_model.training.candidate_sample import CandidateSample
from mtorl_model.training.day_sample import DaySample
from schemas.dataset import get_dataset
from schemas.tables.feature_spec import FeatureSpec

KUAIRAND = get_dataset("kuairand")
FLOAT_INPUTS = ("numeric_BLF", "action_in_BLA", "reward_in_BLR")
Mask = npt.NDArray[np.bool_]


class WindowInputs:
    """Windows of the synthetic lake."""

    def __init__(self, lake: Lake, spec: FeatureSpec) -> None:
        self.lake, self.spec = lake, spec

    def fit(self, method: type[Method], config: Any, sessions: int | None) -> Method:
        encoder, days = Encoder(self.spec, KUAIRAND, config.reward_inputs), (self.spec.first_day, self.spec.last_day)
        train, valid = (open_windows(self.lake, encoder, *days, split) for split in ("train", "validation"))
        if sessions is not None:
            train = valid = WindowsInMemory(train.windows.take(slice(0, sessions)))
        return method(config, self.spec, fit_initial_policy(train, self.spec)).fit(train, valid, Run())

    def _store(self, model: Method, split: str) -> WindowStore:
        return open_windows(self.lake, model.encoder(KUAIRAND), self.spec.first_day, self.spec.last_day, split)

    def batch(self, model: Method) -> Batch:
        return next(self._store(model, "validation").in_order(12))

    def shape(self, batch: Batch) -> tuple[int, ...]:
        return tuple(batch.valid_BL.shape)

    def real(self, batch: Batch) -> Mask:
        """True for the steps whose prediction has a meaning; not for all."""
        return batch.valid_BL.numpy()

    def changed_from_a_step_on(self, batch: Batch) -> tuple[Batch, Mask, Mask]:
        """Other inputs from a step on, other labels everywhere; the earlier steps, and the changed step."""
        step = 15
        changed = {key: getattr(batch, key).clone() for key in FLOAT_INPUTS}
        for tensor in changed.values():
            tensor[:, step:] += 3.0
        changed_batch = batch._replace(
            **changed, action_BL=1 - batch.action_BL, gains_BLG=1 - batch.gains_BLG, reward_BL=1 - batch.reward_BL
        )
        earlier_BL, changed_BL = np.zeros((2, *batch.valid_BL.shape), bool)
        earlier_BL[:, :step] = batch.valid_BL[:, :step]
        changed_BL[:, step] = batch.valid_BL[:, step]
        return changed_batch, earlier_BL, changed_BL

    def predictions_that_agree(self, model: Method, batch: Batch) -> list[Prediction]:
        """The prediction of the batch with nonsense at padding, and with more padding."""
        longer = model.predict(pad_left(batch, 7))
        return [
            model.predict(with_garbage(batch)),
            Prediction(*(None if array is None else array[:, 7:] for array in longer)),
        ]

    def day_sample(self, model: Method) -> DaySample:
        windows = self._store(model, "train").windows.take(slice(0, 64))
        no_windows = windows.take(slice(0, 0))
        cutoff = LabelCutoff(0, {"click": WITHOUT_DELAY})
        return DaySample(windows, no_windows, WindowsInMemory(no_windows), cutoff, {})

    def labels(self, model: Method, sessions: int) -> tuple[Prediction, npt.NDArray[Any], npt.NDArray[Any]]:
        """The predictions for the labels of the first training windows, their channels and gains."""
        windows = self._store(model, "train").windows.take(slice(0, sessions))
        label_NL = windows.label_NL
        predicted = model.predict(windows.batch()).take(label_NL)
        return predicted, windows.action_NL[label_NL], windows.gains_NLG[label_NL]


class CandidateInputs:
    """Made-up sessions whose labels depend on the inputs. Padding does not exist here."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        vocabularies = {"tag": tuple("abcd"), "author_id": tuple("abcdefgh")}
        scales = {f"number_{k}": NumberScale(log=False, mean=0.0, std=1.0) for k in range(3)}
        self.encoder = CandidateEncoder("kuairand", vocabularies, scales)

    def _store(self, sessions: int, seed: int) -> CandidateStore:
        rng = np.random.default_rng(seed)
        session_N = np.repeat(np.arange(sessions), rng.integers(1, 6, sessions))
        rows = len(session_N)
        codes_NK = np.stack([rng.integers(0, size, rows) for size in (5, 9)], axis=1)
        numbers_NF = rng.normal(size=(rows, 3))
        click_N = codes_NK[:, 0] - 2 + 2 * numbers_NF[:, 0] + rng.normal(size=rows) > 0
        labels_NT = np.stack([click_N, click_N & (numbers_NF[:, 1] > 0)], axis=1)
        objectives_NI = np.column_stack([labels_NT[:, ::-1], rng.random((rows, 2)) < 0.3])
        return store_of(session_N, codes_NK, numbers_NF, labels_NT, (5, 9), objectives_NI)

    def fit(self, method: type[Method], config: Any, sessions: int | None) -> Method:
        train, valid = self._store(sessions or 200, 0), self._store(sessions or 60, 0 if sessions else 1)
        spec = self.spec
        even = tuple([1 / len(spec.channels)] * len(spec.channels))
        rates = dict(zip(spec.gains, train.labels_NT.mean(axis=0).tolist(), strict=True))
        model = method(config, spec, InitialPolicy(spec.channels, even, rates, even))
        model.encoding = self.encoder.to_json()
        return model.fit(train, valid, Run())

    def batch(self, model: Method) -> CandidateStore:
        return self._store(30, 1)

    def shape(self, store: CandidateStore) -> tuple[int, ...]:
        return (len(store),)

    def real(self, store: CandidateStore) -> Mask:
        """All rows but the last session's, which predictions_that_agree leaves out or changes."""
        real_N: Mask = store.session_N != store.session_N[-1]
        return real_N

    def changed_from_a_step_on(self, store: CandidateStore) -> tuple[CandidateStore, Mask, Mask]:
        """Other inputs from the second half of the rows on, other labels everywhere; earlier rows, and changed ones."""
        changed_N = np.arange(len(store)) >= len(store) // 2
        numbers_NF = store.numeric_NF + 3.0 * changed_N[:, None].astype(np.float32)
        changed = replace(store, numeric_NF=numbers_NF, labels_NT=1 - store.labels_NT)
        return changed, ~changed_N, changed_N

    def predictions_that_agree(self, model: Method, store: CandidateStore) -> list[Prediction]:
        """The prediction without the last session, filled up; and with another last session."""
        real_N = self.real(store)
        short = model.predict(store.take(np.flatnonzero(real_N)))
        filled = Prediction(*(None if array is None else _filled(array, len(store)) for array in short))
        numbers_NF = np.where(real_N[:, None], store.numeric_NF, np.float32(-5.0))
        return [filled, model.predict(replace(store, numeric_NF=numbers_NF))]

    def day_sample(self, model: Method) -> CandidateSample:
        store = self._store(64, 2)
        return CandidateSample(store, store.take(np.arange(0)), store, LabelCutoff(0, {}), {})

    def labels(self, model: Method, sessions: int) -> tuple[Prediction, None, npt.NDArray[Any]]:
        store = self._store(sessions, 0)
        return model.predict(store), None, store.labels_NT


def _filled(array_NX: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """With zeros at the end, so that there are as many rows."""
    return np.concatenate([array_NX, np.zeros((rows - len(array_NX), *array_NX.shape[1:]))])


def inputs_of(method: type[Method], lake: Lake, spec: FeatureSpec) -> WindowInputs | CandidateInputs:
    return {WINDOWS: lambda: WindowInputs(lake, spec), CANDIDATES: lambda: CandidateInputs(spec)}[method.reads]()
