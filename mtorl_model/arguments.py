"""The flag --method, which entry points share that train a model or use a champion."""

import argparse

from lakehouse.model_tables import DEFAULT_METHOD


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add --method. Each method has its own champion."""
    parser.add_argument(
        "--method",
        default=DEFAULT_METHOD,
        metavar="NAME",
        help="name of a method in mtorl_model/methods; default %(default)s",
    )
