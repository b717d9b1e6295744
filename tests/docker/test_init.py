"""The files that docker/init.sh creates before all other services start."""

import json
import os
import runpy
import stat
import subprocess
import sys

import pytest
from checkout import ROOT

from lakehouse.lake import Lake


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


def check_lake() -> None:
    runpy.run_path(str(ROOT / "docker" / "check_lake.py"), run_name="__main__")


def test_the_lake_is_only_probed(monkeypatch, tmp_path):
    monkeypatch.setenv("MTORL_LAKE", str(tmp_path / "lake"))
    check_lake()
    assert list((tmp_path / "lake").iterdir()) == []


@pytest.mark.bucket
def test_the_lake_may_be_in_a_bucket(monkeypatch, bucket):
    monkeypatch.setenv("MTORL_LAKE", bucket)
    check_lake()
    assert list(Lake.at(bucket).root.glob("*")) == []


def test_a_lake_that_cannot_be_written_is_refused_with_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MTORL_LAKE", str(tmp_path / "lake"))
    (tmp_path / "lake").write_text("a file")
    with pytest.raises(SystemExit) as end:
        check_lake()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: cannot write to the lake {tmp_path / 'lake'}: ")
