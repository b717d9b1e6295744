"""One day of a dataset as the lake has it: what the sections of its report are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from jobs.drift.results import Drift, stored_drift
from jobs.quality.audit_results import Audit, stored_audit
from jobs.reports.content import Cell
from lakehouse.duckdb_view import open_view
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import DamagedFile
from schemas.dataset import Dataset
from schemas.days import UNDATED
from schemas.errors import UserError
from schemas.tables import EXPOSURES, QUARANTINE
from schemas.tables.registry import TABLES

# Broken files, and columns that are missing or have another type.
_FILE_ERRORS = (
    duckdb.IOException,
    duckdb.InvalidInputException,
    duckdb.BinderException,
    duckdb.ConversionException,
    DamagedFile,
)


class Unreadable(UserError):
    """The files of a published table cannot be read. Only the section that reads it fails, not the page."""


@dataclass(frozen=True, slots=True)
class DayView:
    """A day of a dataset in a lake.

    manifests: of the published tables. audits: the latest of each table, even if the table no longer exists.
    undated_audit: of the quarantined rows without a readable day, which concern every day.
    """

    lake: Lake
    dataset: Dataset
    day: str
    manifests: Mapping[str, Manifest]
    audits: Mapping[str, Audit]
    undated_audit: Audit | None
    drift: Drift | None

    def has(self, table: str) -> bool:
        return table in self.manifests

    def query(self, table: str, sql: str, day: str = "") -> list[tuple]:
        """The rows of a SELECT over the view `partition`: the table's rows as of this day, or of the given one.

        Raises Unreadable if the files are broken or lack a column.
        """
        partition = self.lake[table, self.dataset, day or self.day]
        if not partition.data_files():
            raise Unreadable(f"{table} of {partition.day} has no data files: run the day again")
        try:
            with open_view(*partition.read_together()) as connection:
                return connection.execute(sql).fetchall()
        except _FILE_ERRORS as error:
            first_line = str(error).splitlines()[0]
            raise Unreadable(f"{table} of {partition.day} cannot be read ({first_line}): run the day again") from error

    def is_audited(self, table: str) -> bool:
        """Whether the latest audit of a published table is about its current content."""
        audit = self.audits.get(table)
        return audit is not None and audit.fingerprint == self.manifests[table].fingerprint

    def audit_link(self, table: str, text: str, badge: str = "") -> Cell:
        """A link to the audit's page in the data docs, or plain text if the page does not exist."""
        has_page = (self.lake.docs(self.dataset) / table / f"{self.day}.html").is_file()
        return Cell(text, f"{self.docs_url}/{table}/{self.day}.html" if has_page else "", badge)

    @property
    def docs_url(self) -> str:
        """The data docs, relative to a page of the reports."""
        return "../data_docs"


def view_day(lake: Lake, dataset: Dataset, day: str) -> DayView:
    """The present content of the lake. Raises UserError if the lake, or the day in it, does not exist."""
    if not lake.root.is_dir():
        raise UserError(f"no such folder: {lake.root} (LAKE must name the output folder of an earlier run)")
    partitions = {table: lake[table, dataset, day] for table in TABLES}
    manifests = {table: manifest for table, part in partitions.items() if (manifest := part.manifest)}
    if not manifests:
        days = lake.days(EXPOSURES, dataset)
        available = f"there are {days[0]} to {days[-1]}" if days else "run a day first (make run)"
        raise UserError(f"{dataset.name} has no tables on {day} in {lake.root}: {available}")
    return DayView(
        lake,
        dataset,
        day,
        manifests,
        {table: audit for table, part in partitions.items() if (audit := stored_audit(part))},
        stored_audit(lake[QUARANTINE, dataset, UNDATED]),
        stored_drift(lake, dataset, day),
    )
