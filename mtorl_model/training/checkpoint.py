"""Tensors on disk: written atomically, and read without running code from the file."""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from lakehouse.files import write_whole
from schemas.errors import UserError


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors, numbers, text, and lists and dicts of them, atomically."""
    buffer = BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file of save_tensors; the tensors are on the CPU. Raises UserError if it is broken or contains code."""
    raw = BytesIO(path.read_bytes())  # errors after this line are about the content, not about the disk
    try:
        content: dict[str, Any] = torch.load(raw, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is not a file of plain tensors ({reason}): delete it and train again") from error
    return content


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the state of a training. identity: a text that names its configs, feature spec and data."""
    save_tensors(path, {"identity": identity, "state": state})


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state, or None without a checkpoint. Raises UserError if the checkpoint has another identity."""
    if not path.exists():
        return None
    content = load_tensors(path)
    if content.get("identity") != identity:
        raise UserError(
            f"the checkpoint {path} belongs to a training with other configs, features or data: delete it to start over"
        )
    state: dict[str, Any] = content["state"]
    return state
