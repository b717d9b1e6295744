"""The manifest of a published partition: its content, its inputs, and whether it still matches them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.days import day_plus, days_between

# A count in the manifest of a partition that has changed rows alone (lakehouse.journeys): how many partitions, up to
# this one, are read for all rows as of its day. A partition without this count has all rows.
DAYS_READ = "days_read"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The inputs and counts of a partition: a row of the table `lineage` (lakehouse.lineage).

    fingerprint: of the partition's data files (files_fingerprint). The jobs write the same rows into the same files
    whatever the parallelism, so equal content has an equal fingerprint.
    inputs: the fingerprint of each input by its key: of a partition, or of all partitions of a table up to a day
    (Lake.history_inputs), of a day's rows in each raw file by raw/<file>, and settings by their name.
    counts: further row counts that describe the build, for example duplicates.
    """

    table: str
    dataset: str
    ds: str
    rows: int
    fingerprint: str
    inputs: Mapping[str, str]
    code_version: str
    spec_version: str | None
    counts: Mapping[str, int]

    @property
    def days(self) -> list[str]:
        """The days of the table whose partitions are read together as of this day, oldest first: see DAYS_READ."""
        days_read = self.counts.get(DAYS_READ, 1)
        return days_between(day_plus(self.ds, 1 - days_read), self.ds) if days_read > 1 else [self.ds]

    def is_fresh(
        self, inputs: Mapping[str, str], *, spec_version: str | None = None, this_code: str | None = None
    ) -> bool:
        """Whether the partition was built from exactly these inputs and this spec, so that it need not be built again.

        File times are not compared: if an input is built again with the same content, the partition stays fresh. The
        code is not an input, because a new release would then rebuild the whole history in the next backfill. A caller
        who requires a certain version of the code passes it as `this_code`.
        """
        return (
            self.inputs == dict(inputs) and self.spec_version == spec_version and this_code in (None, self.code_version)
        )


def files_fingerprint(names: Iterable[str]) -> str:
    """SHA-256 over the sorted names of a partition's data files; the names follow from the files' content."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def chained_fingerprint(chain: str, day: str, fingerprint: str) -> str:
    """The fingerprint of a table's days up to `day`, from that of the days before (empty for the first)."""
    return hashlib.sha256(f"{chain} {day} {fingerprint}".encode()).hexdigest()
