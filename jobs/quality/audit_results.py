"""The result of an audit: the outcome of each rule, the verdict, and where the lake stores them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lakehouse.lake import FAILED_AUDIT, FAILED_MARK, IF_AUDIT_DAMAGED, Lake, Partition
from lakehouse.manifest import Manifest
from lakehouse.storage.files import read_stored, write_whole
from schemas.contract import Severity
from schemas.dataset import Dataset

ABOUT_PARTITION, ABOUT_COLUMNS, ABOUT_ROWS = "partition", "columns", "rows"
HOLDS, FAILED, NOT_EVALUATED = "holds", "failed", "not evaluated"
PASS, WARN, FAIL = "pass", "warn", FAILED_AUDIT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule and its result."""

    name: str
    about: str  # partition, columns or rows
    sentence: str  # the rule in words
    why: str
    severity: str
    status: str  # holds, failed or not evaluated
    observed: str = ""  # the measured value, if the rule is about a single value
    rows: int | None = None  # how many rows break the rule, if it is about rows
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcomes of all rules for one partition."""

    table: str
    dataset: str
    ds: str
    rows: int
    fingerprint: str
    notes: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    manifest: str = ""  # the digest of the manifest at the time of the audit

    @property
    def verdict(self) -> str:
        """fail if a critical rule failed, warn if only other rules failed, else pass."""
        severities = {outcome.severity for outcome in self.failed}
        return FAIL if Severity.CRITICAL.value in severities else WARN if severities else PASS

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status == FAILED)

    @property
    def partition_name(self) -> str:
        """As messages name the partition: exposures/kuairand/2022-04-24."""
        return f"{self.table}/{self.dataset}/{self.ds}"

    def describe(self, outcome: Outcome) -> str:
        """The result of one rule in words: 2 of 1,994 rows, e.g. 123, 123."""
        count = "" if outcome.rows is None else f"{outcome.rows:,} of {self.rows:,} rows"
        observed = f"found {outcome.observed}" if outcome.observed else ""
        examples = f"e.g. {', '.join(outcome.examples)}" if outcome.examples else ""
        return ", ".join(text for text in (count, observed, examples) if text)

    @property
    def headline(self) -> str:
        """The first critical failure in one line, and how many more there are; empty without a critical failure."""
        critical = [outcome for outcome in self.failed if outcome.severity == Severity.CRITICAL.value]
        if not critical:
            return ""
        count = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        return " ".join(f"{critical[0].name}: {self.describe(critical[0])}{count}".split())

    def to_json(self) -> str:
        """The audit as JSON. Verdict and headline follow from the outcomes; they are for readers without the rules."""
        fields = {**asdict(self), "verdict": self.verdict, "headline": self.headline}
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Audit":
        fields = json.loads(text)
        for derived in ("verdict", "headline"):
            fields.pop(derived, None)
        outcomes = tuple(Outcome(**{**o, "examples": tuple(o["examples"])}) for o in fields.pop("outcomes"))
        return cls(outcomes=outcomes, notes=tuple(fields.pop("notes")), **fields)


def store_audit(lake: Lake, audit: Audit) -> None:
    """Store the result as LAKE/<dataset>/audits/<table>/<ds>.json in one step, with a mark if it failed.

    By the marks, the days that failed are known without reading the results of all days.
    """
    file = _result_file(lake[audit.table, audit.dataset, audit.ds])
    mark = file.with_suffix(FAILED_MARK)
    # A failed result never lacks its mark, also if this process is killed: readers look for the mark first.
    if audit.headline:
        write_whole(mark, "")
    write_whole(file, audit.to_json())
    if not audit.headline:
        mark.unlink(missing_ok=True)


def failed_days(lake: Lake, table: str, dataset: Dataset) -> list[str]:
    """The days of a table whose present content failed its audit, oldest first."""
    marked = [day for marked_table, day in lake.marked_as_failed(dataset) if marked_table == table]
    manifests = (lake[table, dataset, day].manifest for day in marked)
    return sorted(m.ds for m in manifests if m is not None and lake.failed_audit(m) is not None)


def manifest_digest(manifest: Manifest) -> str:
    """SHA-256 of a manifest's fields, which names the content that was audited."""
    return hashlib.sha256(json.dumps(asdict(manifest), sort_keys=True).encode()).hexdigest()


def stored_audit(partition: Partition) -> Audit | None:
    """The latest result for this partition; None if it was never audited."""
    try:
        return read_stored(_result_file(partition), Audit.from_json, IF_AUDIT_DAMAGED)
    except FileNotFoundError:
        return None


def stored_audits(lake: Lake, dataset: Dataset) -> list[Audit]:
    """The latest result for every partition of the dataset that was ever audited."""
    files = sorted(lake.audits(dataset).glob("*/*.json"))
    return [read_stored(file, Audit.from_json, IF_AUDIT_DAMAGED) for file in files]


def _result_file(partition: Partition) -> Path:
    return partition.lake.audits(partition.dataset) / partition.table / f"{partition.day}.json"
