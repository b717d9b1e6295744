"""Reads docker/compose.yaml and its Dockerfile as Compose does, without a container engine."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "compose.yaml"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[-?])([^{}]*))?\})")


@dataclass(frozen=True)
class Service:
    """A service with all variables filled in.

    needs: condition by service. volumes: (folder or name on the host, "" for an anonymous volume; path inside).
    """

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    needs: dict[str, str]
    volumes: list[tuple[str, str]]
    expose: list[str]
    ports: list[str]
    replicas: int
    restart: str


# The keys of a service that are read, and those that only matter to an engine. An engine refuses all others.
_READ = {"image", "command", "environment", "env_file", "healthcheck", "depends_on", "volumes", "expose", "ports",
         "deploy", "restart"}  # fmt: skip
_SKIPPED = {"build", "pull_policy", "user", "stop_grace_period"}


class MissingVariable(Exception):
    """A `${NAME:?message}` without a value."""


def fill_in(value: Any, variables: dict[str, str]) -> Any:
    """Interpolation as Compose does it: ${A}, ${A:-default}, ${A:?message}, and $$ for a dollar."""
    if isinstance(value, dict):
        return {key: fill_in(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [fill_in(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match[str]) -> str:
        dollar, name, operator, default_or_message = match.groups()
        if dollar:
            return "$"
        if variables.get(name):
            return variables[name]
        if operator == ":?":
            raise MissingVariable(f"{name}: {default_or_message}")
        return default_or_message or ""

    return _VARIABLE.sub(replacement, value)


def read_env_file(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def read_services(variables: dict[str, str], file: Path = FILE) -> dict[str, Service]:
    """All services by name. Raises MissingVariable, and ValueError for a key that Compose does not know."""
    definitions = fill_in(yaml.safe_load(file.read_text()), variables)["services"]
    return {name: _service(name, definition, file.parent, variables) for name, definition in definitions.items()}


def _service(name: str, definition: dict[str, Any], folder: Path, variables: dict[str, str]) -> Service:
    if unknown := definition.keys() - _READ - _SKIPPED:
        raise ValueError(f"service {name} has unknown keys: {sorted(unknown)}")
    environment: dict[str, str] = {}
    for env_file in definition.get("env_file", []):
        environment |= read_env_file(folder / env_file)
    for setting, value in definition.get("environment", {}).items():
        if value is not None:
            environment[setting] = value
        elif setting in variables:  # a name without a value passes a variable on, if it is set
            environment[setting] = variables[setting]
    return Service(
        name=name,
        image=definition["image"],
        command=definition["command"],
        environment=environment,
        health=definition.get("healthcheck", {}).get("test", []),
        needs={service: need["condition"] for service, need in definition.get("depends_on", {}).items()},
        volumes=[volume.removesuffix(":ro").rpartition(":")[::2] for volume in definition.get("volumes", [])],
        expose=definition.get("expose", []),
        ports=definition.get("ports", []),
        replicas=definition.get("deploy", {}).get("replicas", 1),
        restart=definition["restart"],
    )


def image_environment(dockerfile: Path = ROOT / "docker" / "Dockerfile") -> dict[str, str]:
    """The variables that the ENV lines of the image set."""
    return dict(re.findall(r"^ENV (\w+)=(\S+)$", dockerfile.read_text(), re.MULTILINE))
