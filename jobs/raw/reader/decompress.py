"""The decompressed content of a file whose compression is known."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import pyarrow as pa

# Errors that mean a damaged file; OSError only if it has no error number, which errors of the disk have.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException, OSError)
_PIECE = 1 << 18


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompressed(path: str, compression: str) -> BinaryIO:
    """A stream of the content. compression: gzip, zstd, bz2, xz, or "" for none.

    Reading raises EOFError, OSError without an error number, or an error of zlib, lzma or Arrow if the file is damaged.
    """
    if compression == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if compression == "zstd":
        return cast(BinaryIO, pa.input_stream(path, compression="zstd"))
    file = Path(path).open("rb")  # noqa: SIM115 - the stream that is returned closes it
    if compression == "bz2":
        return io.BufferedReader(_Streams(file, bz2.BZ2Decompressor), _PIECE)
    if compression == "xz":
        return io.BufferedReader(_Streams(file, lzma.LZMADecompressor), _PIECE)
    return file


class _Streams(io.RawIOBase):
    """All compressed streams of a file, one behind another.

    Python's own readers of these formats end at the first bytes that are no stream, so that the rows of a damaged
    second stream would be lost without an error.
    """

    def __init__(self, file: BinaryIO, new_decompressor: Callable[[], _Decompressor]) -> None:
        self._file, self._new_decompressor = file, new_decompressor
        self._decompressor = new_decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = b""
        while not content:
            data = b""
            if self._decompressor.eof:
                # Zero bytes between streams are padding.
                data = self._decompressor.unused_data.lstrip(b"\x00")
                while not data:
                    piece = self._file.read(_PIECE)
                    if not piece:
                        return 0
                    data = piece.lstrip(b"\x00")
                self._decompressor = self._new_decompressor()
            elif self._decompressor.needs_input:
                data = self._file.read(_PIECE)
                if not data:
                    raise EOFError("the file ends within a stream")
            content = self._decompressor.decompress(data, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()
