"""Pages made from the HTML templates of this folder: escaped, and without scripts or a network."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lakehouse.storage.files import stored_files, write_whole
from schemas.printable import printable_lines

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *styles: str, **values: object) -> str:
    """A page that contains these style sheets. Everything is HTML-escaped except our own styles and pictures.

    Control characters, which a value of a log may contain, are written as their escapes.
    """
    style = Markup("").join(Markup((_TEMPLATES / name).read_text()) for name in ("style.css", *styles))
    return printable_lines(_environment().get_template(template).render(style=style, **values))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_index(index: Path, results: Path, page: Callable[[], str]) -> None:
    """Write a page about all stored results, again if results were stored in the meantime.

    When two jobs end together, on whatever machines, the index of the later one contains both.
    """
    while True:
        listed = stored_files(results)
        write_whole(index, page())
        if stored_files(results) == listed:
            return
