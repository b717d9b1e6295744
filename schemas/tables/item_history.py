"""One row per value of each item column (`Dataset.items`): its exposures and gains up to the end of day ds.

A gain counts once it is known. `pending` has the gains of past exposures that become known on later days. All users
count. A prediction on a day reads the table of the day before.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, one_of
from schemas.tables import ITEM_HISTORY

PENDING_TYPE = "array<struct<known_on: string, gain: string, count: bigint>>"


def item_history(dataset: Dataset) -> Table:
    # Quoted: a log may call a gain `order`.
    gains_covered = " AND ".join(f'"{g}" <= exposures' for g in dataset.gain_names)
    return Table(
        name=ITEM_HISTORY,
        doc=__doc__,
        columns=(
            Column("item", "string", "the column of `exposures`, for example the author"),
            Column("value", "string", "its value, as text"),
            Column("exposures", "bigint", "exposures with this value so far"),
            *(Column(g, "bigint", f"those with {g}, as far as known") for g in dataset.gain_names),
            Column("pending", PENDING_TYPE, "how many gains become known on each later day"),
        ),
        key=("item", "value"),
        expectations=(
            one_of("item", dataset.items or ("",), rationale="only the contract's items are counted"),
            between("exposures", low=1, rationale="a value is listed from its first exposure on"),
            holds("no_gain_without_exposure", rationale="more clicks than exposures are clicks on nothing"),
        ),
        audit_duckdb_sql=f"SELECT *, {gains_covered} AS no_gain_without_exposure FROM partition",
    )
