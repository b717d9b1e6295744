"""The tables `steps` and `sequences` of a lake that Spark has built."""

from in_process import Jobs
from shop import SHOP, sent, write_file

import schemas.dataset
from jobs.quality.audits import audit_partition
from jobs.quality.partition_counts import misplaced_rows
from lakehouse.lake import Lake

DAYS = ["2024-05-01", "2024-05-02"]
CUSTOMERS = ["b", "a", "ab", "a b", "B", "10", "9", "-1", "é", "z", "ß", "\ue000", "\U0001f600"]


def test_rows_of_users_with_text_ids_are_in_the_order_of_exposures(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
    jobs = Jobs(spark, Lake(tmp_path / "lake"), "shop", monkeypatch)
    for day in DAYS:
        rows = [sent(customer, day, hour, medium=medium) for customer in CUSTOMERS for hour in (9, 7)
                for medium in ("sms", "mail")]  # fmt: skip
        write_file(tmp_path / "raw", day, rows)
    jobs.ok("build_exposures", "--raw", str(tmp_path / "raw"))
    jobs.ok("build_sequences")
    for day in DAYS:
        exposures, steps = (jobs.lake[table, "shop", day] for table in ("exposures", "steps"))
        assert len(exposures.files()) == len(steps.files()) == 2
        assert misplaced_rows(steps, exposures) == 0
        assert steps.manifest.rows == 4 * len(CUSTOMERS)
        audit = audit_partition(jobs.lake, "sequences", SHOP, day)
        assert [outcome.name for outcome in audit.failed if outcome.severity == "critical"] == []
