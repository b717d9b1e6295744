"""Small DAGs with the operators and the day template of the project, which start stand_in.py."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from dags import alerts
from dags.operators import PythonStep, SparkStep
from dags.steps import DAY

PARAMS = {"calls": Param(type="string"), "status": Param("0", type="string"), "typed": Param("", type="string")}
CALLBACKS = {"on_failure_callback": alerts.failed, "on_skipped_callback": alerts.nothing_to_do}
RETRIES = {"retries": 1, "retry_delay": timedelta(0), **CALLBACKS}
COMMON = ["{{ params.calls }}", "{{ params.status }}"]

with DAG("tiny_python", schedule=None, start_date=datetime(2022, 1, 1), params=PARAMS, default_args=RETRIES):
    PythonStep(task_id="step", module="tests.dags.stand_in", arguments=[*COMMON, "a", "", "{{ params.typed }}"])

with DAG("tiny_spark", schedule=None, start_date=datetime(2022, 1, 1), params=PARAMS, default_args=RETRIES):
    SparkStep(task_id="step", job="tests/dags/stand_in.py", arguments=[*COMMON, "{{ params.typed }}"])

with DAG("tiny_day", schedule=None, start_date=datetime(2022, 1, 1), params={**PARAMS, "date": None}):
    PythonStep(task_id="step", module="tests.dags.stand_in", arguments=[*COMMON, DAY])

with DAG("tiny_stopped", schedule=None, start_date=datetime(2022, 1, 1), params={**PARAMS, "status": "0"}):
    audit = PythonStep(task_id="audit", module="tests.dags.stand_in", arguments=[*COMMON, "audit"])
    succeeds = ["{{ params.calls }}", "0"]
    after_audit = PythonStep(task_id="after_audit", module="tests.dags.stand_in", arguments=[*succeeds, "after_audit"])
    report = PythonStep(task_id="report", module="tests.dags.stand_in", arguments=[*succeeds, "report"])
    audit >> after_audit
    [audit, after_audit] >> report.as_teardown()
