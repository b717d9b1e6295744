"""The scratch folder: where it is, by the environment, and one clear line where it cannot be."""

from pathlib import Path

import pytest

from lakehouse.scratch import scratch_folder
from schemas.errors import UserError


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({"MTORL_SCRATCH": "{}/here", "XDG_CACHE_HOME": "{}/caches"}, "here"),
        ({"MTORL_SCRATCH": "relative", "XDG_CACHE_HOME": "{}/caches"}, "relative"),
        ({"MTORL_SCRATCH": "", "XDG_CACHE_HOME": "{}/caches"}, "caches/mtorl"),
        ({"XDG_CACHE_HOME": "relative"}, ".cache/mtorl"),
        ({}, ".cache/mtorl"),
    ],
)
def test_the_environment_names_the_scratch_folder(
    environment: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MTORL_SCRATCH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "{}", **environment}.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = scratch_folder("models")
    assert folder == tmp_path / place / "models"
    assert folder.is_dir()
    assert scratch_folder("models") == folder


def test_a_folder_that_cannot_be_created_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"^cannot create the scratch folder .*/file/models \(Not a directory\): set "):
        scratch_folder("models")


@pytest.mark.parametrize("purpose", ["", "..", "../models", "a/b", "/tmp"])
def test_a_purpose_is_a_name_and_never_a_path(purpose: str) -> None:
    with pytest.raises(ValueError, match="not a purpose"):
        scratch_folder(purpose)
