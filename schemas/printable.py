"""Text from a log in a form that a terminal, a page or a message can show; numbers of things in words.

A value of a log may contain any bytes. Printed unchanged, an escape sequence could clear a terminal, and a mark of
direction could make a line read differently than it is stored.
"""

import re
from typing import Any, TextIO

# C0 and C1 control characters but tab and line feed, line and paragraph separators, and marks of direction.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str | bytes, length: int | None = None) -> str:
    r"""The text without control characters: each is written as its escape, such as \x1b.

    Bytes that are not UTF-8 are escaped as well. length: the largest number of characters; a longer text ends in "...".
    """
    if isinstance(text, bytes):
        text = (text if length is None else text[: 4 * length + 4]).decode(errors="backslashreplace")
    visible = text if length is None else text[: length + 1]
    if not visible.isprintable():
        visible = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in visible)
    return visible if length is None or len(visible) <= length else f"{visible[: length - 3]}..."


def is_text(name: str) -> bool:
    """Whether the name of a file is UTF-8; Python has other bytes of a name as half of a character."""
    return name.isascii() or name.encode(errors="replace").decode() == name


def printable_lines(text: str) -> str:
    r"""Lines of text with each control character written as its escape, for example \x1b; tabs and line feeds stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def counted(number: int, noun: str) -> str:
    """The number with the noun in singular or plural: 1 row, 2,500 rows."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class PrintableStream:
    """A text stream that writes printable text, and is the wrapped stream in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
