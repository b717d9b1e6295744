"""Methods whose library, of the same name, may be missing."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest

from mtorl_model.studies.baselines.spaces import RIVALS


def is_installed(name: str) -> bool:
    return name not in RIVALS or find_spec(name) is not None


def parameters(names: Iterable[str]) -> list[Any]:
    """The names as parameters of a test, which is skipped for a method without its library."""
    return [pytest.param(name, marks=_skip(name)) for name in names]


def _skip(name: str) -> pytest.MarkDecorator:
    reason = f"{name} is not installed: pip install -r requirements-rivals.txt"
    return pytest.mark.skipif(not is_installed(name), reason=reason)
