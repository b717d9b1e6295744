"""Libraries that only some methods need."""

from importlib import import_module
from typing import Any

from schemas.errors import UserError


def library(name: str) -> Any:
    """The imported library. Raises UserError if it, or a package that it needs, is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the method needs the package {error.name}: .venv/bin/pip install -r requirements-bench.txt"
        ) from error
