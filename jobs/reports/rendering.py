"""Pages made from the HTML templates of this folder: escaped, and without scripts or a network."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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


@contextmanager
def index_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder's index: when two jobs end together, the index of the later one contains both."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
