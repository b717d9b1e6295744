#!/usr/bin/env bash
# Before anything else starts: Airflow's database, its pool and its user, and the lake's model store. Run again, it
# changes nothing that is there, except that the user's password is the one in the environment.
set -euo pipefail

airflow db migrate
# One slot: two trainings would share the memory of one GPU. Raise it with the number of GPU workers.
airflow pools set gpu "${GPU_SLOTS:-1}" "trainings at a time"
python -c '
import json, os
from lakehouse.files import write_whole
from pathlib import Path
os.umask(0o077)
file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
write_whole(file, json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}))'
# The MLflow server finds a whole store, and never makes half a one; storage that cannot hold a lake is refused here.
python -c '
import os
from pathlib import Path
from mtorl_model.champion.registry import create_store
from schemas.errors import exit_with_one_line
from lakehouse.lake import Lake
from lakehouse.staging import staging_folder
def main():
    lake = Lake(Path(os.environ["MTORL_LAKE"]))
    with staging_folder(lake):
        create_store(lake)
exit_with_one_line(main)'
