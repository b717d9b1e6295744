"""One row per refused row of the raw log, so that no row is lost silently."""

from schemas.contract import Column, Table
from schemas.expectations import not_empty
from schemas.tables import QUARANTINE

QUARANTINE_TABLE = Table(
    name=QUARANTINE,
    doc=__doc__,
    columns=(
        Column("source_file", "string", "name of the raw file"),
        Column("raw", "binary", "the bytes of the row as they are in the file, without their line end"),
        Column("reason", "string", "why it was refused"),
        Column("header", "binary", "the file's header line with its line end; null if it has none", nullable=True),
    ),
    key=(),
    expectations=(not_empty("reason", rationale="a refusal names its reason"),),
)
