"""Checks that the lake MTORL_LAKE can be written. Otherwise prints one line, with the exit status of an entry point."""

import os

from lakehouse.lake import Lake
from schemas.errors import exit_with_one_line


def main() -> None:
    Lake.at(os.environ["MTORL_LAKE"]).require_writable()


if __name__ == "__main__":
    exit_with_one_line(main)
