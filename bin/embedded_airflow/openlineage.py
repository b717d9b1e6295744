"""Prints the transport setting with which Airflow appends its lineage events to a file.

Usage: python -m bin.embedded_airflow.openlineage FILE. Exit status 2 and one line on standard error if the package
that sends the events is not installed.
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.errors import UserError, exit_with_one_line

PACKAGE = "apache-airflow-providers-openlineage"


def file_transport(file: str) -> str:
    try:
        version(PACKAGE)
    except PackageNotFoundError:
        raise UserError(
            f"OPENLINEAGE needs the package {PACKAGE}: .venv/bin/pip install -r requirements-openlineage.txt"
        ) from None
    return json.dumps({"type": "file", "log_file_path": str(Path(file).absolute()), "append": True})


if __name__ == "__main__":
    exit_with_one_line(lambda: print(file_transport(sys.argv[1])))
