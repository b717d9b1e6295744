"""Fixtures that several folders of tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
_SAMPLE_FOLDERS = {"kuairand": SAMPLES / "KuaiRand-Pure" / "data", "criteo": SAMPLES / "criteo"}


# A test has a hundred rows: compiling code for them would take most of its time.
_FOR_TINY_DATA = {
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
}


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkSession"]:  # noqa: F821 - importing pyspark here would slow every test run
    """One small Spark session for all tests of a process."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    from jobs.spark.session import configured

    builder = configured(SparkSession.builder.appName("tests"))
    for key, value in _FOR_TINY_DATA.items():
        builder = builder.config(key, value)
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
