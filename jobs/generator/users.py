"""KuaiRand's user table for simulated users."""

import numpy as np
import pandas as pd

from jobs.generator.behaviour import Floats
from jobs.generator.journeys import Ints

_DEGREES = {
    "full_active": 0.658, "high_active": 0.226, "middle_active": 0.078, "2_14_day_new": 0.023, "low_active": 0.011,
    "single_low_active": 0.002, "30day_retention": 0.001, "day_new": 0.0005, "UNKNOWN": 0.0005,
}  # fmt: skip
# The smallest value of each published range, and its label.
_FOLLOW = {0: "0", 1: "(0,10]", 11: "(10,50]", 51: "(50,100]", 101: "(100,150]", 151: "(150,250]",
           251: "(250,500]", 501: "500+"}  # fmt: skip
_FANS = {0: "0", 1: "[1,10)", 10: "[10,100)", 100: "[100,1k)", 1_000: "[1k,5k)", 5_000: "[5k,1w)", 10_000: "[1w,10w)",
         100_000: "[10w,100w)"}  # fmt: skip
_FRIEND = {0: "0", 1: "[1,5)", 5: "[5,30)", 30: "[30,60)", 60: "[60,120)", 120: "[120,250)", 250: "250+"}
_REGISTER = {8: "8-14", 15: "15-30", 31: "31-60", 61: "61-90", 91: "91-180", 181: "181-365", 366: "366-730",
             731: "730+"}  # fmt: skip
# The number of values of onehot_feat0 .. 17, and the share of users for whom the feature is missing.
_ONEHOT = (2, 7, 50, 1471, 16, 34, 3, 118, 454, 7, 5, 5, 2, 2, 2, 2, 2, 2)
_ONEHOT_MISSING = {4: 0.032, **dict.fromkeys(range(12, 18), 0.026)}


def user_rows(user_id_U: Ints, home_UD: Floats, rng: np.random.Generator) -> pd.DataFrame:
    """The user table. onehot_feat1 and onehot_feat9 correlate with the lasting interests, the rest is noise."""
    users = len(user_id_U)
    follow_U = rng.lognormal(5.0, 1.4, users).clip(0, 5_000).astype(np.int64)
    fans_U = rng.lognormal(3.9, 2.0, users).clip(0, 900_000).astype(np.int64)
    friend_U = (follow_U * rng.random(users) ** 2.5).astype(np.int64)
    register_U = rng.gamma(2.2, 600.0, users).clip(8, 3_000).astype(np.int64)
    columns = {
        "user_id": user_id_U,
        "user_active_degree": rng.choice(list(_DEGREES), users, p=list(_DEGREES.values())),
        "is_lowactive_period": np.zeros(users, np.int64),
        "is_live_streamer": np.where(rng.random(users) < 0.226, 1, -124),
        "is_video_author": (rng.random(users) < 0.816).astype(np.int64),
    }
    for name, value_U, ranges in (
        ("follow_user_num", follow_U, _FOLLOW), ("fans_user_num", fans_U, _FANS),
        ("friend_user_num", friend_U, _FRIEND), ("register_days", register_U, _REGISTER),
    ):  # fmt: skip
        columns[name] = value_U
        columns[f"{name}_range"] = np.array(list(ranges.values()))[np.searchsorted(list(ranges), value_U, "right") - 1]

    profile_missing_U = rng.random(users) < _ONEHOT_MISSING[12]
    for k, size in enumerate(_ONEHOT):
        code_U = (size * rng.random(users) ** 2).astype(np.int64)
        if k in (1, 9):
            hint_U = home_UD[:, 1 if k == 1 else 0] + 0.7 * rng.standard_normal(users)
            code_U = np.searchsorted(np.linspace(-1.5, 1.5, size - 1), hint_U)
        columns[f"onehot_feat{k}"] = code_U
        if k in _ONEHOT_MISSING:
            missing_U = rng.random(users) < _ONEHOT_MISSING[4] if k == 4 else profile_missing_U
            columns[f"onehot_feat{k}"] = np.where(missing_U, np.nan, code_U)
    return pd.DataFrame(columns)
