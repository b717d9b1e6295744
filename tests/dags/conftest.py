"""Airflow reads its environment when it is imported, so these tests set a temporary home before."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = Path(__file__).resolve().parent / "tiny"
HOME = Path(tempfile.mkdtemp(prefix="mtorl-airflow-"))

os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(TINY),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
)


@pytest.fixture(scope="session", autouse=True)
def airflow_home() -> Iterator[Path]:
    yield HOME
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_database(airflow_home: Path) -> None:
    """The tables that a run of a DAG needs. In this process, because another one would import Airflow again."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def bag(airflow_home: Path):
    """The DAGs of the project. Parsing needs no database."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


@pytest.fixture(scope="session")
def tiny_bag(airflow_database: None):
    """Small DAGs for tests. `dag.test` finds them because their folder is the configured DAG folder."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(TINY))
