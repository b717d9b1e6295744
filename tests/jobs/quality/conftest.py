"""Fixtures of the tests of audits."""

from pathlib import Path

import pytest

from lakehouse.lake import Lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")
