"""Audits of sample partitions, valid or with a planted fault."""

from audit_samples import DAY, Rows, sample, write_basis, write_partition

from jobs.quality.audit_results import Audit
from jobs.quality.audits import audit_partition
from lakehouse.lake import Lake
from schemas.dataset import get_dataset

DATASETS = ("criteo", "kuairand", "kuairand_tab")
UNIQUE, IN_SET = "expect_column_values_to_be_unique", "expect_column_values_to_be_in_set"
IN_RANGE, NOT_NULL = "expect_column_values_to_be_between", "expect_column_values_to_not_be_null"
TYPE, FINITE = "expect_column_values_to_be_of_type", "expect_column_values_to_be_finite"
LABELS, SCORED = "expect_label_count_to_equal_exposures", "expect_every_user_to_be_scored"


def audited(lake: Lake, dataset: str, name: str, rows: Rows | None = None, **options) -> Audit:
    """Publish a sample partition, or these rows instead, and audit it. options: of write_partition."""
    contract = get_dataset(dataset)
    table, valid = sample(name, contract)
    write_basis(lake, name, contract, empty=rows == [])
    write_partition(lake, table, contract, valid if rows is None else rows, **options)
    return audit_partition(lake, name, contract, DAY)


def rows_of(dataset: str, name: str) -> Rows:
    """The valid rows of a sample partition."""
    return sample(name, get_dataset(dataset))[1]


def failures(audit: Audit) -> dict[str, str]:
    """The severity of each failed rule, by its name."""
    return {outcome.name: outcome.severity for outcome in audit.failed}
