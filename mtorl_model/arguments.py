"""The flag --method, which entry points share that train a model or use a champion."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence

from lakehouse.models.versions import DEFAULT_METHOD
from schemas.errors import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add --method. Each method has its own champion."""
    parser.add_argument(
        "--method",
        default=DEFAULT_METHOD,
        metavar="NAME",
        help="name of a method in mtorl_model/methods; default %(default)s",
    )


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Add --method with one or several names; methods_of reads it."""
    parser.add_argument(
        "--method",
        default=DEFAULT_METHOD,
        metavar="NAME[,NAME]",
        help="names of methods in mtorl_model/methods, separated by commas; default %(default)s",
    )


def methods_of(args: argparse.Namespace) -> tuple[str, ...]:
    """The names, each once, in their order. Raises UserError if one of them cannot be a name."""
    names = tuple(dict.fromkeys(name.strip() for name in args.method.split(",")))
    if wrong := [name for name in names if not _NAME.fullmatch(name)]:
        raise UserError(f"--method {args.method}: '{wrong[0]}' is not the name of a method")
    return names


def for_each(methods: Sequence[str], work: Callable[[str], None]) -> None:
    """Work for one method after another. If it fails for one, the others are still done.

    The first error is raised again at the end; later errors are printed.
    """
    errors: list[UserError] = []
    for method in methods:
        try:
            work(method)
        except UserError as error:
            errors.append(error)
    for further in errors[1:]:
        print(f"error: {further}", file=sys.stderr)
    if errors:
        raise errors[0]
