"""Every step of every user, in memory, to cut windows from in other ways than the table `sequences` is cut.

Used where a study asks for windows of its own (another length n, drawn at random, some users only). Daily work
reads the table instead (`mtorl_model.data.window_store`), which needs no memory. Shapes as in encoding.py;
W windows, U users.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.window_cuts import cut_spans
from lakehouse.lake import Lake
from lakehouse.reading import read_tables
from mtorl_model.data.encoding import Encoded, Encoder
from schemas.dataset import Dataset
from schemas.errors import UserError
from schemas.splits import SPLITS
from schemas.tables import SEQUENCES

_STATIC = ("profile_categorical_NK", "profile_numeric_NF")
_EMPTY = {"action_NL": -1}  # what stands at padding, where it is not 0

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class StepPool:
    """The steps of all users of some splits, each once, user by user in order of time.

    A window is a row of step numbers, -1 at padding. Days that were cut with another feature spec are left out.
    Raises UserError where nothing is left.
    """

    def __init__(self, lake: Lake, dataset: Dataset, encoder: Encoder, *, splits: Sequence[str] = SPLITS) -> None:
        days = [
            day
            for day in lake.days(SEQUENCES, dataset)
            if lake[SEQUENCES, dataset, day].require().spec_version == encoder.spec.version
        ]
        partitions = [lake[SEQUENCES, dataset, day].path for day in days]
        columns = ["user_id", "split", "exposed_at_ms", "exposure_id", *encoder.columns]
        parts: list[dict[str, npt.NDArray[Any]]] = []
        for table in read_tables(partitions, columns):
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
        # A context step was a label of another window: each step counts once.
        _, once = np.unique(steps["exposure_id"], return_index=True)
        order = np.lexsort((steps["exposure_id"][once], steps["exposed_at_ms"][once], steps["user_id"][once]))
        self.steps = {name: array[once][order] for name, array in steps.items()}
        self.user_U, self.start_U, self.length_U = np.unique(
            self.steps["user_id"], return_index=True, return_counts=True
        )

    def draw(self, windows: int, n: int, rng: np.random.Generator) -> Ints:
        """[windows, n]: numbers of steps, -1 at padding; users, then starts, drawn uniformly with replacement."""
        user_W = rng.integers(0, len(self.start_U), windows)
        length_W = self.length_U[user_W]
        offset_W = rng.integers(0, np.maximum(length_W - n, 0) + 1)
        first_W = self.start_U[user_W] + offset_W
        return _windows(first_W, self.start_U[user_W] + np.minimum(offset_W + n, length_W), n)

    def cut(self, chosen_U: Bools, n: int) -> tuple[Ints, Bools]:
        """The windows of n >= 2 steps of the chosen users, and which of their steps are labels: two [W, n].

        Each journey is cut as one span (features.window_cuts), as the table `sequences` cuts one long day.
        """
        start_U, length_U = self.start_U[chosen_U], self.length_U[chosen_U]
        cuts = cut_spans(np.zeros_like(length_U), length_U, n)
        start_W = start_U[cuts.span_W]
        step_WL = _windows(start_W + np.maximum(cuts.stop_W - n, 0), start_W + cuts.stop_W, n)
        return step_WL, step_WL >= (start_W + cuts.stop_W - cuts.labels_W)[:, None]

    def windows(self, step_WL: Ints, label_WL: Bools | None = None) -> Encoded:
        """The windows as the model reads them. Labels are the steps of known channel, of label_WL where given."""
        real_WL = step_WL >= 0
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name in Encoded._fields:
            source = self.steps[name]
            if name in _STATIC:
                arrays[name] = source[step_WL[:, -1]]
                continue
            taken = source[np.maximum(step_WL, 0)]
            taken[~real_WL] = _EMPTY.get(name, 0)
            arrays[name] = taken
        known_WL = real_WL & (arrays["action_NL"] >= 0)
        return Encoded(**{**arrays, "label_NL": known_WL if label_WL is None else known_WL & label_WL})


def _windows(first_W: Ints, stop_W: Ints, n: int) -> Ints:
    """[W, n]: the step numbers first to stop - 1, padded on the left with -1."""
    step_WL = stop_W[:, None] - n + np.arange(n)
    return np.where(step_WL >= first_W[:, None], step_WL, -1).astype(np.int64)
