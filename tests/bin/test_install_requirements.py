"""Packages of another requirements file are installed once, and again after a change or a failure."""

import subprocess
from pathlib import Path

import pytest
from checkout import ROOT


@pytest.fixture
def calls_after_install(tmp_path: Path):
    """Runs install_requirements with a Python that only counts its calls; the exit status, and the calls so far."""
    python, calls = tmp_path / "python", tmp_path / "calls"
    (tmp_path / ".installed").write_text("first")
    calls.touch()

    def install(pip_status: int = 0) -> tuple[int, int]:
        python.write_text(f"#!/bin/sh\necho call >>{calls}\nexit {pip_status}\n")
        python.chmod(0o755)
        script = (
            f'source bin/common.sh; VENV={tmp_path}; PYTHON_BIN={python}; install_requirements "requirements-s3.txt"'
        )
        done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, check=False)
        return done.returncode, len(calls.read_text().splitlines())

    return install


def test_packages_are_installed_once(calls_after_install, tmp_path):
    assert calls_after_install() == (0, 1)
    assert calls_after_install() == (0, 1)
    (tmp_path / ".installed").write_text("other packages, in an environment that was made again")
    assert calls_after_install() == (0, 2)


def test_a_failed_installation_is_tried_again(calls_after_install):
    assert calls_after_install(pip_status=1) == (2, 1)
    assert calls_after_install() == (0, 2)
