"""Propensities by exposure, from partitions of exposures."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtorl_model.data.propensities import read_propensities


def test_known_propensities_are_found_by_exposure(tmp_path):
    ids, probabilities = [[7, 3, 5], [9, 1]], [[0.5, None, 0.25], [None, 0.125]]
    for day in range(2):
        folder = tmp_path / str(day)
        folder.mkdir()
        columns = {"exposure_id": pa.array(ids[day], pa.int64()), "propensity": pa.array(probabilities[day])}
        pq.write_table(pa.table(columns), folder / "part-00000.parquet")
    known = read_propensities([tmp_path / "0", tmp_path / "missing", tmp_path / "1"])
    np.testing.assert_array_equal(known.exposure_D, [1, 5, 7])
    np.testing.assert_array_equal(known.partition_D, [2, 0, 0])
    np.testing.assert_array_equal(known.look_up(np.array([[7, 3], [1, 100]])), [[0.5, 0.0], [0.125, 0.0]])


def test_without_propensities_all_are_unknown(tmp_path):
    known = read_propensities([tmp_path / "missing"])
    np.testing.assert_array_equal(known.look_up(np.array([1, 2])), [0.0, 0.0])
    assert not known.find(np.array([1]))[1].any()
