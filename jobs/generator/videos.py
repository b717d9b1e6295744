"""KuaiRand's pool of videos: simulated, and the same one in every log."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.generator.behaviour import Floats
from jobs.generator.journeys import Ints

_POOL = 7_583
_POOL_SEED = 2022
_MISSING_DURATIONS = 239


@dataclass(frozen=True, slots=True)
class Pool:
    """All videos: the published table, and true values that it does not have."""

    table: pd.DataFrame
    duration_ms: Ints  # the true one
    channel: Ints  # 0 short, 1 mid, 2 long, by the true duration
    is_known: NDArray[np.bool_]  # whether the table has the duration

    @property
    def shares(self) -> Floats:
        """Probability that a video drawn from the pool is truly short, mid or long."""
        return np.bincount(self.channel, minlength=3) / len(self.channel)

    @property
    def known_shares(self) -> Floats:
        """Probability that a video of each true channel has its duration in the table."""
        return np.bincount(self.channel[self.is_known], minlength=3) / np.bincount(self.channel, minlength=3)


def draw_pool() -> Pool:
    """The videos: the same pool in every log."""
    rng = np.random.default_rng(_POOL_SEED)
    duration_ms = np.clip(rng.lognormal(np.log(75_000), 1.05, _POOL), 5_000, 1_200_000).astype(np.int64)
    is_known = np.ones(_POOL, np.bool_)
    is_known[rng.choice(_POOL, _MISSING_DURATIONS, replace=False)] = False
    channel = np.searchsorted(np.quantile(duration_ms[is_known], [1 / 3, 2 / 3]), duration_ms)

    upright = rng.random(_POOL) < 0.76
    first_tag, second_tag = rng.zipf(1.4, (2, _POOL)) % 68 + 1
    two_tags, no_tag = rng.random(_POOL) < 0.24, rng.random(_POOL) < 0.013
    second = pd.Series(second_tag.astype(str)).radd(",").where(two_tags, "")
    silent = rng.random(_POOL) < 0.027
    table = pd.DataFrame(
        {
            "video_id": np.arange(_POOL),
            "author_id": rng.integers(1, 7_400_000, _POOL),
            "video_type": rng.choice(["NORMAL", "AD", "UNKNOWN"], _POOL, p=[0.9895, 0.01, 0.0005]),
            "upload_dt": rng.choice(["2022-04-09", "2022-04-10", "2022-04-11"], _POOL, p=[0.373, 0.452, 0.175]),
            "upload_type": _upload_types(channel, rng),
            "visible_status": np.zeros(_POOL),
            "video_duration": np.where(is_known, duration_ms.astype(float), np.nan),
            "server_width": np.where(upright, 720.0, 1280.0),
            "server_height": np.where(upright, 1280.0, 720.0),
            "music_id": np.where(silent, 0, rng.integers(5_000_000_000, 9_999_999_999, _POOL)),
            "music_type": np.where(
                silent, np.nan, rng.choice([9.0, 4.0, 8.0, 7.0], _POOL, p=[0.904, 0.088, 0.006, 0.002])
            ),
            "tag": (pd.Series(first_tag.astype(str)) + second).mask(no_tag),
        }
    )
    return Pool(table, duration_ms, channel, is_known)


def _upload_types(channel: Ints, rng: np.random.Generator) -> np.ndarray:
    names = np.array([
        "LongImport", "Web", "ShortImport", "Kmovie", "LongPicture", "UNKNOWN", "PictureSet", "LongCamera",
        "ShortCamera", "ShareFromOtherApp", "FollowShoot",
    ])  # fmt: skip
    shares = np.array([
        [0.325, 0.205, 0.36, 0.062, 0.005, 0.008, 0.005, 0.008, 0.017, 0.003, 0.002],
        [0.46, 0.32, 0.01, 0.14, 0.025, 0.011, 0.014, 0.011, 0.0, 0.008, 0.001],
        [0.36, 0.435, 0.0, 0.15, 0.02, 0.016, 0.009, 0.007, 0.0, 0.002, 0.001],
    ])  # fmt: skip
    reached = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)[channel]
    return names[(reached <= rng.random(len(channel))[:, None]).sum(axis=1).clip(max=len(names) - 1)]
