"""Text without control characters, for everything that people read: terminals, pages, alerts.

A value of a log may contain any bytes. Printed unchanged, an escape sequence could clear a terminal, and a mark of
direction could make a line read differently than it is stored.
"""

import re
from typing import Any, TextIO

# C0 and C1 control characters but tab and line feed, line and paragraph separators, and marks of direction.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with each control character written as its escape, for example \x1b; tabs and line feeds stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class PrintableStream:
    """A text stream that writes printable text, and is the wrapped stream in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
