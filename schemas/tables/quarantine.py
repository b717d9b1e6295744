"""One row per refused row of the raw log, so that no row is lost silently."""

from schemas.contract import Column, Table
from schemas.expectations import not_empty
from schemas.tables import QUARANTINE

QUARANTINE_TABLE = Table(
    name=QUARANTINE,
    doc=__doc__,
    columns=(
        Column("source_file", "string", "name of the raw file"),
        Column("raw", "binary", "the bytes of the row in its raw file, without the line end"),
        Column("reason", "string", "why it was refused"),
        Column(
            "header",
            "binary",
            "the header line of the raw file; null without a header",
            nullable=True,
        ),
    ),
    key=(),
    expectations=(not_empty("reason", rationale="a refusal names its reason"),),
)
