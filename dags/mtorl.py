"""The file that Airflow loads: five DAGs for every configured dataset.

A dataset is configured if MTORL_DATASETS names it (separated by commas), or else if MTORL_RAW_<NAME> names the folder
of its log. Without any of these variables, every dataset contract has its DAGs.
"""

import os

from dags.daily import daily_dag
from dags.history import history_dag
from dags.maintenance import maintenance_dag
from dags.nightly import nightly_dag
from dags.report import report_dag
from schemas.dataset import dataset_names

selection = os.environ.get("MTORL_DATASETS", "").replace(",", " ").split()
with_log = [name for name in dataset_names() if os.environ.get(f"MTORL_RAW_{name.upper()}")]
for dataset in selection or with_log or dataset_names():
    for make_dag in (history_dag, daily_dag, nightly_dag, report_dag, maintenance_dag):
        dag = make_dag(dataset)
        globals()[dag.dag_id] = dag
