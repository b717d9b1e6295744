"""Moments that are added up over parts are those of all rows together."""

import numpy as np
import pytest

from jobs.history.moments import Moments


@pytest.mark.parametrize("cuts", [[], [1], [10, 10, 300, 999], list(range(0, 1000, 7))])
@pytest.mark.parametrize("offset", [0.0, 1e9])  # sums of powers of large numbers would lose all digits of the deviation
def test_parts_add_up(cuts, offset):
    rng = np.random.default_rng(4)
    values_NF = np.column_stack([rng.normal(size=1000), rng.exponential(size=1000), np.full(1000, 0.1)]) + offset
    values_NF[rng.random(values_NF.shape) < 0.2] = np.nan
    values_NF[:400, 0] = np.nan  # some parts have no value at all
    moments = Moments.from_columns(np.empty((0, 3)))
    for part_NF in np.split(values_NF, cuts):
        moments += Moments.from_columns(part_NF)
    for f in range(3):
        known = values_NF[~np.isnan(values_NF[:, f]), f]
        shifted = known - known.min()
        deviation = shifted - shifted.mean()
        assert moments.count_F[f] == len(known)
        assert moments.mean_F[f] == pytest.approx(known.mean(), rel=1e-13)
        assert moments.std_F[f] == pytest.approx(shifted.std(), rel=1e-6)
        skewness = (deviation**3).mean() / shifted.std() ** 3 if f < 2 else 0
        assert moments.skewness_F[f] == pytest.approx(skewness, abs=1e-6)
    assert moments.std_F[2] == 0  # exactly: a constant is dropped


def test_no_value_has_no_deviation():
    moments = Moments.from_columns(np.full((3, 1), np.nan))
    assert (moments.count_F[0], moments.std_F[0], moments.skewness_F[0]) == (0, 0.0, 0.0)
