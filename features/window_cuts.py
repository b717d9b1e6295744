"""Where windows of n steps begin and end in a journey, so that each step after a user's first is a label exactly once.

Shapes: D spans (runs of a journey's steps that are to be labelled, for example the steps of a day), W windows.
"""

from typing import NamedTuple

import numpy as np

from features.columns import Ints


class WindowCuts(NamedTuple):
    """W windows, span by span, a span's windows in order.

    span_W: number of the span. number_W: number among the span's windows, from 0. stop_W: position in the journey at
    which the window ends, itself excluded. labels_W: how many of the window's last steps are labels.
    """

    span_W: Ints
    number_W: Ints
    stop_W: Ints
    labels_W: Ints


def cut_spans(start_D: Ints, stop_D: Ints, n: int) -> WindowCuts:
    """The windows of n >= 2 steps that label the steps at positions start_D to stop_D of a journey, stop excluded.

    A journey's first step, at position 0, is never a label. The first window of a span starts up to n/2 steps before
    its first label (at the journey's start if it has fewer), each further one exactly n/2 before. The last window is
    filled with more steps before its labels. So a label at position t has at least min(t, n/2) steps before it.
    """
    context = (n + 1) // 2
    first_label_D = np.maximum(start_D, 1)
    # With few steps before it, the first window has room for more labels.
    labels_of_first_D = n - np.minimum(first_label_D, context)
    labels_left_D = stop_D - first_label_D - labels_of_first_D
    more_windows_D = np.maximum(-(-labels_left_D // (n - context)), 0)
    windows_D = np.where(stop_D > first_label_D, more_windows_D + 1, 0)

    span_W = np.repeat(np.arange(len(windows_D)), windows_D)
    number_W = np.arange(len(span_W)) - np.repeat(np.cumsum(windows_D) - windows_D, windows_D)
    full_stop_W = (first_label_D + labels_of_first_D)[span_W] + number_W * (n - context)
    label_start_W = np.where(number_W == 0, first_label_D[span_W], full_stop_W - (n - context))
    stop_W = np.minimum(full_stop_W, stop_D[span_W])
    return WindowCuts(span_W, number_W, stop_W, stop_W - label_start_W)
