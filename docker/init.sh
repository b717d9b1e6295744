#!/usr/bin/env bash
# Runs before all other services: creates Airflow's database, pool and user, and MLflow's database. A second
# run changes only the user's password, to the one of the environment.
set -euo pipefail

airflow db migrate
# One slot: two trainings would share the memory of one GPU. Raise it with the number of GPU workers.
airflow pools set gpu "${GPU_SLOTS:-1}" "trainings at a time"
python docker/write_password.py
python docker/create_mlflow_database.py
python docker/check_lake.py
