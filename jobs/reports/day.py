"""What the lake holds of one day, and how far the day has come."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from jobs.drift.results import Drift, stored_drift
from jobs.quality.audit_results import FAIL, FAILED_MARK, PASS, WARN, Audit, stored_audit
from jobs.quality.partition_view import data_files, opened
from jobs.reports.content import Cell
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.tables import (
    BUDGET_PLAN,
    CHANNEL_ALLOCATION,
    CHANNEL_POLICIES,
    EXPOSURES,
    FEATURE_SPEC,
    JOURNEYS,
    PREQUENTIAL,
    PROMOTIONS,
    QUARANTINE,
    SEQUENCES,
    USER_REWARD_RANKS,
)
from schemas.tables.registry import TABLES

PART = "part"  # neither good nor bad: the day is not through, or was never scored

WORDS = {
    EXPOSURES: "the day's ad exposures",
    QUARANTINE: "refused rows",
    JOURNEYS: "every user's journey so far",
    FEATURE_SPEC: "which inputs the model sees",
    SEQUENCES: "the windows that the model learns from",
    CHANNEL_POLICIES: "which channel to use next, a user",
    USER_REWARD_RANKS: "whom to spend on first",
    CHANNEL_ALLOCATION: "what each channel deserves",
    BUDGET_PLAN: "whom the day's budget buys",
    PREQUENTIAL: "how the model judged the day before it learned it",
    PROMOTIONS: "whether the day's model became champion",
}
# What a scored day has in any case.
_COMPLETE = (
    EXPOSURES, JOURNEYS, CHANNEL_POLICIES, USER_REWARD_RANKS, CHANNEL_ALLOCATION,
)  # fmt: skip

# Broken files, and columns that are not there or of another type.
_FAULTS_OF_FILES = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.BinderException,
    duckdb.ConversionException,
)


class Unreadable(UserError):
    """A table that is published but is no such table: one section's trouble, not the page's."""


@dataclass(frozen=True, slots=True)
class Day:
    """A dataset's day in a lake. manifests: of the tables that are there. audits: the latest, also of what is gone."""

    lake: Lake
    dataset: Dataset
    ds: str
    manifests: Mapping[str, Manifest]
    audits: Mapping[str, Audit]
    undated: Audit | None  # of the refused rows of no readable day, which are everybody's
    drift: Drift | None

    def holds(self, table: str) -> bool:
        return table in self.manifests

    def query(self, table: str, sql: str, ds: str = "") -> list[tuple]:
        """The rows of a SELECT over the view `partition`, the table's data of this day (or of another).

        Raises Unreadable where the files are broken or lack a column.
        """
        path = self.lake[table, self.dataset, ds or self.ds].path
        if not data_files(path):
            raise Unreadable(f"{table} of {ds or self.ds} has no data files: run the day again")
        try:
            with opened(path) as connection:
                return connection.execute(sql).fetchall()
        except _FAULTS_OF_FILES as error:
            first = str(error).splitlines()[0]
            raise Unreadable(f"{table} of {ds or self.ds} cannot be read ({first}): run the day again") from error

    def audit_link(self, table: str, text: str, badge: str = "") -> Cell:
        """A link to the page of the data docs, or plain text where there is none."""
        there = (self.lake.docs(self.dataset) / table / f"{self.ds}.html").is_file()
        return Cell(text, f"{self.docs}/{table}/{self.ds}.html" if there else "", badge)

    @property
    def docs(self) -> str:
        """The data docs, as a page of the reports links to them."""
        return f"../../data_docs/dataset={self.dataset.name}"


