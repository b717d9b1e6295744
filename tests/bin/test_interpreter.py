"""bin/interpreter.py: which Python bin/setup.sh makes its virtual environment with."""

import ast
import builtins
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

from bin import interpreter

SCRIPT = ROOT / "bin" / "interpreter.py"


@pytest.mark.parametrize(
    ("version", "suitable"), [((3, 11, 0), True), ((3, 12, 1), True), ((4, 0, 0), True), ((3, 10, 14), False)]
)
def test_the_minimum_version_and_newer_ones_are_suitable(monkeypatch, version, suitable):
    monkeypatch.setattr(sys, "version_info", version)
    assert interpreter.can_make_environments("3.11") is suitable


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_that_cannot_make_environments_is_not_suitable(monkeypatch, module):
    real_import = builtins.__import__

    def import_without(name, *arguments, **keywords):
        if name == module:
            raise ImportError(name)
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", import_without)
    assert not interpreter.can_make_environments("3.11")


def test_its_exit_status_and_its_output_are_what_setup_reads():
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)

    assert (run("check", "3.11").returncode, run("check", "99.0").returncode) == (0, 1)
    version = f"{sys.version_info.major} {sys.version_info.minor}"
    assert run("identity").stdout == f"{version} {Path(sys.prefix).resolve()}\n"


def test_an_old_python_can_parse_it():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 5))
