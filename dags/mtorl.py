"""The file that Airflow loads: four DAGs for every dataset contract.

MTORL_DATASETS names the only datasets whose DAGs are loaded, separated by commas.
"""

import os

from dags.daily import daily_dag
from dags.history import history_dag
from dags.nightly import nightly_dag
from dags.report import report_dag
from schemas.dataset import dataset_names

selection = os.environ.get("MTORL_DATASETS", "").replace(",", " ").split()
for dataset in selection or dataset_names():
    for make_dag in (history_dag, daily_dag, nightly_dag, report_dag):
        dag = make_dag(dataset)
        globals()[dag.dag_id] = dag
