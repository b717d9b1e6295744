"""One set of Airflow DAGs for every dataset contract: mtorl_history_*, _daily_*, _nightly_* and _report_*."""

from dags.factory import daily_dag, history_dag, nightly_dag, report_dag
from schemas.dataset import dataset_names

for name in dataset_names():
    for dag in (history_dag(name), daily_dag(name), nightly_dag(name), report_dag(name)):
        globals()[dag.dag_id] = dag
