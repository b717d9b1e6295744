"""Journeys of a raw Criteo log as published notebooks build them: python -m benchmarks.pandas_peer --log FILE

A loop over users filters the whole log for each of them, so its time is the number of users times the mean time per
user. The loop is timed on --users users at equal distances in the log and extrapolated to all.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd

from schemas.datasets.criteo import LOG

MIN_EXPOSURES, STEPS = 10, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--users", type=int, default=20, help="to time; default %(default)s")
    args = parser.parse_args()
    start = time.monotonic()
    rows = pd.read_csv(args.log, sep=LOG.separator)
    users = rows["uid"].unique()
    read_s = time.monotonic() - start
    timed = users[np.linspace(0, len(users) - 1, min(args.users, len(users))).astype(int)]
    start = time.monotonic()
    for user in timed:
        journey(rows, user)
    mean_s = (time.monotonic() - start) / len(timed)
    print(json.dumps({"seconds": read_s + mean_s * len(users), "users": len(users), "timed_users": len(timed)}))


def journey(rows: pd.DataFrame, user: int) -> dict[str, np.ndarray] | None:
    """The user's last STEPS exposures as arrays; None if the user has fewer than MIN_EXPOSURES."""
    user_rows = rows[rows["uid"] == user].sort_values("timestamp")
    if len(user_rows) < MIN_EXPOSURES:
        return None
    return {name: user_rows[name].to_numpy()[-STEPS:] for name in user_rows.columns}


if __name__ == "__main__":
    main()
