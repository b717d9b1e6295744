"""Random training windows with the sizes of the Criteo sample."""

from pathlib import Path
from typing import Any

import numpy as np

from mtorl_model.data.batch import InputSizes
from mtorl_model.data.windows.encoded_steps import StepArrays, WindowArrays
from mtorl_model.data.windows.store import WindowStore

# The sizes of two encoded days of the Criteo sample.
SIZES = InputSizes(
    vocabulary=(25, 3, 12, 11, 10, 12, 29, 10, 8, 23, 265, 12, 31), numeric=66, actions=11, reward_inputs=3, gains=2
)


def write_windows(folder: Path, windows: int, steps: int) -> WindowStore:
    """Write random windows as files. A third of their positions is padding, half of the others are labels."""
    rng = np.random.default_rng(0)
    steps_N = steps - rng.integers(0, 2 * steps // 3, windows)
    labels_N = np.minimum(steps_N, steps - steps // 2)
    rows = int(steps_N.sum())

    def numbers(width: int) -> Any:
        return rng.standard_normal((rows, width), dtype=np.float32)

    encoded_steps = StepArrays(
        categorical_MK=rng.integers(0, SIZES.vocabulary, (rows, len(SIZES.vocabulary))).astype(np.int32),
        numeric_MF=numbers(SIZES.numeric),
        action_in_MA=numbers(SIZES.actions),
        reward_in_MR=numbers(SIZES.reward_inputs),
        has_channel_M=np.ones(rows, dtype=bool),
        action_M=rng.integers(0, SIZES.actions, rows).astype(np.int32),
        gains_MG=(rng.random((rows, SIZES.gains)) < 0.2).astype(np.float32),
        maturity_MG=np.ones((rows, SIZES.gains), dtype=np.float32),
        reward_M=rng.random(rows, dtype=np.float32),
        propensity_M=np.zeros(rows, np.float32),
    )
    encoded_windows = WindowArrays(
        first_row_N=np.cumsum(steps_N) - steps_N,
        steps_N=steps_N,
        labels_N=labels_N,
        profile_categorical_NK=np.zeros((windows, 0), np.int32),
        profile_numeric_NF=np.zeros((windows, 0), np.float32),
        user_N=np.arange(windows),
    )
    folder.mkdir(parents=True)
    for arrays in (encoded_steps, encoded_windows):
        for name, array in arrays._asdict().items():
            np.save(folder / f"{name}.npy", array)
    return WindowStore(folder, "random", steps)
