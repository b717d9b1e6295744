"""`airflow dags test` for several DAGs in one process: python -m bin.embedded_airflow.dag_tests RUNS.

RUNS: a JSON list of objects with `dag`, `title` and `conf`. Each run begins with a line that progress.py shows. Ends
with the status of the first run that fails.
"""

import json
import runpy
import sys

from bin.embedded_airflow.progress import run_line


def main() -> None:
    for run in json.loads(sys.argv[1]):
        print(run_line(run["dag"], run["title"]), flush=True)
        sys.argv = ["airflow", "dags", "test", run["dag"], "--conf", json.dumps(run["conf"])]
        runpy.run_module("airflow", run_name="__main__")


if __name__ == "__main__":
    main()
