"""A fact: a value that an audit measures on a whole partition, and the value that it must have."""

from dataclasses import dataclass

from jobs.quality.audit_results import ABOUT_PARTITION
from schemas.contract import Severity
from schemas.quality import Limit


@dataclass(frozen=True, slots=True)
class Fact:
    """A rule about a partition or a column, with the value that was measured for it.

    name: in the style of Great Expectations, e.g. expect_column_values_to_not_be_null(cost).
    rows: the number of rows that break the rule, if it is about rows.
    """

    name: str
    observed: str | int
    expected: str | int
    sentence: str
    why: str
    about: str = ABOUT_PARTITION
    severity: Severity = Severity.CRITICAL
    rows: int | None = None
    examples: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        return self.observed == self.expected

    @property
    def observation(self) -> str:
        """The observed value, and the expected one if they differ; empty if `rows` is given."""
        if self.rows is not None:
            return ""
        observed, expected = (f"{v:,}" if isinstance(v, int) else v for v in (self.observed, self.expected))
        return observed if self.is_met else f"{observed}, not {expected}"


def limit_fact(
    name: str, is_met: bool, observed: str, expected: str, sentence: str, limit: Limit, about: str = ABOUT_PARTITION
) -> Fact:
    """A fact whose comparison with the limit is done by the caller.

    The audit compares for equality, so a fact that is met has its expected value as the observed one.
    """
    return Fact(name, expected if is_met else observed, expected, sentence, limit.rationale, about, limit.severity)
