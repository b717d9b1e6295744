"""A fortnight without any fault: no critical failure, and at most one warning from all rules and drift figures.

The first of its days is compared with the week before, whose last four days are the training period. The first days of
the log are not, because users have no history yet: in the Criteo layout hardly any user has a last click.
"""

import pytest
from built_lake import generate
from in_process import Jobs

from jobs.drift.measurement import measure_drift
from jobs.drift.results import store_drift, stored_drifts
from jobs.quality.audit_results import store_audit
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from mtorl_model.budget import taste_fit
from schemas.dataset import get_dataset
from schemas.tables.registry import TABLES

pytestmark = [pytest.mark.spark, pytest.mark.slow(60)]
WEEK, FORTNIGHT = 7, 14


# Journeys, scores and plans take seconds per day, so only one layout has them for every day.
@pytest.mark.parametrize(("layout", "nights"), [("kuairand", True), ("criteo", False)])
def test_a_clean_fortnight_has_at_most_one_warning(spark, tmp_path, monkeypatch, layout, nights):
    # The rules of a plan hold for any tastes, so a coarse fit is enough here.
    monkeypatch.setattr(taste_fit, "_ITERATIONS", 3)
    dataset = get_dataset(layout)
    raw = generate(monkeypatch, tmp_path / "raw", layout, users=300, days=WEEK + FORTNIGHT, seed=11)
    jobs = Jobs(spark, Lake(tmp_path / "lake"), layout, monkeypatch)
    lake = jobs.lake
    jobs.ok("build_exposures", "--raw", str(raw))
    days = lake.days("exposures", layout)
    assert len(days) == WEEK + FORTNIGHT
    training_days, fortnight = days[3:WEEK], days[WEEK:]
    jobs.ok("build_sequences", "--from", days[0], "--to", days[-1])
    jobs.ok("build_feature_spec", "--from", training_days[0], "--to", training_days[-1])
    for day in fortnight if nights else days[-1:]:
        jobs.ok("build_journeys", "--day", day)
    if nights:
        jobs.ok(
            "mtorl_model.train", "--from", days[0], "--to", training_days[-1], "--members", "1", "--max-epochs", "6"
        )
        for day in fortnight:
            jobs.ok("mtorl_model.score", "--day", day)
            jobs.ok("mtorl_model.plan_budget", "--day", day, "--budget", "40")
    failures = []
    for day in days:
        for table in TABLES:
            if day in lake.days(table, layout):
                audit = audit_partition(lake, table, dataset, day)
                store_audit(lake, audit)
                failures += [(day, o.severity, o.name, audit.describe(o)) for o in audit.failed]
        drift = measure_drift(lake, dataset, day, stored_drifts(lake, dataset))
        store_drift(lake, drift)
        failures += [(day, f.severity, f.name, f.sentence) for f in drift.exceeded]
    assert [failure for failure in failures if failure[1] == "critical"] == []
    warnings = [failure for failure in failures if failure[0] in fortnight]
    print(f"{layout}: {len(warnings)} warnings in a fortnight", *warnings, sep="\n  ")
    assert len(warnings) <= 1, warnings
    assert drift.reference == tuple(training_days)
    assert len(drift.figures) > 50
    assert {f.limit_from for f in drift.figures if f.name == "psi(hour)" and f.against == "day before"} == {
        f"learned from {len(days) - 2} days"
    }
