"""The DAG file loads without errors, fast, and without heavy packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.dataset import dataset_names

KINDS = ("history", "daily", "nightly", "report", "maintenance")
HEAVY = {"torch", "pyspark", "pandas", "great_expectations", "mlflow", "sklearn", "duckdb"}


def test_every_dataset_has_its_dags_without_import_errors(bag):
    assert bag.import_errors == {}
    expected = {f"mtorl_{kind}_{name}" for kind in KINDS for name in dataset_names()}
    assert set(bag.dags) == expected


def test_only_the_named_datasets_have_dags(airflow_home, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("MTORL_DATASETS", "kuairand_tab, criteo")
    bag = DagBag(str(Path(__file__).parents[2] / "dags"))
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"mtorl_{kind}_{name}" for kind in KINDS for name in ("kuairand_tab", "criteo")}


def test_datasets_with_a_log_have_dags_if_none_is_named(airflow_home, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.delenv("MTORL_DATASETS", raising=False)
    monkeypatch.setenv("MTORL_RAW_KUAIRAND", "/raw/kuairand")
    monkeypatch.setenv("MTORL_RAW_CRITEO", "/raw/criteo")
    bag = DagBag(str(Path(__file__).parents[2] / "dags"))
    assert set(bag.dags) == {f"mtorl_{kind}_{name}" for kind in KINDS for name in ("kuairand", "criteo")}


@pytest.mark.slow
def test_parsing_loads_no_heavy_package():
    code = "import sys, dags.mtorl; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "airflow" in loaded
    assert not HEAVY & set(loaded)


def test_every_dag_has_a_description(bag):
    for dag in bag.dags.values():
        assert dag.doc_md.strip()
        assert dag.description
