"""DAGs of one task, with the operators and the day template of the project, around the stand-in entry point."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param

from dags import alerts
from dags.factory import DAY
from dags.operators import PythonStep, SparkStep

PARAMS = {"calls": Param(type="string"), "status": Param("0", type="string"), "typed": Param("", type="string")}
TOLD_OF = {"on_failure_callback": alerts.failed, "on_skipped_callback": alerts.nothing_there}
RETRIES = {"retries": 2, "retry_delay": timedelta(0), **TOLD_OF}
TOLD = ["{{ params.calls }}", "{{ params.status }}"]

with DAG("tiny_python", schedule=None, start_date=datetime(2022, 1, 1), params=PARAMS, default_args=RETRIES):
    PythonStep(task_id="step", module="tests.dags.stand_in", arguments=[*TOLD, "a", "", "{{ params.typed }}"])

with DAG("tiny_spark", schedule=None, start_date=datetime(2022, 1, 1), params=PARAMS, default_args=RETRIES):
    SparkStep(task_id="step", job="tests/dags/stand_in.py", arguments=[*TOLD, "{{ params.typed }}"])

with DAG("tiny_day", schedule=None, start_date=datetime(2022, 1, 1), params={**PARAMS, "date": None}):
    PythonStep(task_id="step", module="tests.dags.stand_in", arguments=[*TOLD, DAY])

with DAG("tiny_stopped", schedule=None, start_date=datetime(2022, 1, 1), params={**PARAMS, "status": "0"}):
    audit = PythonStep(task_id="audit", module="tests.dags.stand_in", arguments=[*TOLD, "audit"])
    behind = PythonStep(task_id="behind", module="tests.dags.stand_in", arguments=["{{ params.calls }}", "0", "behind"])
    report = PythonStep(task_id="report", module="tests.dags.stand_in", arguments=["{{ params.calls }}", "0", "report"])
    audit >> behind
    [audit, behind] >> report.as_teardown()
