"""Opens a raw file by its content: compression, encoding, line ends, header.

The name does not show the compression. A byte order mark decides the encoding; without one, the layout does.
"""

import codecs
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from jobs.raw.reader.decompress import DAMAGE, decompressed
from jobs.raw.reader.fields import split_fields
from jobs.raw.reader.records import LARGEST_RECORD, Dialect, Readable, cut_blocks, without_line_end
from lakehouse.storage.store_path import path_of
from schemas.dataset import DELIMITED, JSON_LINES, PARQUET, RawFile
from schemas.errors import NothingToDoYet, UserError
from schemas.printable import printable

# Endings that are not part of a name: x.csv and x.csv.gz are two forms of one file.
COMPRESSED_ENDINGS = (".gz", ".zst", ".bz2", ".xz")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
# A frame of zstd that has no content may come first.
_MAGIC |= {bytes([first]) + b"\x2a\x4d\x18": "zstd" for first in range(0x50, 0x60)}
_PARQUET_MAGIC = b"PAR1"
# The first bytes of files that are not text: zip and Excel, old Excel, PDF, SQLite, ORC, Avro; lz4, 7z, rar, lzip,
# compress, snappy; encrypted Parquet, Arrow, numpy, PNG; old lz4, lzma.
NO_TEXT = (
    b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"%PDF-", b"SQLite format 3\x00", b"ORC", b"Obj\x01", b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"LZIP", b"\x1f\x9d", b"\xff\x06\x00\x00sNaPpY",
    b"PARE", b"ARROW1\x00", b"\x93NUMPY", b"\x89PNG", b"\x02\x21\x4c\x18", b"\x5d\x00\x00",
)  # fmt: skip
_TAR, _TAR_AT = b"ustar", 257  # an archive of files
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
# In these encodings a byte below 0x30 may be a part of another character, so that bytes cannot be cut into lines.
_NOT_LIKE_ASCII = ("utf-16", "utf-32", "utf-7", "iso2022", "hz")
_MAY_STILL_BE_WRITTEN_S = 6 * 3600  # a file that has not changed for longer is complete
_SAMPLE = 8192


class UnreadableFile(UserError):
    """The file cannot be a file of its layout: none of its rows can be counted."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A raw file whose beginning has been read.

    path: absolute, with unresolved links, or a URI. name: as people see it in RAW. size, changed_ns: when its beginning
    was read. compression, encoding: by content. header: its bytes with their line end, b"" without a header. body: the
    offset of the first record in the decompressed content. fields: how many a record has. columns: for each column of
    the layout, which field has its values; None if no field has them. extra: the names of the other fields.
    problem: the reason for which every row of the file is refused, "" if they are read.
    """

    path: str
    name: str
    size: int
    changed_ns: int
    format: str
    compression: str = ""
    encoding: str = "utf-8"
    is_transcoded: bool = False
    dialect: Dialect = field(default_factory=lambda: Dialect(b",", b'"'))
    header: bytes = b""
    body: int = 0
    fields: int = 0
    columns: tuple[int | None, ...] = ()
    extra: tuple[str, ...] = ()
    problem: str = ""

    @property
    def shown_name(self) -> str:
        return printable(self.name)


def open_source(path: Path, layout: RawFile) -> SourceFile:
    """The file with all that its beginning shows.

    Raises UnreadableFile if it has no content or is another kind of file; NothingToDoYet if it may still be
    written; UserError if it is damaged or may not be read.
    """
    status = path.stat()
    plain = SourceFile(str(path.absolute()), layout.name_of(path), status.st_size, status.st_mtime_ns, layout.format)
    with read_errors(plain), path.open("rb") as file:
        start = file.read(_SAMPLE)
    if not start:
        raise UnreadableFile(f"{plain.shown_name} is empty: it is not read")
    if layout.format == PARQUET and start.startswith(_PARQUET_MAGIC):
        return plain
    compression = compression_of(start)
    with read_errors(plain), decompressed(plain.path, compression) as stream:
        start = stream.read(_SAMPLE)
    if not start:
        raise UnreadableFile(f"{plain.shown_name} is empty: it is not read")
    encoding, mark = next(((name, bom) for bom, name in _MARKS if start.startswith(bom)), (layout.encoding, b""))
    is_wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
    if compression and start.startswith(tuple(_MAGIC)):
        raise UnreadableFile(f"{plain.shown_name} is not read: it is compressed twice, decompress it once")
    is_tar = start[_TAR_AT:].startswith(_TAR)
    if is_tar or start.startswith((_PARQUET_MAGIC, *NO_TEXT)) or (start.startswith(b"\x00") and not is_wide):
        raise UnreadableFile(
            f"{plain.shown_name} is not read: {_format_name(layout)} is expected, and it is another kind of file"
        )
    fields = {name: getattr(plain, name) for name in ("path", "name", "size", "changed_ns")}
    text = SourceFile(
        **fields,
        format=JSON_LINES if layout.format == PARQUET else layout.format,
        compression=compression,
        encoding=encoding,
        is_transcoded=_is_transcoded(encoding, layout.separator),
        body=len(mark),
    )
    return _with_header(text, layout)


