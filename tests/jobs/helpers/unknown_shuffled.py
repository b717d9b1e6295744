"""A log in which all that is not known yet at some time is replaced: no input up to that time may change."""

import numpy as np
import pandas as pd

from schemas.contract import Known
from schemas.dataset import Dataset


def with_the_unknown_shuffled(frame: pd.DataFrame, dataset: Dataset, cuts: dict[int, int], seed: int,
                              *, candidates_known: bool = False) -> pd.DataFrame:  # fmt: skip
    """The same log as far as it is known at each user's cut time; everything else replaced.

    From the cut on, every column that is not known before its own exposure is drawn again from the whole log;
    late gains of earlier exposures that have not happened by the cut are undone, and others come up.

    candidates_known: exposures at the cut itself keep their channel and their columns known with the candidate.
    """
    rng = np.random.default_rng(seed)
    changed = frame.copy()
    cut = changed.user_id.map(cuts)
    unseen = (changed.exposed_at_ms >= cut).to_numpy()
    late_times = {dataset.column(g).known_at for g in dataset.late_gains}
    never_input = [
        c for c in frame.columns
        if c not in ("user_id", "exposure_id", "exposed_at_ms", "ds") and c not in late_times
        and (c in ("channel", "cost", "propensity") or dataset.column(c).known is not Known.BEFORE)
    ]  # fmt: skip
    after_cut = (changed.exposed_at_ms > cut).to_numpy()
    for column in never_input:
        is_candidate = column == "channel" or column in {c.name for c in dataset.features(Known.WITH)}
        replaced = after_cut if candidates_known and is_candidate else unseen
        changed.loc[replaced, column] = rng.permutation(frame[column].to_numpy())[: replaced.sum()]
    for gain in dataset.late_gains:
        known_at = dataset.column(gain).known_at
        future = unseen | (changed[known_at].isna() | (changed[known_at] >= cut)).to_numpy(dtype=bool)
        flipped = rng.integers(0, 2, len(frame))
        later = np.maximum(changed.exposed_at_ms, cut) + rng.integers(0, 10**8, len(frame))
        changed.loc[future, gain] = flipped[future]
        changed.loc[future, known_at] = later.where(flipped == 1).astype("Int64")[future]
    return changed
