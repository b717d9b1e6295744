"""Checks that the fields of a contract have the types that they are declared with.

A forgotten comma makes ("log.csv") a text: its letters would be read as patterns of file names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_NAMES = {str: "text in quotes", int: "a whole number", float: "a number", bool: "True or False"}
_LONGEST = 40  # characters of a value in an error


def check_field_types(part: Any) -> None:
    """Raises ValueError for the first field of this dataclass, or of a dataclass in it, that has another type."""
    for problem in _problems_of_fields(part, ""):
        raise ValueError(problem)


def _problems_of_fields(part: Any, place: str) -> Iterator[str]:
    for name, hint in _field_hints(part.__class__).items():
        yield from _problems(getattr(part, name), hint, f"{place}{name}")


@cache
def _field_hints(kind: type) -> Mapping[str, Any]:
    return MappingProxyType(get_type_hints(kind))


def _problems(value: object, hint: Any, place: str) -> Iterator[str]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is not None or NoneType not in arguments:
            yield from min(([*_problems(value, kind, place)] for kind in arguments if kind is not NoneType), key=len)
    elif origin is tuple:
        if not isinstance(value, tuple):
            yield f"{place} must be a tuple: write (a, b), and a single element with a comma, (a,)"
        elif Ellipsis in arguments:
            for number, element in enumerate(value, 1):
                yield from _problems(element, arguments[0], f"{place}, element {number}")
    elif origin is None and isinstance(hint, type):
        yield from _problems_of_kind(value, hint, place)


def _problems_of_kind(value: object, kind: type, place: str) -> Iterator[str]:
    accepted = (int, float) if kind is float else kind
    is_bool_as_number = isinstance(value, bool) and kind in (int, float)
    if not isinstance(value, accepted) or is_bool_as_number:
        name, text = _NAMES.get(kind, f"a {kind.__name__}"), repr(value)
        yield f"{place} must be {name}, not {text if len(text) <= _LONGEST else type(value).__name__}"
    elif is_dataclass(kind) and not issubclass(kind, Enum):
        yield from _problems_of_fields(value, f"{place}: ")
