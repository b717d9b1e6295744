"""The files that docker/init.sh creates before all other services start."""

import json
import os
import runpy
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

import lakehouse.staging
import mtorl_model.champion.mlflow_store
from lakehouse.lake import Lake
from schemas.errors import UserError


def test_the_password_of_the_environment_is_written_for_its_owner_alone(tmp_path):
    file = tmp_path / "secrets" / "passwords.json"
    for password in ("first", "second"):
        settings = {
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(file),
            "AIRFLOW_ADMIN_PASSWORD": password,
            "PYTHONPATH": str(ROOT),
        }
        subprocess.run([sys.executable, ROOT / "docker" / "write_password.py"], env=os.environ | settings, check=True)
        assert json.loads(file.read_text()) == {"admin": password}
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.fixture
def created_stores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Lake]:
    """The lakes whose model store is created; the lake of the environment is `tmp_path`/lake."""
    monkeypatch.setenv("MTORL_LAKE", str(tmp_path / "lake"))
    lakes: list[Lake] = []
    monkeypatch.setattr(mtorl_model.champion.mlflow_store, "create_store", lakes.append)
    return lakes


def create_model_store() -> None:
    runpy.run_path(str(ROOT / "docker" / "create_model_store.py"), run_name="__main__")


def test_the_model_store_is_created_in_the_lake(created_stores, tmp_path):
    create_model_store()
    assert created_stores == [Lake(tmp_path / "lake")]
    assert list((tmp_path / "lake").rglob("*.lock")) == []


def test_storage_that_cannot_hold_a_lake_is_refused_with_one_line(created_stores, monkeypatch, capsys):
    def refuse(lake: Lake) -> None:
        raise UserError(f"{lake.root} is on NFS")

    monkeypatch.setattr(lakehouse.staging, "staging_folder", refuse)
    with pytest.raises(SystemExit) as end:
        create_model_store()
    assert (end.value.code, created_stores) == (2, [])
    assert capsys.readouterr().err.startswith("error: ")
