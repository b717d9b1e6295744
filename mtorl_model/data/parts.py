"""Which parts of a day's users to read if a sample of its rows is enough.

Each part of the files has a random share of the users (lakehouse/storage/data_files.py).
"""

from collections.abc import Mapping

import numpy as np


def parts_with_rows(rows_of: Mapping[str, float], rows: float, rng: np.random.Generator) -> list[str]:
    """The smallest number of parts that have this number of rows together, or all that have any; none for 0 rows.

    rows_of: by part.

    A part is chosen with a probability in proportion to its rows. So if one part is enough, every row of the day is
    drawn with the same probability, also those of a part with very active users.
    """
    names, rows_P = list(rows_of), np.array(list(rows_of.values()), dtype=float)
    if rows <= 0 or not rows_P.any():
        return []
    order = rng.choice(len(names), np.count_nonzero(rows_P), replace=False, p=rows_P / rows_P.sum())
    needed = 1 + int(np.searchsorted(np.cumsum(rows_P[order]), rows))
    return [names[number] for number in order[:needed]]
