"""A fortnight in which nothing is wrong: no critical alarm, and at most one warning, from any rule or drift figure.

The week before it is what the first of its days is compared with: its last four days are the training period. The
log's very first days are not, since nobody has a history yet: in the Criteo layout hardly anybody a last click.
"""

import pytest
from built_lake import generate
from in_process import Jobs

from jobs.drift.measurement import measure_drift
from jobs.drift.results import store_drift, stored_drifts
from jobs.quality.audit_results import store_audit
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.tables.registry import TABLES

pytestmark = [pytest.mark.spark, pytest.mark.slow]
WEEK, FORTNIGHT = 7, 14


# A day's fold takes seconds: in one layout the journeys are built, scored and planned with day by day.
@pytest.mark.parametrize(("layout", "nights"), [("kuairand", True), ("criteo", False)])
def test_a_clean_fortnight_has_one_warning_at_most(spark, tmp_path, monkeypatch, layout, nights):
    dataset = get_dataset(layout)
    raw = generate(monkeypatch, tmp_path / "raw", layout, users=300, days=WEEK + FORTNIGHT, seed=11)
    jobs = Jobs(spark, Lake(tmp_path / "lake"), layout, monkeypatch)
    lake = jobs.lake
    jobs.ok("build_exposures", "--raw", str(raw))
    days = lake.days("exposures", layout)
    assert len(days) == WEEK + FORTNIGHT
    trained, fortnight = days[3:WEEK], days[WEEK:]
    jobs.ok("build_feature_spec", "--from", trained[0], "--to", trained[-1])
    jobs.ok("build_sequences", "--from", days[0], "--to", days[-1], "--spec-day", trained[-1])
    for day in fortnight if nights else days[-1:]:
        jobs.ok("build_journeys", "--day", day)
    if nights:
        jobs.ok("mtorl_model.train", "--from", days[0], "--to", trained[-1], "--members", "1", "--max-epochs", "6")
        for day in fortnight:
            jobs.ok("mtorl_model.score", "--day", day)
            jobs.ok("mtorl_model.plan_budget", "--day", day, "--budget", "40")
    alarms = []
    for day in days:
        for table in TABLES:
            if day in lake.days(table, layout):
                audit = audit_partition(lake, table, dataset, day)
                store_audit(lake, audit)
                alarms += [(day, o.severity, o.name, audit.describe(o)) for o in audit.failed]
        drift = measure_drift(lake, dataset, day, stored_drifts(lake, dataset))
        store_drift(lake, drift)
        alarms += [(day, f.severity, f.name, f.sentence) for f in drift.exceeded]
    assert [alarm for alarm in alarms if alarm[1] == "critical"] == []
    warnings = [alarm for alarm in alarms if alarm[0] in fortnight]
    print(f"{layout}: {len(warnings)} warnings in a fortnight", *warnings, sep="\n  ")
    assert len(warnings) <= 1, warnings
    assert drift.reference == tuple(trained)
    assert len(drift.figures) > 50
    assert {f.limit_from for f in drift.figures if f.name == "psi(hour)" and f.against == "day before"} == {
        f"learned from {len(days) - 2} days"
    }