def compression_of(start: bytes) -> str:
    """The compression of a file that begins with these bytes, "" for none."""
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


@contextmanager
def content(source: SourceFile) -> Iterator[Readable]:
    """The decompressed content. Raises NothingToDoYet if the file has changed, or its end may not be written yet."""
    with read_errors(source):
        stream = decompressed(source.path, source.compression)
    with stream:
        _require_unchanged(source)
        readable = _Explained(stream, source)
        yield _Transcoded(readable, source.encoding) if source.is_transcoded else readable
    _require_unchanged(source)


def explained(source: SourceFile, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches of a file that Arrow reads, with the errors of `content`."""
    _require_unchanged(source)
    while True:
        with read_errors(source):
            batch = next(batches, None)
        if batch is None:
            break
        yield batch
    _require_unchanged(source)


class _Explained:
    """A stream whose errors name the file."""

    def __init__(self, stream: BinaryIO, source: SourceFile) -> None:
        self._stream, self._source = stream, source

    def read(self, size: int, /) -> bytes:
        with read_errors(self._source):
            return self._stream.read(size)

    def seek(self, position: int, /) -> int:
        return self._stream.seek(position)

    def readline(self, size: int, /) -> bytes:
        with read_errors(self._source):
            return self._stream.readline(size)


def plain_name(name: str) -> str:
    """The name without the ending of a compressed file."""
    return next((name.removesuffix(ending) for ending in COMPRESSED_ENDINGS if name.endswith(ending)), name)


def _require_unchanged(source: SourceFile) -> None:
    try:
        status = path_of(source.path).stat()
    except FileNotFoundError as error:
        raise NothingToDoYet(f"{source.shown_name} has been removed while it was read") from error
    if (status.st_size, status.st_mtime_ns) != (source.size, source.changed_ns):
        raise NothingToDoYet(f"{source.shown_name} is still being written: it has changed while it was read")


@contextmanager
def read_errors(source: SourceFile) -> Iterator[None]:
    """Gives errors of the disk, of compression and of Parquet a message that names the file."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{source.shown_name} cannot be read: {error.strerror}") from error
    except DAMAGE as error:
        _require_unchanged(source)
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the content
            raise
        age_s = time.time() - source.changed_ns / 1e9
        if age_s < _MAY_STILL_BE_WRITTEN_S:
            raise NothingToDoYet(
                f"{source.shown_name} is cut off or damaged; it has changed {max(age_s, 0) / 60:.0f} minutes ago and "
                "may still be being written"
            ) from error
        raise UserError(f"{source.shown_name} is cut off or damaged: fetch it again") from error


def _is_transcoded(encoding: str, separator: str) -> bool:
    name = codecs.lookup(encoding).name
    is_single_byte = len("\u00e9\u3042".encode(name, "replace")) == 2
    cuts_alike = separator.isascii() and (is_single_byte or separator < "0")
    return name.startswith(_NOT_LIKE_ASCII) or not (name == "utf-8" or cuts_alike)


def _undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error("mark-undecodable", _undecodable)


