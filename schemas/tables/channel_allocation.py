"""One row per channel: the figures of the day's channel level and its policies (section 3.7.2, equation 17).

The counts are over the exposures that the day's journeys remember. Exposures in channels outside the feature spec are
left out. mtorl_model/inference/channel_level.py has the formulas.
"""

from schemas.contract import Column, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds
from schemas.tables import CHANNEL_ALLOCATION

_POLICIES = ("explicit", "implicit", "initial")


def channel_allocation(dataset: Dataset) -> Table:
    gain = next((g for g in dataset.gain_names if g not in dataset.late_gains), "none")
    return Table(
        name=CHANNEL_ALLOCATION,
        doc=__doc__,
        columns=(
            Column("channel", "string", "channel of the feature spec"),
            Column("position", "int", "position of the channel in the model's output, from 0"),
            Column("exposures", "bigint", "exposures counted"),
            Column("gained", "bigint", f"exposures with the gain that is known immediately ({gain})"),
            Column("reliable", "bigint", "exposures with a predicted gain above tau"),
            Column("cost_nano", "bigint", "cost of the exposures without the gain, 1e-9 of the log's unit"),
            Column("cost_gained_nano", "bigint", "cost of the exposures with the gain, 1e-9 of the log's unit"),
            Column("explicit", "double", "the channel's share of the smoothed rates of the gain"),
            Column("implicit", "double", "the same share, for exposures with a predicted gain above tau"),
            Column("initial", "double", "the initial policy: explicit and implicit, mixed by alpha"),
            Column("tau", "double", "threshold of the predicted gain"),
            Column("alpha", "double", "weight of the implicit policy"),
            Column("model_version", "string", "registered model and version"),
        ),
        key=("channel",),
        expectations=(
            *(between(name, low=0, rationale="a probability is never negative") for name in _POLICIES),
            *(
                between(f"{name}_total", low=1 - 1e-6, high=1 + 1e-6, rationale="probabilities sum to 1")
                for name in _POLICIES
            ),
            holds("counts_nest", rationale="gained and reliable exposures are exposures, and costs are not negative"),
            holds("in_place", rationale="positions are 0..A-1: readers line channels up with the policies by them"),
        ),
        audit_duckdb_sql="SELECT *, "
        + ", ".join(f"sum({name}) OVER () AS {name}_total" for name in _POLICIES)
        + """, gained BETWEEN 0 AND exposures AND reliable BETWEEN 0 AND exposures AND cost_nano >= 0
               AND cost_gained_nano >= 0 AS counts_nest,
             position = row_number() OVER (ORDER BY position) - 1 AS in_place
            FROM partition""",
    )
