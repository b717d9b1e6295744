"""The flags that the steps of a day share."""

import argparse
from pathlib import Path

from lakehouse.model_tables import DEFAULT_METHOD


def parser_of_a_day(doc: str | None) -> argparse.ArgumentParser:
    """With --dataset, --lake and --day. doc: the module's own, shown by --help as it stands."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--day", required=True)
    return parser


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add --method, for entry points that train a model or use a champion; each method has its own champion."""
    parser.add_argument(
        "--method", default=DEFAULT_METHOD, metavar="NAME", help="a folder of mtorl_model/methods; default %(default)s"
    )
