"""Python source of nested calls and tuples with comments, laid out as `ruff format` does."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from schemas.printable import printable

LINE_LENGTH = 120
_INDENT = 4


@dataclass(frozen=True, slots=True)
class Call:
    """name(arguments), or a tuple if the name is empty."""

    name: str
    arguments: Sequence["Argument"]

    @property
    def has_comment(self) -> bool:
        return any(argument.comment or _has_comment(argument.node) for argument in self.arguments)


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument or an element, with an optional keyword and a comment in the lines above it."""

    node: "Node"
    keyword: str = ""
    comment: str = ""


Node: TypeAlias = str | Call


def call(name: str, *arguments: Node | Argument, **keywords: Node) -> Call:
    plain = [argument if isinstance(argument, Argument) else Argument(argument) for argument in arguments]
    return Call(name, (*plain, *(Argument(node, keyword) for keyword, node in keywords.items())))


def elements(*nodes: Node | Argument) -> Call:
    """A tuple."""
    return call("", *nodes)


def quoted(text: str) -> str:
    """The literal of a text, with the quotes that ruff prefers."""
    literal = repr(text)
    if literal.startswith('"') or '"' in text:
        return literal
    return '"' + literal[1:-1].replace("\\'", "'") + '"'


def texts(*values: str) -> Call:
    return elements(*map(quoted, values))


def assignment(name: str, node: Node) -> list[str]:
    return _lines(node, 0, f"{name} = ", "")


def comment_lines(text: str, indent: int = 0) -> list[str]:
    """Each line of the text as comment lines that are short enough, without control characters of the log."""
    prefix = f"{' ' * indent}# "
    return [
        f"{prefix}{line}".rstrip()
        for paragraph in map(printable, text.split("\n"))
        for line in textwrap.wrap(paragraph, LINE_LENGTH - len(prefix), break_long_words=False, break_on_hyphens=False)
    ]


def _has_comment(node: Node) -> bool:
    return isinstance(node, Call) and node.has_comment


def _on_one_line(node: Node) -> str:
    if isinstance(node, str):
        return node
    arguments = [f"{a.keyword}={_on_one_line(a.node)}" if a.keyword else _on_one_line(a.node) for a in node.arguments]
    only_element = "," if not node.name and len(arguments) == 1 else ""
    return f"{node.name}({', '.join(arguments)}{only_element})"


def _lines(node: Node, indent: int, head: str, tail: str) -> list[str]:
    """The lines of a node. head and tail: the text before it and after it on its first and last line."""
    one_line = f"{' ' * indent}{head}{_on_one_line(node)}{tail}"
    if isinstance(node, str) or not node.arguments or (len(one_line) <= LINE_LENGTH and not node.has_comment):
        return [one_line]
    lines = [f"{' ' * indent}{head}{node.name}("]
    for argument in node.arguments:
        lines += comment_lines(argument.comment, indent + _INDENT)
        keyword = f"{argument.keyword}=" if argument.keyword else ""
        lines += _lines(argument.node, indent + _INDENT, keyword, ",")
    return [*lines, f"{' ' * indent}){tail}"]
