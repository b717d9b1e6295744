"""Each step of a day is a process, which starts without the libraries that it does not use."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODEL_STEPS = {"mlflow", "sqlalchemy", "sklearn", "duckdb", "pyspark", "matplotlib", "torch._dynamo"}
LIGHT_STEPS = {"torch", "mlflow", "sqlalchemy", "sklearn", "scipy", "pyspark", "great_expectations", "matplotlib"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "spared"),
    [
        ("mtorl_model.learn", MODEL_STEPS),
        ("mtorl_model.score", MODEL_STEPS),
        ("mtorl_model.export_champion", LIGHT_STEPS),
        ("mtorl_model.plan_budget", LIGHT_STEPS),
        ("jobs.report", LIGHT_STEPS),
        ("jobs.measure_drift", LIGHT_STEPS),
        (
            "jobs.quality.validation",
            {"torch", "mlflow", "sklearn", "pyspark", "sqlalchemy", "google", "altair.vegalite"},
        ),
    ],
)
def test_a_step_starts_without_what_it_has_no_use_for(step: str, spared: set[str]) -> None:
    code = f"import sys, {step}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.split())
    assert step in loaded
    assert spared & loaded == set()
