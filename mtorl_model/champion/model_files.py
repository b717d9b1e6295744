"""The files of registered models on this machine: a copy in the scratch folder, made from MLflow when it is first used.

A copy is compared with the checksums that were written with the model. A damaged copy is made again.
"""

import os
import shutil
import tempfile
from pathlib import Path

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import scratch_folder
from mtorl_model.champion.mlflow_store import MODEL, download_model
from mtorl_model.training.checksums import checked_names, first_difference
from schemas.errors import UserError

_MODELS = "models"  # the purpose of the scratch folder
_IF_DAMAGED = "go back to an earlier model (make rollback), or train again (make run)"


def model_folder(lake: Lake, version: Version) -> Path:
    """The folder with the model of a version, whose files have their checksums.

    Raises UserError if a file in MLflow is missing or damaged, and Busy if MLflow does not answer.
    """
    folder = _copy_of(version.run_id)
    if folder.is_dir():
        difference = first_difference(folder, checked_names(folder), str(folder))
        if not difference:
            os.utime(folder)  # used today
            return folder
        print(f"note: {difference}: it is copied from MLflow again", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as work:
        downloaded = download_model(lake, version.run_id, Path(work))
        place = f"{version.name} in MLflow: {MODEL}"
        if difference := first_difference(downloaded, checked_names(downloaded), place):
            raise UserError(f"{difference}: {_IF_DAMAGED}")
        keep_model(downloaded, version.run_id)
    return folder


def keep_model(folder: Path, run_id: str) -> None:
    """Move the model folder of a run into the scratch folder, unless another process has just done so."""
    copy = _copy_of(run_id)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".") as work:
        moved = Path(shutil.move(folder, Path(work) / run_id))
        try:
            moved.rename(copy)
        except OSError:
            if not copy.is_dir():
                raise


def _copy_of(run_id: str) -> Path:
    return scratch_folder(_MODELS) / run_id
