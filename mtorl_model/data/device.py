"""The choice between CPU and GPU."""

import torch

from schemas.errors import UserError


def choose_device(name: str) -> torch.device:
    """The device of that name: auto, cpu or cuda. "auto" is a GPU if this machine has one.

    Raises UserError if the name is unknown, or if it is cuda and this machine has no GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{name}': choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; choose auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device() -> str:
    """The name of the device for predictions: cuda if this machine has a GPU, otherwise cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"
