"""The choice between CPU and GPU."""

import torch

from schemas.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU if there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{name}': choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; choose auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device() -> str:
    """The device for predictions: a GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
