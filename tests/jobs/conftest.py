"""Fixtures and markers of the tests of jobs."""

import fcntl
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that uses Spark carries the marker `spark`."""
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def built_lakes(spark, shared_folder: Path) -> dict[str, "BuiltLake"]:  # noqa: F821 - imported below
    """The lake of each layout, which the jobs have built. Not to be changed.

    The first process of a test run that needs the lakes builds them; the others wait for it.
    """
    from built_lake import built_lake

    with (shared_folder / "built_lakes.lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return {layout: built_lake(spark, patch, shared_folder, layout) for layout in ("kuairand", "criteo")}
