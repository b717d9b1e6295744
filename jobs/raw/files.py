"""Find a dataset's raw files and check them before Spark starts: folder, layout, header, compression."""

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from jobs.raw.lines import read_lines
from lakehouse.lake import literal_path
from schemas.dataset import Dataset, RawFile
from schemas.errors import UserError


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The checked files of one kind."""

    layout: RawFile
    paths: tuple[Path, ...]


def find_raw_files(dataset: Dataset, folder: Path) -> dict[str, RawFiles]:
    """All raw files of a dataset by view name; a UserError says which one is missing or has another layout."""
    literal_path(folder)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (RAW must name the folder that holds the raw {dataset.name} files)")
    found = {}
    for layout in (dataset.log, *(lookup.file for lookup in dataset.lookups)):
        paths = sorted({p for pattern in layout.patterns for p in folder.glob(pattern) if p.is_file()})
        if not paths:
            raise UserError(f"no {dataset.name} files in {folder}: expected {' or '.join(layout.patterns)}")
        for path in paths:
            _check_header(literal_path(path), layout)
        found[layout.view] = RawFiles(layout, tuple(paths))
    return found


def raw_paths(files: Mapping[str, RawFiles]) -> list[Path]:
    """The files of all kinds."""
    return [path for group in files.values() for path in group.paths]


def _check_header(path: Path, layout: RawFile) -> None:
    expected = [c.name for c in layout.columns]
    header = _first_line(path).rstrip("\r\n").removeprefix("\ufeff")
    got = [name.strip().strip('"') for name in header.split(layout.separator)]
    if got == expected:
        return
    missing = [name for name in expected if name not in got]
    surplus = [name for name in got if name not in expected]
    if missing:
        what = f"column {', '.join(missing)} is missing" + (
            f" (found instead: {', '.join(surplus)})" if surplus else ""
        )
    elif surplus:
        what = f"there is a column too many: {', '.join(surplus)}"
    else:
        what = "the columns stand in another order"
    raise UserError(f"{path.name}: {what[:300]}; expected the header: {layout.separator.join(expected)}")


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
        raise UserError(f"{path.name} is not UTF-8 text: is it really a {_layout_hint(path)}?") from error
    except PermissionError as error:
        raise UserError(f"{path.name} may not be read: {error.strerror}") from error


def _layout_hint(path: Path) -> str:
    return "tab-separated file" if ".tsv" in path.name else "CSV file"


def read_raw(spark: SparkSession, files: RawFiles) -> DataFrame:
    """All rows, for jobs.raw.lines.typed."""
    return read_lines(spark.read.text([str(path.resolve()) for path in files.paths]), files.layout)
