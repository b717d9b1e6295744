"""All steps of all users in memory, to cut windows in other ways than the table `sequences` does.

For studies that need other windows: another length n, random positions, or only some of the users. Daily work reads
the table instead (store.py), which needs little memory. Shape suffixes as in encoding.py, and W windows,
U users.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.window_cuts import cut_spans
from lakehouse.lake import Lake
from mtorl_model.data.encoding import Encoded, Encoder
from mtorl_model.data.windows.reading import read_windows
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.splits import SPLITS
from schemas.tables import SEQUENCES

_STATIC = ("profile_categorical_NK", "profile_numeric_NF")
_PADDING = {"action_NL": -1}  # value at padding; 0 for all other arrays

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class StepPool:
    """The steps of all users of the given splits: each step once, sorted by user, time and exposure id.

    A window is a row of indices of steps, -1 at padding. Raises UserError without any step.
    """

    def __init__(self, lake: Lake, dataset: Dataset, encoder: Encoder, *, splits: Sequence[str] = SPLITS) -> None:
        days = lake.days(SEQUENCES, dataset)
        columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
        parts: list[dict[str, npt.NDArray[Any]]] = []
        for table in read_windows(lake, dataset, days, columns, encoder.spec.channels) if days else ():
            chosen = table.filter(pc.is_in(table.column("split"), value_set=pa.array(splits, pa.string())))
            encoded = encoder.encode(chosen)
            valid = encoded.valid_NL
            flat = {
                name: (np.repeat(a, valid.sum(axis=1), axis=0) if name in _STATIC else a[valid])
                for name, a in encoded._asdict().items()
            }
            for name in ("exposed_at_ms", "exposure_id"):
                flat[name] = pc.list_flatten(chosen.column(name)).fill_null(0).to_numpy()[valid.ravel()]
            flat["user_id"] = np.repeat(chosen.column("user_id").to_numpy(), valid.sum(axis=1))
            parts.append(flat)
        if not any(len(part["user_id"]) for part in parts):
            raise UserError(f"no sequences for {dataset.name} in {lake.root}: run these days first (make run)")
        steps = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        # A context step is also a label of another window; keep each step only once.
        _, first_index = np.unique(steps["exposure_id"], return_index=True)
        order = np.lexsort([steps[name][first_index] for name in ("exposure_id", "exposed_at_ms", "user_id")])
        self.steps = {name: array[first_index][order] for name, array in steps.items()}
        self.user_U, self.start_U, self.length_U = np.unique(
            self.steps["user_id"], return_index=True, return_counts=True
        )

    def draw(self, windows: int, n: int, rng: np.random.Generator) -> Ints:
        """Random windows as indices of steps, [windows, n], -1 at padding.

        For each window a user and then a start is drawn uniformly, with replacement.
        """
        user_W = rng.integers(0, len(self.start_U), windows)
        length_W = self.length_U[user_W]
        offset_W = rng.integers(0, np.maximum(length_W - n, 0) + 1)
        first_W = self.start_U[user_W] + offset_W
        return _windows(first_W, self.start_U[user_W] + np.minimum(offset_W + n, length_W), n)

    def cut(self, chosen_U: Bools, n: int) -> tuple[Ints, Bools]:
        """All windows of n >= 2 steps of the chosen users: indices of their steps, and which are labels; both [W, n].

        Each journey is cut as one span (features/window_cuts.py), as the table `sequences` cuts one long day.
        """
        start_U, length_U = self.start_U[chosen_U], self.length_U[chosen_U]
        cuts = cut_spans(np.zeros_like(length_U), length_U, n)
        start_W = start_U[cuts.span_W]
        step_WL = _windows(start_W + np.maximum(cuts.stop_W - n, 0), start_W + cuts.stop_W, n)
        return step_WL, step_WL >= (start_W + cuts.stop_W - cuts.labels_W)[:, None]

    def windows(self, step_WL: Ints, label_WL: Bools | None = None) -> Encoded:
        """The windows of those steps as arrays. Labels are the steps of label_WL (None: all) whose channel is known."""
        real_WL = step_WL >= 0
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name in Encoded._fields:
            source = self.steps[name]
            if name in _STATIC:
                arrays[name] = source[step_WL[:, -1]]
                continue
            values = source[np.maximum(step_WL, 0)]
            values[~real_WL] = _PADDING.get(name, 0)
            arrays[name] = values
        known_WL = real_WL & (arrays["action_NL"] >= 0)
        return Encoded(**{**arrays, "label_NL": known_WL if label_WL is None else known_WL & label_WL})


def _windows(first_W: Ints, stop_W: Ints, n: int) -> Ints:
    """The step indices first to stop - 1 of each window, padded on the left with -1; [W, n]."""
    step_WL = stop_W[:, None] - n + np.arange(n)
    return np.where(step_WL >= first_W[:, None], step_WL, -1).astype(np.int64)
