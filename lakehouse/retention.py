"""How long everything is kept that no command needs for ever: `make maintain` removes what is older.

An age counts from the last change of a file; of a cache, from its last use.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retention:
    """Ages in days. LONGEST_JOB_DAYS is below all of them, so that no running job loses what it reads."""

    # Files of tables that were replaced. Jobs that opened a table before still read them, and a person who notices a
    # mistake within a week can restore the version before it.
    replaced_files: int = 7
    # Entries of the logs of tables, by which people see which commit changed a day.
    log_entries: int = 30
    # Versions of models that are neither champion nor needed for a rollback or by the gate. A backfill tests a day with
    # the champion from before it, and the slowest gains change days of a month ago. Twice that.
    models: int = 60
    # Copies of models on this machine. A backfill or a weekly comparison loads the models of a month again and again.
    model_copies: int = 30
    # Encoded windows, predictions, copies of remote files. A daily run uses those of its days every day, and the repair
    # of a recent day still finds them.
    caches: int = 14
    # Checkpoints of trainings and states of searches that were interrupted: after a month they are not continued.
    checkpoints: int = 30
    # Files that are written before they are published. Their processes have ended: the longest job takes a day.
    work_folders: int = 2
    # Pages and drift of a day: every day can be compared with the same season of the year before.
    daily_results: int = 800
    # Copies of exported quarantine that have not come back to the log: after a year they are not under repair any more.
    exported_quarantine: int = 400
    # Logs of tasks of the embedded Airflow, in which people look for the cause of a failure.
    airflow_logs: int = 30


RETENTION = Retention()
DAY_S = 86_400
LONGEST_JOB_DAYS = 1  # the time limit of the longest task: dags/dataset_dag.py