class _Transcoded:
    """The stream as UTF-8. Where bytes cannot be decoded, it has bytes that are not UTF-8 either."""

    def __init__(self, stream: Readable, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("mark-undecodable")
        self._decoded, self._is_last = b"", False

    def read(self, size: int, /) -> bytes:
        while len(self._decoded) < size and not self._is_last:
            raw = self._stream.read(size)
            self._is_last = not raw
            self._decoded += self._decoder.decode(raw, final=self._is_last).encode("utf-8", "surrogatepass")
        result, self._decoded = self._decoded[:size], self._decoded[size:]
        return result


def _with_header(source: SourceFile, layout: RawFile) -> SourceFile:
    """The file with its dialect, and with the places of the layout's columns."""
    separator, quote = layout.separator.encode(), layout.quote.encode()
    if source.is_transcoded:
        # The content comes as UTF-8, in which a decoded mark takes three bytes.
        mark = codecs.BOM_UTF8 if source.body else b""
        source = replace(source, body=len(mark))
    with content(source) as stream:
        mark = stream.read(source.body) if source.body else b""
        start = _first_line(stream)
        dialect = Dialect(separator, b"" if source.format == JSON_LINES else quote, lone_cr=_has_lone_cr(start))
        first = next(iter(cut_blocks(_Prefix(start, stream), dialect)), None)
    if first is None:
        raise UnreadableFile(f"{source.shown_name} is empty: it is not read")
    source = replace(source, dialect=dialect)
    record = first.data[: first.starts[1]]
    if source.format == JSON_LINES:
        return _with_keys(source, without_line_end(record), layout)
    if not layout.header:
        return replace(source, fields=len(layout.columns), columns=tuple(range(len(layout.columns))))
    names = _header_names(without_line_end(record), source, dialect)
    header = (codecs.BOM_UTF8 if source.is_transcoded else mark) + record
    return _with_columns(replace(source, header=header, body=source.body + len(record)), names, layout)


def _first_line(stream: Readable) -> bytes:
    """The beginning of a stream with at least its first line, unless that is longer than a record may be."""
    start = b""
    while b"\r" not in start[:-1] and b"\n" not in start[:-1] and len(start) <= LARGEST_RECORD:
        piece = stream.read(_SAMPLE)
        if not piece:
            break
        start += piece
    return start


def _has_lone_cr(start: bytes) -> bool:
    """Whether the first line ends in a CR without an LF."""
    position = start.find(b"\r")
    return 0 <= position < len(start) - 1 and b"\n" not in start[: position + 2]


@dataclass
class _Prefix:
    """The bytes that have been read from a stream, and the stream behind them."""

    start: bytes
    stream: Readable

    def read(self, size: int, /) -> bytes:
        start, self.start = self.start, b""
        return start or self.stream.read(size)


def _header_names(record: bytes, source: SourceFile, dialect: Dialect) -> list[str]:
    fields = split_fields(record, dialect)
    if fields is None:
        fields = record.split(dialect.separator)
    encoding = "utf-8" if source.is_transcoded else source.encoding
    return [field.decode(encoding, "replace").strip().strip('"') for field in fields]


def _with_columns(source: SourceFile, names: list[str], layout: RawFile) -> SourceFile:
    expected = [column.name for column in layout.columns]
    missing = [name for name in expected if name not in names]
    extra = tuple(name for name in dict.fromkeys(names) if name not in expected)
    twice = [name for name in expected if names.count(name) > 1]
    problem = ""
    if len(missing) == len(expected):
        # Its first line is a row like the others.
        source = replace(source, header=b"", body=source.body - len(source.header.removeprefix(codecs.BOM_UTF8)))
        problem = f"the file has no header: its first line names none of {_listed(expected)}"
    elif missing:
        problem = f"the file has no column {_listed(missing)}"
        if extra:
            problem += f" (it has {_listed(extra)})"
    elif twice:
        problem = f"the file has two columns {_listed(twice)}"
    places = tuple(names.index(name) if name in names else None for name in expected)
    return replace(source, fields=len(names), columns=places, extra=extra, problem=problem)


def _with_keys(source: SourceFile, record: bytes, layout: RawFile) -> SourceFile:
    """A row of JSON without a key has no value there, so the first row only shows which keys are not read."""
    try:
        row = json.loads(record)
    except (ValueError, RecursionError):
        row = None
    keys = row if isinstance(row, dict) else ()
    expected = {column.name for column in layout.columns}
    return replace(source, extra=tuple(key for key in keys if key not in expected))


def _listed(names: list[str] | tuple[str, ...]) -> str:
    listed = ", ".join(printable(name, 40) for name in names[:5])
    return listed + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _format_name(layout: RawFile) -> str:
    return {DELIMITED: "delimited text", JSON_LINES: "a file of JSON lines", PARQUET: "a Parquet file"}[layout.format]
