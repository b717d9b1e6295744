"""The Airflow on this machine: one DAG at a time for `make run`, a service for `make up`, and a client of its API."""
