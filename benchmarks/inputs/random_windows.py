"""Random training windows with the sizes of the Criteo sample."""

from pathlib import Path
from typing import Any

import numpy as np

from mtorl_model.data.batch import InputSizes
from mtorl_model.data.encoding import Encoded
from mtorl_model.data.window_store import NOT_INPUTS, WindowStore

# The sizes of two encoded days of the Criteo sample.
SIZES = InputSizes(
    vocabulary=(25, 3, 12, 11, 10, 12, 29, 10, 8, 23, 265, 12, 31), numeric=66, actions=11, reward_inputs=3, gains=2
)


def write_windows(folder: Path, windows: int, steps: int) -> WindowStore:
    """Write random windows as files. A third of their steps is padding, half of the others are labels."""
    rng, shape = np.random.default_rng(0), (windows, steps)
    valid_NL = np.arange(steps) >= rng.integers(0, 2 * steps // 3, (windows, 1))
    label_NL = valid_NL & (np.arange(steps) >= steps // 2)
    widths = {"numeric_NLF": SIZES.numeric, "action_in_NLA": SIZES.actions, "reward_in_NLR": SIZES.reward_inputs}
    arrays: dict[str, Any] = {
        name: rng.standard_normal((*shape, width), dtype=np.float32) * valid_NL[:, :, None]
        for name, width in widths.items()
    }
    arrays |= {
        "categorical_NLK": (rng.integers(0, SIZES.vocabulary, (*shape, len(SIZES.vocabulary))) * valid_NL[:, :, None]),
        "profile_categorical_NK": np.zeros((windows, 0)),
        "profile_numeric_NF": np.zeros((windows, 0), dtype=np.float32),
        "valid_NL": valid_NL,
        "label_NL": label_NL,
        "action_NL": np.where(label_NL, rng.integers(0, SIZES.actions, shape), -1),
        "gains_NLG": ((rng.random((*shape, SIZES.gains)) < 0.2) & label_NL[:, :, None]).astype(np.float32),
        "maturity_NLG": np.ones((*shape, SIZES.gains), dtype=np.float32),
        "reward_NL": rng.random(shape, dtype=np.float32) * label_NL,
    }
    integers = {"categorical_NLK", "profile_categorical_NK", "action_NL"}
    folder.mkdir(parents=True)
    arrays |= {"user_N": np.arange(shape[0]), "propensity_NL": np.zeros(shape, np.float32)}
    for name in (*Encoded._fields, *NOT_INPUTS):
        np.save(folder / f"{name}.npy", arrays[name].astype(np.int32) if name in integers else arrays[name])
    return WindowStore(folder, "random")
