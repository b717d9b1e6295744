"""The rules of `sequences`: windows, their labels, and the tables that they agree with."""

from dataclasses import replace

import pytest
from audit_cases import DATASETS, IN_RANGE, IN_SET, LABELS, audited, failures, rows_of
from audit_samples import (
    DAY,
    sample,
    shown_in_windows,
    spec_of,
    steps_of,
    write_partition,
)
from lakes import unpublish

from jobs.quality.audit_results import PASS
from jobs.quality.audits import audit_partition
from schemas.dataset import get_dataset
from schemas.errors import UserError
from schemas.tables.steps import steps

STEPS = "expect_labels_to_be_steps_of_the_day"
# In the sample, user 2 has 4 steps: padding 16, of which those at 1 to 3 are labels.
WINDOW_FAULTS = [
    ("too short", {"length": 19, "padding": 15}, {"one_length"}),
    ("too long", {"length": 41, "padding": 37}, {"length", "one_length"}),
    ("fewer positions than the length", {"padding": 15}, {"has_all_positions"}),
    ("not left padded", {"first_step": 1, "padding": 17}, {"left_padded", "enough_context"}),
    ("steps from before the journey", {"first_step": -1, "padding": 15}, {"left_padded"}),
    ("a first step with a loss", {"first_label": 0}, {"has_labels", LABELS, STEPS}),
    ("no label", {"first_label": 4}, {"has_labels", LABELS, STEPS}),
    ("labels of another day", {"first_label": 2, "last_step": 4, "padding": 15}, {STEPS}),
    ("history left out", {"first_step": 1, "padding": 17}, {"left_padded", "enough_context"}),
]


@pytest.mark.parametrize(("change", "columns"), [f[1:] for f in WINDOW_FAULTS], ids=[f[0] for f in WINDOW_FAULTS])
def test_a_faulty_window_fails(lake, change, columns):
    rows = rows_of("criteo", "sequences")
    rows[2].update(change)
    audit = audited(lake, "criteo", "sequences", rows)
    assert failures(audit) == dict.fromkeys((_rule(column) for column in columns), "critical")


def _rule(column: str) -> str:
    """The rule about a column of the audit, or the rule of that name."""
    if column in (LABELS, STEPS):
        return column
    return f"{IN_RANGE if column == 'length' else IN_SET}({column})"


def test_a_doubled_window_fails(lake):
    rows = rows_of("criteo", "sequences")
    audit = audited(lake, "criteo", "sequences", [*rows, *({**row, "window": 1} for row in rows[1:])])
    assert {o.name: o.rows for o in audit.failed if o.rows} == {f"{IN_SET}(labelled_once)": 3, STEPS: 9}


def test_a_user_in_another_split_fails(lake):
    rows = rows_of("criteo", "sequences")
    rows[2]["split"] = "test" if rows[2]["split"] != "test" else "train"
    assert failures(audited(lake, "criteo", "sequences", rows)) == {f"{IN_SET}(split_is_right)": "critical"}


def test_the_label_of_a_step_that_the_day_does_not_have_fails(lake):
    """The windows have as many labels as the day has steps, but for one user they begin a step too late."""
    contract = get_dataset("criteo")
    audited(lake, "criteo", "sequences")
    exposed = shown_in_windows(contract)
    for row in (moved := steps_of(contract, exposed))[-3:]:  # three of the last user's five steps
        row["journey_position"] += 1
    write_partition(lake, steps(contract), contract, moved)
    audit = audit_partition(lake, "sequences", contract, DAY)
    assert {o.name: o.rows for o in audit.failed} == {STEPS: 2}  # that at 2 is no step, that at 5 has no label


def test_windows_without_the_steps_of_their_day_fail(lake):
    audited(lake, "criteo", "sequences")
    unpublish(lake["steps", "criteo", DAY])
    audit = audit_partition(lake, "sequences", get_dataset("criteo"), DAY)
    assert {o.name: o.rows for o in audit.failed} == {STEPS: 10}


def test_channels_are_those_of_the_spec_that_is_given_or_of_the_newest_one(lake):
    contract = get_dataset("criteo")
    assert audited(lake, "criteo", "sequences").verdict == PASS  # the exposures have channel a
    other_spec = replace(spec_of(contract), channels=("b", "c"))
    warning = {"expect_channels_to_be_known_to_the_model": "warning"}
    assert failures(audit_partition(lake, "sequences", contract, DAY, spec=other_spec)) == warning
    table, rows = sample("feature_spec", contract)
    write_partition(
        lake, table, contract, rows, ds="2017-01-09", stored_spec=other_spec, spec_version=other_spec.version
    )
    assert failures(audit_partition(lake, "sequences", contract, DAY)) == warning
    for day in (DAY, "2017-01-09"):
        unpublish(lake["feature_spec", "criteo", day])
    names = {outcome.name for outcome in audit_partition(lake, "sequences", contract, DAY).outcomes}
    assert not names & warning.keys()


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_exposure_without_a_label_fails(lake, dataset):
    audit = audited(lake, dataset, "sequences", rows_of(dataset, "sequences")[:-1])
    assert failures(audit) == {LABELS: "critical", STEPS: "critical"}
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
