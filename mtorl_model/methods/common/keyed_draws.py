"""Random draws from ids and keys: a job that runs again draws the same."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa


def uniform_draws(ids: pa.Array, key: str) -> npt.NDArray[np.float64]:
    """[N]: a number in [0, 1) for each id. Other keys give independent numbers. key: 16 characters."""
    names = ids.cast(pa.string()).to_numpy(zero_copy_only=False)
    hashed: npt.NDArray[np.uint64] = pd.util.hash_array(names, hash_key=key, categorize=False)
    return (hashed >> np.uint64(11)) / float(2**53)
