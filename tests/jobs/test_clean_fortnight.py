"""A fortnight in which nothing is wrong: no critical alarm, and at most one warning, from any rule or drift figure.

What is learned (trailing days, limits) begins with the log's first days, so a few days come before the fortnight.
"""

import pytest
from built_lake import generate
from in_process import Jobs

from jobs.audit_results import store as store_audit
from jobs.audits import audit_partition
from jobs.drift import measure_drift
from jobs.drift_results import store as store_drift
from jobs.drift_results import stored_drifts
from schemas.dataset import get_dataset
from schemas.paths import Lake

pytestmark = [pytest.mark.spark, pytest.mark.slow]
BEFORE, FORTNIGHT = 3, 14


@pytest.mark.parametrize("layout", ["kuairand", "criteo"])
def test_a_clean_fortnight_has_one_warning_at_most(spark, tmp_path, monkeypatch, layout):
    dataset = get_dataset(layout)
    raw = generate(monkeypatch, tmp_path / "raw", layout, users=300, days=BEFORE + FORTNIGHT, seed=11)
    jobs = Jobs(spark, Lake(tmp_path / "lake"), layout, monkeypatch)
    lake = jobs.lake
    jobs.ok("build_exposures", "--raw", str(raw))
    days = lake.days("exposures", layout)
    assert len(days) == BEFORE + FORTNIGHT
    jobs.ok("build_feature_spec", "--from", days[0], "--to", days[BEFORE - 1])
    jobs.ok("build_sequences", "--from", days[0], "--to", days[-1], "--spec-day", days[BEFORE - 1])
    alarms = []
    figures = 0
    for day in days:
        jobs.ok("build_journeys", "--day", day)
        for table in ("exposures", "quarantine", "journeys", "sequences"):
            audit = audit_partition(lake, table, dataset, day)
            store_audit(lake, audit)
            alarms += [(day, o.severity, o.name, audit.finding(o)) for o in audit.failed]
        drift = measure_drift(lake, dataset, day, stored_drifts(lake, layout))
        store_drift(lake, drift)
        alarms += [(day, f.severity, f.name, f.sentence) for f in drift.beyond]
        figures += len(drift.figures)
    assert [alarm for alarm in alarms if alarm[1] == "critical"] == []
    assert len([alarm for alarm in alarms if alarm[0] in days[BEFORE:]]) <= 1, alarms
    assert figures > FORTNIGHT * 20
    assert drift.reference == tuple(days[:BEFORE])
    assert {f.limit_from for f in drift.figures if f.name == "js(channel)"} == {f"learned from {len(days) - 2} days"}
