"""A method without its library is listed, and its use is an error that names the packages to install."""

import subprocess
import sys

import pytest

from mtorl_model.methods import METHODS
from mtorl_model.methods.baselines.shared import library
from mtorl_model.studies.baselines.spaces import RIVALS, base_config
from schemas.errors import UserError


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # Python then fails to import it
    for module in (name, "shared.light_trees"):
        monkeypatch.delitem(sys.modules, f"mtorl_model.methods.baselines.{module}", raising=False)
    monkeypatch.delitem(METHODS._registered, name, raising=False)


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("name", RIVALS)
def test_its_use_names_what_to_install(name: str) -> None:
    assert name in METHODS
    message = rf"^the method needs the package {name}: \.venv/bin/pip install -r requirements-rivals\.txt$"
    with pytest.raises(UserError, match=message):
        METHODS[name]
    with pytest.raises(UserError, match=message):  # before a study tunes it, where a UserError is a failed trial
        base_config(name, "criteo", None)


def test_a_missing_library_of_the_system_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(library, "import_module", load)
    with pytest.raises(UserError, match=r"lightgbm cannot be loaded \(libgomp\.so\.1: .*requirements-rivals\.txt$"):
        library.library("lightgbm")


def test_the_list_of_methods_loads_no_library() -> None:
    code = "import sys; from mtorl_model.methods import METHODS; print(*METHODS, '|', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    names, modules = (set(part.split()) for part in result.stdout.split("|"))
    assert names >= {*RIVALS, "mtorl"}
    assert not modules & {*RIVALS, "torch"}
