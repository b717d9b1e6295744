"""Fixtures shared by the tests of the model."""

import pytest
import synthetic
import torch

from lakehouse.lake import Lake
from schemas.tables.feature_spec import FeatureSpec

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def synthetic_lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, FeatureSpec]:
    """A KuaiRand lake of 120 users and two days, with feature_spec and sequences; not to be changed."""
    return synthetic.write_lake(tmp_path_factory.mktemp("lake"), users=120)
