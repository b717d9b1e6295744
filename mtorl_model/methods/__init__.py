"""The methods that can be trained, found by name: `METHODS["mtorl"]`.

The `__init__.py` of a folder in this package names the folder's methods: its METHODS maps a method's name to the module
whose import registers it. Modules are imported on the first look-up, so that listing the names does not import torch.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from schemas.errors import UserError

if TYPE_CHECKING:
    from mtorl_model.methods.method import Method

M = TypeVar("M", bound="type[Method]")


class Methods:
    """Every method by its name."""

    def __init__(self) -> None:
        self._registered: dict[str, type[Method]] = {}

    def __getitem__(self, name: str) -> "type[Method]":
        """The method's class. Raises UserError if no method has that name."""
        if name not in self._registered:
            modules = _modules()
            if name not in modules:
                raise UserError(f"unknown method '{name}': choose one of {', '.join(self)}")
            import_module(modules[name])
        return self._registered[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*_modules(), *self._registered}))

    def register(self, method: M) -> M:
        """Make a method known by its name; a class decorator."""
        self._registered[method.name] = method
        return method


def _modules() -> dict[str, str]:
    """By name of a method, the module that registers it."""
    folders = [import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__) if entry.ispkg]
    return {name: module for folder in folders for name, module in getattr(folder, "METHODS", {}).items()}


METHODS = Methods()
register = METHODS.register
