"""Creates the model store of the lake MTORL_LAKE before the MLflow server starts, which would create it in many steps.

Refuses a lake that cannot be written, with one line and exit status 2.
"""

import os
from pathlib import Path

from lakehouse.lake import Lake
from mtorl_model.champion.registry import create_store
from schemas.errors import exit_with_one_line


def main() -> None:
    lake = Lake(Path(os.environ["MTORL_LAKE"]))
    lake.require_writable()  # even if the store exists
    create_store(lake)


if __name__ == "__main__":
    exit_with_one_line(main)
