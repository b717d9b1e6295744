"""What an audit found: values, their verdict, and where in the lake they are kept."""

import json
from dataclasses import asdict, dataclass

from lakehouse.lake import FAILED_AUDIT, Lake
from lakehouse.staging import write_to_lake
from schemas.contract import Severity

ABOUT_PARTITION, ABOUT_COLUMNS, ABOUT_ROWS = "partition", "columns", "rows"
HOLDS, FAILED, NOT_ASKED = "holds", "failed", "not asked"
FAILED_MARK = "_AUDIT_FAILED"  # no reader of Parquet takes a file of such a name for data
PASS, WARN, FAIL = "pass", "warn", FAILED_AUDIT


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule and what the audit found."""

    name: str
    about: str  # partition, columns or rows
    sentence: str
    why: str
    severity: str
    status: str  # holds, failed or not asked
    observed: str = ""  # the value found, where the rule is about one value
    rows: int | None = None  # how many rows break the rule, where it is about rows
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """All outcomes for one partition."""

    table: str
    dataset: str
    ds: str
    rows: int
    fingerprint: str
    notes: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    manifest: str = ""  # SHA-256 of the manifest that lay there

    @property
    def verdict(self) -> str:
        """fail if a critical rule failed, warn if another one did, else pass."""
        severities = {o.severity for o in self.failed}
        return FAIL if Severity.CRITICAL.value in severities else WARN if severities else PASS

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.status == FAILED)

    @property
    def where(self) -> str:
        return f"{self.table}/{self.dataset}/{self.ds}"

    def finding(self, outcome: Outcome) -> str:
        """What was found, in words: 2 of 1,994 rows, e.g. 123, 123."""
        count = "" if outcome.rows is None else f"{outcome.rows:,} of {self.rows:,} rows"
        found = f"found {outcome.observed}" if outcome.observed else ""
        examples = f"e.g. {', '.join(outcome.examples)}" if outcome.examples else ""
        return ", ".join(part for part in (count, found, examples) if part)

    @property
    def headline(self) -> str:
        """The first critical failure in one line, and how many more there are; empty where there is none."""
        critical = [outcome for outcome in self.failed if outcome.severity == Severity.CRITICAL.value]
        if not critical:
            return ""
        more = f" (and {len(critical) - 1} more)" if len(critical) > 1 else ""
        return " ".join(f"{critical[0].name}: {self.finding(critical[0])}{more}".split())

    def to_json(self) -> str:
        told = {"verdict": self.verdict, "headline": self.headline}
        return json.dumps({**asdict(self), **told}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Audit":
        raw = json.loads(text)
        for told in ("verdict", "headline"):  # for readers that do not know the rules; here they follow from them
            raw.pop(told, None)
        outcomes = tuple(Outcome(**{**o, "examples": tuple(o["examples"])}) for o in raw.pop("outcomes"))
        return cls(outcomes=outcomes, notes=tuple(raw.pop("notes")), **raw)


def store(lake: Lake, audit: Audit) -> None:
    """Keep the result as LAKE/audits/dataset=.../<table>/<ds>.json, whole or not at all, and mark what has failed.

    The mark is a file in the partition itself, for people who read its Parquet files and know of no audits.
    """
    write_to_lake(lake, lake.audits(audit.dataset) / audit.table / f"{audit.ds}.json", audit.to_json())
    partition = lake[audit.table, audit.dataset, audit.ds].path
    if audit.headline and partition.is_dir():
        write_to_lake(lake, partition / FAILED_MARK, f"{audit.headline}\n")
    else:
        (partition / FAILED_MARK).unlink(missing_ok=True)


def stored_audit(lake: Lake, table: str, dataset: str, ds: str) -> Audit | None:
    """The latest result of this partition, None where it was never audited."""
    try:
        return Audit.from_json((lake.audits(dataset) / table / f"{ds}.json").read_text())
    except FileNotFoundError:
        return None


def stored_audits(lake: Lake, dataset: str) -> list[Audit]:
    """The latest result of every partition that was ever audited."""
    return [Audit.from_json(path.read_text()) for path in sorted(lake.audits(dataset).glob("*/*.json"))]
