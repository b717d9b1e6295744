"""A section of docs/performance.md: its text, its table, and the command, machine and versions that measured it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread
from lakehouse.code_version import code_version
from lakehouse.storage.files import write_whole

_LIBRARIES = ("pyspark", "pyarrow", "torch", "polars")


def versions_today() -> str:
    """The date, the version of the code, and those of the libraries that the figures depend on."""
    installed = [name for name in sorted(_LIBRARIES) if find_spec(name)]  # only the benchmarks need polars
    libraries = (f"{name} {version(name)}" for name in installed)
    code = code_version("benchmarks", "jobs", "mtorl_model", "simulation")
    return ", ".join([f"{datetime.now(UTC):%Y-%m-%d}", f"code {code}", *libraries])


@dataclass(frozen=True, slots=True)
class Section:
    """text: Markdown.
    command: the `make bench` command that measures it.
    machine: machine.description() of the machine that measured it.
    rows: one cell per heading.
    curves: for the picture, by label, points of (rows, seconds, bytes).
    versions: versions_today() of the day on which it was measured.
    """

    title: str
    text: str
    command: str
    machine: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    versions: str = field(default_factory=versions_today)

    def markdown(self) -> list[str]:
        """The lines of the section, its table included."""
        origin = "; ".join(filter(None, (self.machine, self.versions)))
        return [
            f"## {self.title}",
            "",
            self.text,
            "",
            f"`{self.command}`, on {origin}",
            "",
            _line(self.headings),
            "|" + "---|" * len(self.headings),
            *map(_line, self.rows),
            "",
        ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def seconds(spread: Spread) -> str:
    return f"{spread.median:.1f} s{_range(spread, 1)}"


def times(spread: Spread) -> str:
    """A ratio, as a cell of the table."""
    return f"{spread.median:.2f}{_range(spread, 2)}"


def _range(spread: Spread, digits: int) -> str:
    """The smallest and the largest value; empty for a single round, which has no spread."""
    return "" if spread.low == spread.high else f" [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def gib(peak_bytes: float) -> str:
    return f"{peak_bytes / 2**30:.2f} GiB"


def store(file: Path, name: str, section: Section) -> None:
    """Write a section into the file that keeps the latest measurement of every section."""
    write_whole(file, json.dumps({**_read(file), name: asdict(section)}, indent=1) + "\n")


def stored(file: Path, name: str) -> Section | None:
    """The latest measurement of a section; None if it was never measured."""
    fields = _read(file).get(name)
    return Section(**{"versions": "", **fields}) if fields else None  # old sections have no versions


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}
