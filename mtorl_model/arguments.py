"""The flags that the steps of a day share."""

import argparse
from pathlib import Path


def parser_of_a_day(doc: str | None) -> argparse.ArgumentParser:
    """With --dataset, --lake and --day. doc: the module's own, shown by --help as it stands."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--day", required=True)
    return parser
