"""A section of docs/performance.md: what was measured, how, and the table."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.measure import Spread
from schemas.publishing import write_whole


@dataclass(frozen=True, slots=True)
class Section:
    """text: Markdown. command: what makes it. rows: a cell a heading.

    curves: for the picture, by label, points of (rows, seconds, bytes).
    """

    title: str
    text: str
    command: str
    machine: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    curves: dict[str, list[list[float]]] = field(default_factory=dict)

    def markdown(self) -> list[str]:
        return [
            f"## {self.title}", "", self.text, "", f"`{self.command}`, on {self.machine}", "",
            _line(self.headings), "|" + "---|" * len(self.headings), *map(_line, self.rows), "",
        ]  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def this_machine() -> str:
    cores = len(os.sched_getaffinity(0))
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cores} cores ({_processor()}), {psutil.virtual_memory().total / 2**30:.0f} GiB{gpu}, {platform.system()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def seconds(spread: Spread) -> str:
    return f"{spread.median:.1f} s{_ends(spread, 1)}"


def times(spread: Spread) -> str:
    return f"{spread.median:.2f}{_ends(spread, 2)}"


def _ends(spread: Spread, digits: int) -> str:
    """Nothing where they are one: a single round has no spread."""
    return "" if spread.low == spread.high else f" [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def gib(peak_bytes: float) -> str:
    return f"{peak_bytes / 2**30:.2f} GiB"


def store(file: Path, name: str, section: Section) -> None:
    """Into the file that holds all sections as they were last measured."""
    write_whole(file, json.dumps({**_held(file), name: asdict(section)}, indent=1) + "\n")


def stored(file: Path, name: str) -> Section | None:
    """A section as it was last measured; None where it never was."""
    found = _held(file).get(name)
    return Section(**found) if found else None


def _held(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
