"""Opens a raw file of any format by its beginning."""

from pathlib import Path

from jobs.raw.reader.parquet_files import with_columns
from jobs.raw.reader.source_files import SourceFile, open_source
from schemas.dataset import PARQUET, RawFile


def open_raw_file(path: Path, layout: RawFile) -> SourceFile:
    """The file with all that its beginning shows. Raises what open_source raises."""
    source = open_source(path, layout)
    return with_columns(source, layout) if source.format == PARQUET else source
