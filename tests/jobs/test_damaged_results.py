"""Stored results that are damaged: one line that names the file and the command that makes it again."""

import pytest

from jobs.drift.results import stored_drift, stored_drifts
from jobs.quality.audit_results import stored_audit, stored_audits
from jobs.raw.index import stored_index
from jobs.reports.sections.training import unseen_users
from jobs.reports.summaries import stored_summaries
from jobs.summary import metric_lines
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from schemas.dataset import get_dataset
from schemas.errors import UserError

KUAIRAND = get_dataset("kuairand")
DAY = "2022-04-22"
MANIFEST = Manifest("exposures", "kuairand", DAY, 1, "fingerprint", {}, "code", None, {})
READERS = {
    "audit": (lambda lake: lake.audits(KUAIRAND) / "exposures" / f"{DAY}.json",
              lambda lake: stored_audit(lake["exposures", "kuairand", DAY]), "audit_table"),
    "all audits": (lambda lake: lake.audits(KUAIRAND) / "exposures" / f"{DAY}.json",
                   lambda lake: stored_audits(lake, KUAIRAND), "audit_table"),
    "verdict": (lambda lake: lake.audits(KUAIRAND) / "exposures" / f"{DAY}.json",
                lambda lake: lake.failed_audit(MANIFEST), "audit_table"),
    "drift": (lambda lake: lake.drift(KUAIRAND) / f"{DAY}.json",
              lambda lake: stored_drift(lake, KUAIRAND, DAY), "measure_drift"),
    "all drifts": (lambda lake: lake.drift(KUAIRAND) / f"{DAY}.json",
                   lambda lake: stored_drifts(lake, KUAIRAND), "measure_drift"),
    "summaries": (lambda lake: lake.reports(KUAIRAND) / f"{DAY}.json",
                  lambda lake: stored_summaries(lake, KUAIRAND), "make report"),
    "raw index": (lambda lake: lake.raw_index(KUAIRAND), lambda lake: stored_index(lake, KUAIRAND), "run again"),
    "metrics": (lambda lake: lake.metrics(KUAIRAND),
                lambda lake: metric_lines(lake.metrics(KUAIRAND)), "mtorl_model.evaluate"),
    "metrics on a page": (lambda lake: lake.metrics(KUAIRAND),
                          lambda lake: unseen_users(lake, KUAIRAND), "mtorl_model.evaluate"),
}  # fmt: skip
DAMAGED = {
    "empty": b"", "cut": b'{"verdict": "pa', "not text": b'{"verdict": "\xff"}', "a list": b"[1]", "a number": b"7",
    "no members": b"{}",
}  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize(("path", "read", "advice"), READERS.values(), ids=READERS)
def test_a_damaged_result_is_one_line_with_advice(tmp_path, path, read, advice, content):
    lake = Lake(tmp_path)
    file = path(lake)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"damaged .*{advice}") as error:
        read(lake)
    assert str(file) in str(error.value)
