"""A model's files on this machine: copied from MLflow when first used, compared with their checksums, made again."""

import shutil
from pathlib import Path

import pytest

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.champion import model_files
from mtorl_model.champion.model_files import keep_model, model_folder
from mtorl_model.training.checksums import CHECKSUMS, write_checksums
from schemas.errors import UserError

VERSION = Version("mtorl_kuairand/3", 3, "a0b1", "2022-04-11", "digest")
CONTENT = {"weights.pt": "tensors", "config.json": "{}"}


def write_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_text(content)
    write_checksums(folder, list(CONTENT))
    (folder / "MLmodel").write_text("without a checksum")
    return folder


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model as MLflow has it; a download copies it."""
    monkeypatch.setenv("MTORL_SCRATCH", str(tmp_path / "scratch"))
    folder = write_model(tmp_path / "stored" / "model")

    def download(lake: Lake, run_id: str, target: Path) -> Path:
        assert run_id == VERSION.run_id
        return Path(shutil.copytree(folder, target / "model"))

    monkeypatch.setattr(model_files, "download_model", download)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in CONTENT}


def copies() -> list[str]:
    return [path.name for path in scratch_folder("models").iterdir()]


def test_a_model_is_downloaded_once(stored: Path, tmp_path: Path) -> None:
    folder = model_folder(Lake(tmp_path), VERSION)
    assert (folder, content(folder), copies()) == (scratch_folder("models") / "a0b1", CONTENT, ["a0b1"])
    shutil.rmtree(stored)
    assert content(model_folder(Lake(tmp_path), VERSION)) == CONTENT


@pytest.mark.parametrize("name", [*CONTENT, CHECKSUMS])
@pytest.mark.parametrize("damage", ["other", "missing"])
def test_a_damaged_copy_is_made_again_with_a_line(
    stored: Path, tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = model_folder(Lake(tmp_path), VERSION) / name
    file.write_text("[]") if damage == "other" else file.unlink()
    assert content(model_folder(Lake(tmp_path), VERSION)) == CONTENT
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"note: {file.parent}")
    assert line.endswith("copied from MLflow again")


@pytest.mark.parametrize("name", [*CONTENT, CHECKSUMS])
def test_damage_in_mlflow_is_one_line_and_leaves_no_copy(stored: Path, tmp_path: Path, name: str) -> None:
    (stored / name).write_text("[]")
    with pytest.raises(UserError, match=r"^mtorl_kuairand/3 in MLflow: model/\S+ is damaged, .*: go back to "):
        model_folder(Lake(tmp_path), VERSION)
    assert copies() == []
    (stored / name).unlink()
    with pytest.raises(UserError, match=rf"^mtorl_kuairand/3 in MLflow: model lacks {name}"):
        model_folder(Lake(tmp_path), VERSION)
    assert copies() == []


def test_of_two_copies_made_at_once_the_first_stays(stored: Path, tmp_path: Path) -> None:
    keep_model(write_model(tmp_path / "first"), VERSION.run_id)
    keep_model(write_model(tmp_path / "second"), VERSION.run_id)
    assert copies() == [VERSION.run_id]
    assert not (tmp_path / "second").exists()
