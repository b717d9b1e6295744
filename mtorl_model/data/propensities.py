"""The probability with which the log drew a channel at random, by exposure (column `propensity` of `exposures`)."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from lakehouse.lake import Partition
from lakehouse.reading import read_tables


class Propensities(NamedTuple):
    """D exposures with a known probability, in ascending order of their ids."""

    exposure_D: npt.NDArray[np.int64]
    probability_D: npt.NDArray[np.float64]  # of the channel that was drawn, > 0
    partition_D: npt.NDArray[np.int64]  # index of the partition that has the exposure

    def find(self, exposure_X: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """For each exposure id an index of the arrays, and whether its probability is known (if not, index 0)."""
        if not len(self.exposure_D):
            return np.zeros(exposure_X.shape, np.int64), np.zeros(exposure_X.shape, np.bool_)
        position_X = np.minimum(np.searchsorted(self.exposure_D, exposure_X), len(self.exposure_D) - 1)
        is_known_X: npt.NDArray[np.bool_] = self.exposure_D[position_X] == exposure_X
        return np.where(is_known_X, position_X, 0), is_known_X

    def look_up(self, exposure_X: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The probability for each exposure id; 0 for an unknown one."""
        position_X, is_known_X = self.find(exposure_X)
        probability_D = self.probability_D if len(self.probability_D) else np.zeros(1)
        return np.where(is_known_X, probability_D[position_X], 0.0)


def read_propensities(partitions: Iterable[Partition]) -> Propensities:
    """The known probabilities of partitions of `exposures`; a missing partition counts as empty."""
    exposures, probabilities, indices = [np.zeros(0, np.int64)], [np.zeros(0)], [np.zeros(0, np.int64)]
    for index, partition in enumerate(partitions):
        for table in read_tables([partition], ["exposure_id", "propensity"]):
            known = table.filter(pc.greater(table.column("propensity"), 0.0))
            exposures.append(known.column("exposure_id").to_numpy())
            probabilities.append(known.column("propensity").to_numpy())
            indices.append(np.full(len(known), index))
    exposure_D = np.concatenate(exposures)
    order_D = np.argsort(exposure_D, kind="stable")
    return Propensities(exposure_D[order_D], np.concatenate(probabilities)[order_D], np.concatenate(indices)[order_D])
