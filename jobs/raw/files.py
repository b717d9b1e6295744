"""Finds a dataset's raw files, and reads their beginnings before Spark starts. Notes name files that are not read.

A file has the name that people see in RAW, whatever a link points to.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.source_files import COMPRESSED_ENDINGS, SourceFile, UnreadableFile, plain_name
from schemas.dataset import PARQUET, Dataset, RawFile
from schemas.errors import UserError
from schemas.printable import is_text, printable

_SHOWN_NAMES = 5
# Endings that browsers, copies and unfinished downloads add to a name.
_ADDED_TO_STEM = re.compile(r" ?\(\d+\)|[ _-]+copy( ?\d*)", re.IGNORECASE)
_ADDED_ENDINGS = (
    *COMPRESSED_ENDINGS, ".zip", ".7z", ".rar", ".tar", ".tgz", ".lz4", ".br", ".part", ".partial", ".tmp", ".temp",
    ".crdownload", ".download", ".bak", ".old", ".orig", "~",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The files of one layout. notes: a line for each thing that a person should know about files of the dataset."""

    layout: RawFile
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def by_name(self) -> dict[str, Path]:
        """The files by the names by which rows refer to them."""
        return {self.layout.name_of(path): path for path in self.paths}


def find_raw_files(dataset: Dataset, folder: Path) -> dict[str, RawFiles]:
    """The raw files of a dataset by view name. The notes on all files are with the log.

    A log file that lacks columns is read, and all of its rows are refused with the reason. Raises UserError if a layout
    has no readable file, or a file is not clearly one file of one layout; NothingToDoYet if one is still being written.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (RAW must name the folder that holds the raw {dataset.name} files)")
    layouts = dataset.raw_files
    lookups = [lookup.file for lookup in dataset.lookups]
    matches = {layout.view: matching_files(folder, layout) for layout in layouts}
    _require_one_layout(matches)
    notes = _notes_on_names(folder, layouts, matches)
    files = {}
    for layout in layouts:
        readable = [path for path in matches[layout.view] if path.is_file() and is_text(layout.name_of(path))]
        if not readable:
            unreadable = f"; {notes[0]}" if matches[layout.view] else ""
            raise UserError(f"no {dataset.name} files in {folder}: expected {' or '.join(layout.patterns)}{unreadable}")
        sources, notes_on_content = _opened(readable, layout, is_lookup=layout in lookups)
        notes += notes_on_content
        if not sources:
            raise UserError(notes_on_content[0])
        files[layout.view] = RawFiles(layout, tuple(Path(source.path) for source in sources))
    log = files[dataset.log.view]
    return files | {dataset.log.view: RawFiles(log.layout, log.paths, tuple(notes))}


def matching_files(folder: Path, layout: RawFile) -> list[Path]:
    """The matches of a layout's patterns, compressed files too. Raises UserError for two forms of one file."""
    endings = ("", ".jsonl", *COMPRESSED_ENDINGS) if layout.format == PARQUET else ("", *COMPRESSED_ENDINGS)
    matching = {path for pattern in layout.patterns for ending in endings for path in folder.glob(pattern + ending)}
    forms: dict[Path, Path] = {}
    for path in sorted(matching):
        if first_form := forms.get(path.with_name(plain_name(path.name))):
            raise UserError(
                f"{printable(first_form.name)} and {printable(path.name)} are two forms of one file: remove one of them"
            )
        forms[path.with_name(plain_name(path.name))] = path
    return sorted(matching)


def _require_one_layout(matches: Mapping[str, Iterable[Path]]) -> None:
    views: dict[Path, str] = {}
    for view, paths in matches.items():
        for path in paths:
            if path in views:
                raise UserError(
                    f"{printable(path.name)} matches the patterns of {views[path]} and of {view}: change the patterns, "
                    "so that each file has one layout"
                )
            views[path] = view


def _opened(paths: Iterable[Path], layout: RawFile, *, is_lookup: bool) -> tuple[list[SourceFile], list[str]]:
    """The readable files, and notes on the others and on columns that are not read."""
    sources: list[SourceFile] = []
    notes: list[str] = []
    extra: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        try:
            source = open_raw_file(path, layout)
        except UnreadableFile as error:
            notes.append(str(error))
            continue
        if source.problem:
            consequence = "it is not read" if is_lookup else "its rows are refused"
            notes.append(f"{source.shown_name}: {source.problem}; {consequence}")
        elif source.extra:
            extra.setdefault(source.extra, []).append(source.shown_name)
        if not (is_lookup and source.problem):
            sources.append(source)
    for columns, names in extra.items():
        shown = [column or "one without a name" for column in columns]
        notes.append(f"columns that are not read: {_listed(shown)} in {_listed(names)}")
    return sources, notes


def _notes_on_names(folder: Path, layouts: Iterable[RawFile], matches: Mapping[str, list[Path]]) -> list[str]:
    matched = {path for paths in matches.values() for path in paths}
    layouts = list(layouts)
    notes = []
    for path in sorted(matched):
        if not is_text(path.name):
            notes.append(f"{printable(path.name)} is not read: its name is not UTF-8; rename it")
        elif not path.is_file():
            kind = (
                "a folder" if path.is_dir() else "no file" if path.exists() else "a link to a file that does not exist"
            )
            notes.append(f"{printable(path.name)} is not read: it is {kind}")
    known = (".*", "_*", *(pattern for layout in layouts for pattern in layout.not_read))
    unmatched = sorted(
        path.name
        for path in folder.iterdir()
        if path not in matched and not path.is_dir() and not any(fnmatchcase(path.name, pattern) for pattern in known)
    )
    if missed := [name for name in unmatched if any(looks_like_part(name, layout) for layout in layouts)]:
        notes.append(f"no pattern of the contract matches, so not read: {_listed(missed)}")
    return notes


def looks_like_part(name: str, layout: RawFile) -> bool:
    """Whether a name that no pattern matches resembles one that would match: the same beginning or ending."""
    lower = _ADDED_TO_STEM.sub("", name.lower())
    while ending := next((ending for ending in _ADDED_ENDINGS if lower.endswith(ending)), ""):
        lower = lower.removesuffix(ending)
    for pattern in (plain_name(pattern.lower()) for pattern in layout.patterns):
        beginning, ending = re.split(r"[*?\[]", pattern)[0], re.split(r"[*?\]]", pattern)[-1]
        has_ending = "." in ending and lower.endswith(ending[ending.index(".") :])
        if fnmatchcase(lower, pattern) or has_ending or (len(beginning) > 2 and lower.startswith(beginning)):
            return True
    return False


def file_headers(files: RawFiles) -> dict[str, bytes]:
    """The header of each file that has one, by the name of the file."""
    sources = [open_raw_file(path, files.layout) for path in files.paths]
    return {source.name: source.header for source in sources if source.header}


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    listed = ", ".join(printable(name, 100) for name in names[:_SHOWN_NAMES])
    return listed + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")
