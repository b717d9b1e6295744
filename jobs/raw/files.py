"""Finds a dataset's raw files and checks them before Spark starts: folder, layout, header, compression."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakehouse.lake import literal_path
from schemas.dataset import Dataset, RawFile
from schemas.errors import UserError


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The checked files of one layout."""

    layout: RawFile
    paths: tuple[Path, ...]


def find_raw_files(dataset: Dataset, folder: Path) -> dict[str, RawFiles]:
    """All raw files of a dataset by view name. Raises UserError if a file is missing or has a different layout."""
    literal_path(folder)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (RAW must name the folder that holds the raw {dataset.name} files)")
    files = {}
    for layout in dataset.raw_files:
        paths = sorted({p for pattern in layout.patterns for p in folder.glob(pattern) if p.is_file()})
        if not paths:
            raise UserError(f"no {dataset.name} files in {folder}: expected {' or '.join(layout.patterns)}")
        for path in paths:
            _check_header(literal_path(path), layout)
        files[layout.view] = RawFiles(layout, tuple(paths))
    return files


def raw_paths(files: Mapping[str, RawFiles]) -> list[Path]:
    """The paths of the log files and of all outcome and lookup files."""
    return [path for group in files.values() for path in group.paths]


def _check_header(path: Path, layout: RawFile) -> None:
    expected = [c.name for c in layout.columns]
    header = _first_line(path).rstrip("\r\n").removeprefix("\ufeff")
    columns = [name.strip().strip('"') for name in header.split(layout.separator)]
    if columns == expected:
        return
    missing = [name for name in expected if name not in columns]
    surplus = [name for name in columns if name not in expected]
    if missing:
        problem = f"column {', '.join(missing)} is missing"
        if surplus:
            problem += f" (found instead: {', '.join(surplus)})"
    elif surplus:
        problem = f"there is a column too many: {', '.join(surplus)}"
    else:
        problem = "the columns are in a different order"
    raise UserError(f"{path.name}: {problem[:300]}; expected the header: {layout.separator.join(expected)}")


def _first_line(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with path.open("rb") as probe:
                if probe.read(2) != b"\x1f\x8b":
                    raise UserError(f"{path.name} is not gzip despite its name: fetch it again, or rename it")
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.readline(65_536)
        with path.open(encoding="utf-8") as file:
            return file.readline(65_536)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path.name} is cut off or damaged: fetch it again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name} is not UTF-8 text: is it really a {_format_name(path)}?") from error
    except PermissionError as error:
        raise UserError(f"{path.name} cannot be read: {error.strerror}") from error


def _format_name(path: Path) -> str:
    return "tab-separated file" if ".tsv" in path.name else "CSV file"