def open_day(lake: Lake, dataset: Dataset, ds: str) -> Day:
    """A UserError where the lake, or the day in it, does not exist."""
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    found = {table: lake[table, dataset, ds].manifest for table in TABLES}
    audits = {table: stored_audit(lake, table, dataset.name, ds) for table in TABLES}
    manifests = {table: manifest for table, manifest in found.items() if manifest}
    if not manifests:
        days = lake.days(EXPOSURES, dataset)
        there = f"there are {days[0]} to {days[-1]}" if days else "run a day first (make run)"
        raise UserError(f"nothing of {dataset.name} on {ds} in {lake.root}: {there}")
    return Day(
        lake, dataset, ds, manifests, {table: audit for table, audit in audits.items() if audit},
        stored_audit(lake, QUARANTINE, dataset.name, UNDATED), stored_drift(lake, dataset.name, ds),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with the day: what, where, how much, and why it matters."""

    severity: str
    sentence: str
    found: str
    why: str
    rule: str
    where: Cell


@dataclass(frozen=True, slots=True)
class Verdict:
    """kind: pass, warn, fail or part. headline: in a few words. details: what a person should know beside it."""

    kind: str
    headline: str
    details: tuple[str, ...]
    findings: tuple[Finding, ...]


def verdict_of(day: Day) -> Verdict:
    """What the audits and the drift say of the day, the worst first."""
    findings = sorted([*_of_audits(day), *_of_drift(day)], key=lambda f: f.severity)  # critical, warning
    critical = [f for f in findings if f.severity == "critical"]
    stopped = [table for table in (*TABLES, UNDATED) if _stops(day, table)]
    warnings = len(findings) - len(critical)
    missing = [table for table in _COMPLETE if not day.holds(table)]
    unaudited = [t for t, m in day.manifests.items() if t not in day.audits or not _is_current(day.audits[t], m)]
    not_audited = f"Not audited as it lies there: {', '.join(unaudited)}"
    again = f"make backfill DATASET={day.dataset.name} FROM={day.ds} TO={day.ds}"
    details = []
    if stopped:
        kind, headline = FAIL, f"Stopped at {stopped[0]}. {critical[0].sentence}"
        details.append(
            "No job builds on it: what stands behind it is of an earlier run, or not there. Mend the raw rows or the "
            f"job, then run the day again: {again}."
        )
    elif critical:
        kind, headline = FAIL, f"Look before you use this day: {critical[0].sentence}"
    elif not day.holds(CHANNEL_POLICIES):
        kind, headline = PART, "Not scored: this day has no channel policies (yet)"
        details += _in_the_way(day)
        details.append(
            "Days that a model was first trained on are never scored; any other day is, once its daily and its nightly "
            "run are through."
        )
    elif missing:
        kind, headline = PART, f"Not complete: no {missing[0]} of this day ({WORDS[missing[0]]})"
    elif unaudited:
        kind, headline = PART, not_audited
        details.append(f"No rule was asked of it, so nothing says whether it is good. Run the day again: {again}.")
    elif warnings:
        kind, headline = WARN, "The day is good to use, with warnings"
    else:
        kind, headline = PASS, "All is well: every rule holds"
    if warnings and kind != FAIL:
        details.append(f"{warnings} {'warning' if warnings == 1 else 'warnings'}: the day goes on.")
    if unaudited and headline != not_audited:
        details.append(f"{not_audited}.")
    if day.drift is None and day.holds(CHANNEL_POLICIES):
        details.append("Drift was not measured: nothing says how far the day is from what the model learned from.")
    return Verdict(kind, headline, tuple(details), tuple(findings))


def _is_current(audit: Audit, manifest: Manifest) -> bool:
    return audit.fingerprint == manifest.fingerprint


def _stops(day: Day, table: str) -> bool:
    """Whether the table, as it lies there, has failed its audit critically."""
    undated = day.lake[QUARANTINE, day.dataset, UNDATED]
    manifest = undated.manifest if table == UNDATED else day.manifests.get(table)
    return manifest is not None and day.lake.failed_audit(manifest) is not None


def _in_the_way(day: Day) -> list[str]:
    """Earlier days that hold this one up, since journeys rest on the exposures of all days."""
    marked = day.lake.table(EXPOSURES, day.dataset).glob(f"ds=*/{FAILED_MARK}")
    days = sorted(ds for mark in marked if (ds := mark.parent.name.removeprefix("ds=")) < day.ds)
    return [f"An earlier day stands in the way: the exposures of {', '.join(days)} failed their audit."] if days else []


def _of_audits(day: Day) -> list[Finding]:
    """The failed rules of what lies there now, in the order in which a day is built."""
    audits = [a for t, a in day.audits.items() if t in day.manifests and _is_current(a, day.manifests[t])]
    if day.undated and day.undated.failed and _stops(day, UNDATED):
        audits.append(day.undated)
    return [
        Finding(
            o.severity, f"Broken rule: {o.sentence}", audit.finding(o), o.why, o.name,
            day.audit_link(audit.table, f"{audit.table} {audit.ds}") if audit.ds == day.ds
            else Cell(f"{audit.table} {audit.ds}"),
        )
        for audit in audits
        for o in audit.failed
    ]  # fmt: skip


def _of_drift(day: Day) -> list[Finding]:
    return [
        Finding(f.severity, f.sentence, f"{f.value:.4g}, the limit is {f.limit:.4g} ({f.limit_from})", f.why, f.name,
                Cell("drift" + (f" against the {f.against}" if f.against else ""), "#drift"))
        for f in (day.drift.beyond if day.drift else ())
    ]  # fmt: skip
