"""Tensors on disk: written atomically, and read without running code from the file."""

import hashlib
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from lakehouse.storage.files import write_whole
from schemas.errors import UserError


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a dict of tensors, numbers, text, and lists and dicts of them, atomically."""
    write_whole(path, tensor_bytes(content))


def tensor_bytes(content: dict[str, Any]) -> bytes:
    """The bytes of such a file."""
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a file of save_tensors; the tensors are on the CPU. Raises UserError if it is broken or contains code."""
    return tensors_of(path.read_bytes(), path)


def tensors_of(raw: bytes, path: Path) -> dict[str, Any]:
    """Undo tensor_bytes. path: for the message. Raises as load_tensors does."""
    try:
        content: dict[str, Any] = torch.load(BytesIO(raw), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is not a file of plain tensors ({reason}): delete it and train again") from error
    return content


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the state of a training, after a line with the checksum of its bytes.

    identity: a text that names its configs, feature spec and data.
    """
    content = tensor_bytes({"identity": identity, "state": state})
    write_whole(path, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state; None without a checkpoint, or with a line if the checkpoint is damaged, so that training starts over.

    Raises UserError if the checkpoint has another identity.
    """
    if not path.exists():
        return None
    checksum, _, raw = path.read_bytes().partition(b"\n")
    if hashlib.sha256(raw).hexdigest().encode() != checksum:
        print(f"the checkpoint {path} is damaged: this part of the training starts over")
        return None
    content = tensors_of(raw, path)
    if content.get("identity") != identity:
        raise UserError(
            f"the checkpoint {path} belongs to a training with other configs, features or data: delete it to start over"
        )
    state: dict[str, Any] = content["state"]
    return state
