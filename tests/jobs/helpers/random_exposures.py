"""Random rows of the table `exposures`, for any dataset: ties in time, unknown channels, late gains, gaps."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from schemas.dataset import Dataset
from schemas.tables.exposures import exposures

FIRST_DAY = datetime(2022, 5, 1)
_CHANNELS = ("a", "b", "c")


def random_exposures(dataset: Dataset, *, users: int, rows: int, days: int, seed: int) -> pd.DataFrame:
    """Contract columns plus ds; about a third of the rows share their user's time stamp with another row."""
    rng = np.random.default_rng(seed)
    zone = ZoneInfo(dataset.timezone)
    start = int(FIRST_DAY.replace(tzinfo=zone).timestamp() * 1000)
    # Few distinct instants make ties likely.
    instants = start + np.sort(rng.choice(days * 86_400, size=max(rows // 3, 2), replace=False)) * 1000
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(1, users + 1, rows),
            "exposure_id": rng.permutation(rows) * 7 - 3 * rows,
            "exposed_at_ms": rng.choice(instants, rows),
        }
    )
    channels = dataset.channels or _CHANNELS
    frame["channel"] = rng.choice([*channels, None], rows, p=[0.9 / len(channels)] * len(channels) + [0.1])
    frame["cost"] = np.round(rng.exponential(0.01, rows), 6) if dataset.name == "criteo" else 0.0
    frame["propensity"] = np.nan
    frame["click"] = rng.integers(0, 2, rows)
    for column in exposures(dataset).columns:
        if column.name in frame or column.name.endswith("_at_ms"):
            continue
        if column.name in dataset.late_gains:
            frame[column.name] = frame["click"] * rng.integers(0, 2, rows)
            late_ms = frame["exposed_at_ms"] + rng.integers(0, days * 86_400, rows) * 1000
            frame[column.known_at] = late_ms.where(frame[column.name] == 1).astype("Int64")
        elif column.name in dataset.gain_names:
            frame[column.name] = rng.integers(0, 2, rows)
        elif column.static:
            per_user = rng.integers(0, 3, users + 1)
            frame[column.name] = typed(per_user[frame["user_id"]], column.dtype)
        else:
            frame[column.name] = typed(rng.integers(0, 5, rows), column.dtype)
            if column.nullable:
                frame[column.name] = frame[column.name].mask(rng.random(rows) < 0.2)
    local = [datetime.fromtimestamp(ms / 1000, zone) for ms in frame["exposed_at_ms"]]
    frame["ds"] = [moment.date().isoformat() for moment in local]
    frame["hour"] = [moment.hour for moment in local]
    return frame[[*exposures(dataset).column_names, "ds"]]


def day(k: int) -> str:
    return (FIRST_DAY + timedelta(days=k)).date().isoformat()


def typed(values: np.ndarray, dtype: str) -> pd.Series:
    if dtype == "string":
        return pd.Series([f"v{v}" for v in values])
    return pd.Series(values).astype("float64" if dtype == "double" else "Int64")
