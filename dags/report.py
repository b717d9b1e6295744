"""The DAG `mtorl_report_<dataset>`: drift and the page of one day."""

from airflow.sdk import DAG, PartitionedAssetTimetable

from dags.dataset_dag import OPTIONAL_DAY, budget_plan_asset, dataset_dag
from dags.steps import DAY, python_step


def report_dag(dataset: str) -> DAG:
    """After the nightly run of a day: the drift against earlier days is measured, and the page of the day is written.

    The page is written even if the drift exceeds its limits. If an earlier run of the day was stopped by a failure,
    that run has written the page.
    """
    with dataset_dag(
        "report",
        dataset,
        str(report_dag.__doc__),
        schedule=PartitionedAssetTimetable(assets=budget_plan_asset(dataset)),
        params={"date": OPTIONAL_DAY},
    ) as dag:
        # A day without rows has no drift; that needs no alert.
        measure_drift = python_step("jobs.measure_drift", dataset, "--day", DAY, on_skipped_callback=None)
        report = python_step("jobs.report", dataset, "--day", DAY)

        measure_drift >> report.as_teardown(on_failure_fail_dagrun=True)
    return dag
