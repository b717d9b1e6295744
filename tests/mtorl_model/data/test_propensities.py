"""Propensities by exposure, from partitions of exposures."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from mtorl_model.data.propensities import read_propensities


def test_known_propensities_are_found_by_exposure(tmp_path):
    lake = Lake(tmp_path)
    ids, probabilities = [[7, 3, 5], [9, 1]], [[0.5, None, 0.25], [None, 0.125]]
    partitions = [lake["exposures", "shop", f"2022-04-0{day}"] for day in (1, 2)]
    for partition, exposures, propensities in zip(partitions, ids, probabilities, strict=True):
        with work_folder() as staged:
            columns = {"exposure_id": pa.array(exposures, pa.int64()), "propensity": pa.array(propensities)}
            pq.write_table(pa.table(columns), staged / "part-0.parquet")
            partition.publish(staged, inputs={}, code="test")
    missing = lake["exposures", "shop", "2022-04-03"]
    known = read_propensities([partitions[0], missing, partitions[1]])
    np.testing.assert_array_equal(known.exposure_D, [1, 5, 7])
    np.testing.assert_array_equal(known.partition_D, [2, 0, 0])
    np.testing.assert_array_equal(known.look_up(np.array([[7, 3], [1, 100]])), [[0.5, 0.0], [0.125, 0.0]])


def test_without_propensities_all_are_unknown(tmp_path):
    known = read_propensities([Lake(tmp_path)["exposures", "shop", "2022-04-01"]])
    np.testing.assert_array_equal(known.look_up(np.array([1, 2])), [0.0, 0.0])
    assert not known.find(np.array([1]))[1].any()
