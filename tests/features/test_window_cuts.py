"""Every step of a span but a journey's first is a label exactly once, with enough steps before it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.window_cuts import cut_spans

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 90)), min_size=1, max_size=8)


@settings(deadline=None)
@given(spans=spans, n=st.integers(2, 25))
def test_each_step_is_a_label_once_with_half_a_window_before_it(spans, n):
    start_D, length_D = np.array(spans).T
    cuts = cut_spans(start_D, start_D + length_D, n)
    labels = [[] for _ in spans]
    for span, stop, count in zip(cuts.span_W, cuts.stop_W, cuts.labels_W, strict=True):
        assert 1 <= count <= n
        window_start = max(stop - n, 0)
        for position in range(stop - count, stop):
            assert position - window_start >= min(position, n // 2)
            labels[span].append(position)
    assert labels == [list(range(max(start, 1), start + length)) for start, length in spans]
    for span in range(len(spans)):
        numbers = cuts.number_W[cuts.span_W == span].tolist()
        assert numbers == list(range(len(numbers)))


def test_a_journeys_first_step_alone_makes_no_window():
    assert len(cut_spans(np.array([0]), np.array([1]), 5).span_W) == 0
