"""The rules of `sequences`: windows, their labels, and the tables that they agree with."""

from dataclasses import replace

import pytest
from audit_cases import DATASETS, IN_RANGE, IN_SET, LABELS, audited, failures, rows_of
from audit_samples import (
    DAY,
    sample,
    shown_in_windows,
    spec_of,
    write_partition,
)

from jobs.quality.audit_results import FAIL, PASS
from jobs.quality.audits import audit_partition
from schemas.dataset import get_dataset
from schemas.errors import UserError


def _swap(row, name, i, j):
    row[name][i], row[name][j] = row[name][j], row[name][i]


def _not_left_padded(row):
    for value in row.values():
        if isinstance(value, list):
            value.append(value.pop(0))


def _all_lists(row, change):
    for name, value in row.items():
        if isinstance(value, list):
            row[name] = change(value)


# In the sample, user 2's window has 4 real steps: positions 16-19, labels 17-19.
WINDOW_FAULTS = [
    ("too short", lambda row: _all_lists(row, lambda v: v[1:]), {"length"}),
    ("not left padded", _not_left_padded, {"left_padded"}),
    ("label on padding", lambda row: _swap(row, "is_label", 3, 17), {"labels_valid", "enough_context"}),
    ("no label", lambda row: row.update(is_label=[False] * 20), {"labels_valid", "enough_context", LABELS}),
    ("unsorted", lambda row: _swap(row, "exposed_at_ms", 17, 18), {"in_order"}),
    ("a step without a time", lambda row: row["exposed_at_ms"].__setitem__(16, None), {"in_order", "steps_filled"}),
    ("a list too short", lambda row: row["click"].pop(0), {"lists_aligned", "steps_filled"}),
    ("an optional list too short", lambda row: row["channel"].pop(0), {"lists_aligned"}),
    ("an optional list missing", lambda row: row.update(channel=None), {"lists_aligned"}),
    ("a value on padding", lambda row: row["cost"].__setitem__(0, 0.0), {"steps_filled"}),
    ("a real step without a count", lambda row: row["seen_click"].__setitem__(19, None), {"steps_filled"}),
    ("too few channels", lambda row: row["new_exposures_by_channel"].__setitem__(19, [1]), {"steps_filled"}),
    ("labelled twice", lambda row: row["exposure_id"].__setitem__(19, 102), {"labelled_once"}),
    ("history left out", lambda row: row["seen_exposures"].__setitem__(17, 30), {"enough_context"}),
]


@pytest.mark.parametrize(("change", "columns"), [f[1:] for f in WINDOW_FAULTS], ids=[f[0] for f in WINDOW_FAULTS])
def test_a_faulty_window_fails(lake, change, columns):
    rows = rows_of("criteo", "sequences")
    change(rows[2])
    audit = audited(lake, "criteo", "sequences", rows)
    assert failures(audit) == {c if c == LABELS else f"{IN_SET}({c})": "critical" for c in columns}


def test_all_windows_of_a_doubled_day_are_counted(lake):
    rows = rows_of("criteo", "sequences")
    valid_window = {**rows[1], "window": 2, "exposure_id": [i and 5_000 + i for i in rows[1]["exposure_id"]]}
    audit = audited(lake, "criteo", "sequences", [*rows, *({**row, "window": 1} for row in rows[1:]), valid_window])
    assert {o.name: o.rows for o in audit.failed if o.about == "rows"} == {f"{IN_SET}(labelled_once)": 6}


def test_a_label_of_another_day_fails(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["exposed_at_ms"] = [t and t - 86_400_000 for t in rows[2]["exposed_at_ms"]]
    assert failures(audited(lake, "criteo", "sequences", rows)) == {
        f"{IN_RANGE}(first_label_ms)": "critical", f"{IN_RANGE}(last_label_ms)": "critical"}  # fmt: skip


def test_context_may_come_from_an_earlier_day(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["exposed_at_ms"][16] -= 86_400_000
    assert audited(lake, "criteo", "sequences", rows).verdict == PASS


def test_a_user_in_another_split_fails(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["split"] = "test" if rows[2]["split"] != "test" else "train"
    assert failures(audited(lake, "criteo", "sequences", rows)) == {f"{IN_SET}(split_is_right)": "critical"}


def test_windows_must_have_the_required_length(lake):
    contract = get_dataset("criteo")
    audited(lake, "criteo", "sequences")
    audit = audit_partition(lake, "sequences", contract, DAY, steps=10)
    assert failures(audit) == {f"{IN_SET}(length)": "critical"}


def test_sequences_of_an_unpublished_spec_fail(lake):
    audit = audited(lake, "criteo", "sequences", spec_version="0123456789ab")
    assert failures(audit) == {"expect_feature_spec_to_be_at_hand": "critical"}


def test_sequences_are_audited_with_the_spec_that_their_manifest_names(lake):
    contract = get_dataset("criteo")
    table, rows = sample("feature_spec", contract)
    audited(lake, "criteo", "sequences")
    newer = replace(spec_of(contract), channels=("a", "b", "c"))
    write_partition(lake, table, contract, rows, ds="2017-01-09", stored_spec=newer, spec_version=newer.version)
    assert audit_partition(lake, "sequences", contract, DAY).verdict == PASS
    assert audit_partition(lake, "sequences", contract, DAY, spec=newer).verdict == FAIL


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_exposure_without_a_label_fails(lake, dataset):
    audit = audited(lake, dataset, "sequences", rows_of(dataset, "sequences")[:-1])
    assert failures(audit) == {LABELS: "critical"}
    assert audit.failed[0].observed == "6, not 10"


@pytest.mark.parametrize("earlier_users", ["journeys", "exposures"])
def test_only_the_first_exposure_of_a_user_has_no_label(lake, earlier_users):
    """The first exposure of user 0 is on the day before; the other three users have theirs on the day."""
    contract, yesterday = get_dataset("criteo"), "2017-01-01"
    table, rows = sample(earlier_users, contract)
    write_partition(lake, table, contract, [r for r in rows if r["user_id"] == 0][:1], ds=yesterday)
    inputs = lake.history_inputs("exposures", contract, [DAY])[DAY] if earlier_users == "exposures" else {}
    audit = audited(lake, "criteo", "sequences", inputs=inputs)
    assert failures(audit) == {LABELS: "critical"}
    assert audit.failed[0].observed == "10, not 11"
    exposures, _ = sample("exposures", contract)
    write_partition(lake, exposures, contract, [r for r in shown_in_windows(contract) if r["exposure_id"] != 0])
    assert audit_partition(lake, "sequences", contract, DAY).verdict == PASS


def test_a_broken_file_of_another_partition_does_not_fail_the_audit(lake):
    audited(lake, "criteo", "sequences")
    exposures_file = lake["exposures", "criteo", DAY].files()[0]
    exposures_file.write_bytes(exposures_file.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"exposures/ds={DAY}/part-0-.* bytes"):
        audit_partition(lake, "sequences", get_dataset("criteo"), DAY)
