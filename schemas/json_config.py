"""Settings as frozen dataclasses that can be stored as JSON, together with the model that was trained with them."""

import json
from dataclasses import asdict, fields
from typing import Any, Self

from schemas.errors import UserError


class JsonConfig:
    """Base of a frozen dataclass whose fields are plain values, or such dataclasses themselves."""

    __slots__ = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The config that to_json wrote; absent fields keep their defaults. Raises UserError on any other text."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{cls.__name__}: not JSON ({error}): give the text that to_json wrote") from None
        return cls._from_values(values)

    @classmethod
    def _from_values(cls, values: Any) -> Self:
        if not isinstance(values, dict):
            raise UserError(f"{cls.__name__}: expected a JSON object, got {type(values).__name__}")
        types = {field.name: field.type for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(values.keys() - types.keys()):
            raise UserError(
                f"{cls.__name__}: unknown field {', '.join(unknown)}: choose from {', '.join(sorted(types))}"
            )
        return cls(**{name: _value(types[name], value) for name, value in values.items()})


def _value(field_type: object, value: Any) -> Any:
    """A nested config is an object in the JSON; any other value is used unchanged."""
    is_config = isinstance(field_type, type) and issubclass(field_type, JsonConfig)
    return field_type._from_values(value) if is_config else value  # type: ignore[attr-defined]


def require(condition: bool, message: str) -> None:
    """Raise UserError with the message unless the condition is true: for the checks in a config's `__post_init__`."""
    if not condition:
        raise UserError(message)
