"""Fixtures shared by the tests of the model."""

import pytest
import synthetic
import torch

from lakehouse.lake import Lake
from schemas.tables.feature_spec import FeatureSpec

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of the fixture `trained` is slow: a champion is trained, and MLflow sets up its database."""
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def synthetic_lake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, FeatureSpec]:
    """A KuaiRand lake of 120 users and two days, with feature_spec and sequences; not to be changed."""
    return synthetic.write_lake(tmp_path_factory.mktemp("lake"), users=120)
