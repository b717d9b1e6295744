"""Libraries that only some methods need."""

from importlib import import_module
from typing import Any

from schemas.errors import UserError


def library(name: str) -> Any:
    """The imported library. Raises UserError if it, or a package or system library that it needs, is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the method needs the package {error.name}: .venv/bin/pip install -r requirements-rivals.txt"
        ) from error
    except OSError as error:  # for example libgomp.so.1 of the system
        raise UserError(f"the package {name} cannot be loaded ({error}): see requirements-rivals.txt") from error
