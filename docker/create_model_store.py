"""Creates the model store of the lake MTORL_LAKE before the MLflow server starts, which would create it in many steps.

Refuses a lake on storage that cannot hold one, with one line and exit status 2.
"""

import os
from pathlib import Path

from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
from mtorl_model.champion.mlflow_store import create_store
from schemas.errors import exit_with_one_line


def main() -> None:
    lake = Lake(Path(os.environ["MTORL_LAKE"]))
    with staging_folder(lake):  # checks the storage, even if the store exists
        create_store(lake)


if __name__ == "__main__":
    exit_with_one_line(main)
