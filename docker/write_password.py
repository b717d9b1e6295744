"""Gives Airflow's user admin the password of the environment, in a file that only this user may read.

Reads AIRFLOW_ADMIN_PASSWORD, and the name of the file from AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE.
"""

import json
import os
from pathlib import Path

from lakehouse.storage.files import write_whole


def main() -> None:
    os.umask(0o077)
    file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    write_whole(file, json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))


if __name__ == "__main__":
    main()
