"""Fixtures that several folders of tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
_SAMPLE_FOLDERS = {"kuairand": SAMPLES / "KuaiRand-Pure" / "data", "criteo": SAMPLES / "criteo"}


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:  # noqa: F821 - importing pyspark here would slow every test run
    """One small Spark session for all tests of a process."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    from jobs.session import configured

    builder = configured(SparkSession.builder.appName("tests"))
    builder = builder.config("spark.sql.shuffle.partitions", "2").config(
        "spark.driver.extraJavaOptions", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    )
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.fixture(params=["kuairand", "criteo"])
def sample(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Name and raw folder of a real sample log; skipped where it does not lie beside the checkout."""
    folder = _SAMPLE_FOLDERS[request.param]
    if not folder.is_dir():
        pytest.skip(f"no real {request.param} sample beside the checkout (looked in {folder})")
    return request.param, folder
