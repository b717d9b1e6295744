"""The channel level as of a model's training: from windows of its training users and its own predictions for them."""

import numpy as np

from mtorl_model.data.encoding import Encoded
from mtorl_model.data.money import NANO, Ints
from mtorl_model.data.windows.store import WindowStore
from mtorl_model.inference.channel_level import ChannelCounts, ChannelLevel, channel_level, count_steps
from mtorl_model.inference.scoring import base_rate
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Method
from schemas.dataset import Dataset

_MAX_WINDOWS = 8192  # of a log without costs


def training_level(model: Method, windows: Encoded, cost_nano_NL: Ints, dataset: Dataset) -> ChannelLevel:
    """The channel level over the labels of N windows of L steps. cost_nano_NL: the cost of each step."""
    counts, tau = ChannelCounts.zeros(len(model.spec.channels)), base_rate(model, dataset)
    for start in range(0, len(windows.label_NL), WINDOWS_AT_ONCE):
        part = slice(start, start + WINDOWS_AT_ONCE)
        encoded = windows.take(part)
        gains_BLG = model.predict(encoded.batch()).gains_XG
        counts += count_steps(encoded.label_NL, encoded, gains_BLG, tau, cost_nano_NL[part], dataset)
    return channel_level(model.spec.channels, counts)


def level_of_log(model: Method, store: WindowStore, dataset: Dataset) -> ChannelLevel:
    """The channel level over at most _MAX_WINDOWS windows of training users. Every exposure costs 1."""
    windows = store.windows.take(slice(0, _MAX_WINDOWS))
    cost_nano_NL = np.full(windows.label_NL.shape, NANO, dtype=np.int64)
    return training_level(model, windows, cost_nano_NL, dataset)
