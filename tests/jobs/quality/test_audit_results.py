"""Where the results of audits are stored: the marks by which a list of failed days needs no result."""

import pytest

from jobs.quality import audit_results
from jobs.quality.audit_results import ABOUT_ROWS, FAILED, Audit, Outcome, store_audit
from lakehouse.lake import Lake

DAY = "2022-05-01"
FAULT = Outcome("rule", ABOUT_ROWS, "", "", "critical", FAILED)


def audit(*outcomes: Outcome) -> Audit:
    return Audit("exposures", "shop", DAY, 1, "fingerprint", (), outcomes)


def test_a_failed_result_is_marked_until_the_day_passes(tmp_path):
    lake = Lake(tmp_path)
    store_audit(lake, audit(FAULT))
    assert lake.marked_as_failed("shop") == {("exposures", DAY)}
    store_audit(lake, audit())
    assert lake.marked_as_failed("shop") == set()


@pytest.mark.parametrize("stored", [(), (FAULT,)])
def test_a_kill_leaves_no_failed_result_without_a_mark(tmp_path, monkeypatch, stored):
    lake = Lake(tmp_path)
    store_audit(lake, audit(*stored))
    write = audit_results.write_whole

    def killed(path, content):
        write(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(audit_results, "write_whole", killed)
    with pytest.raises(KeyboardInterrupt):
        store_audit(lake, audit(FAULT))
    assert lake.marked_as_failed("shop") == {("exposures", DAY)}
