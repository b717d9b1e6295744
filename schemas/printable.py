"""Text from a log in a form that a terminal, a page or a message can show."""


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
