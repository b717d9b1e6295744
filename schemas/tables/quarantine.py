"""One refused raw row a row: nothing is dropped silently."""

from schemas.contract import Column, Expectation, Table
from schemas.tables import QUARANTINE

QUARANTINE_TABLE = Table(
    name=QUARANTINE,
    doc=__doc__,
    columns=(
        Column("source_file", "string", "name of the raw file"),
        Column("raw", "string", "the row as it stood there"),
        Column("reason", "string", "why it was refused"),
    ),
    key=(),
    expectations=(
        Expectation(
            "expect_column_value_lengths_to_be_between",
            {"column": "reason", "min_value": 1},
            "a refusal names its reason",
        ),
    ),
)
