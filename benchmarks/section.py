"""A section of docs/performance.md: what was measured, how, and the table."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.measure import Spread
from lakehouse.code_version import code_version
from lakehouse.files import write_whole


def made_now() -> str:
    """The day, the version of the code, and those of what it is measured with or rests on."""
    installed = {name for name in ("pyspark", "pyarrow", "torch", "polars") if find_spec(name)}  # polars: a peer alone
    libraries = (f"{name} {version(name)}" for name in sorted(installed))
    code = code_version("benchmarks", "jobs", "mtorl_model", "simulation")
    return ", ".join([f"{datetime.now(UTC):%Y-%m-%d}", f"code {code}", *libraries])


@dataclass(frozen=True, slots=True)
class Section:
    """text: Markdown. command: what makes it. rows: a cell a heading. made: when, and with what.

    curves: for the picture, by label, points of (rows, seconds, bytes).
    """

    title: str
    text: str
    command: str
    machine: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    made: str = field(default_factory=made_now)

    def markdown(self) -> list[str]:
        told = "; ".join(filter(None, (self.machine, self.made)))
        return [
            f"## {self.title}", "", self.text, "", f"`{self.command}`, on {told}", "",
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
    return Section(**{"made": "", **found}) if found else None  # what does not say with what it was made


def _held(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
