"""One ad exposure a row."""

from schemas.contract import Column, Expectation, Known, Table
from schemas.dataset import Dataset
from schemas.tables import EXPOSURES


def exposures(dataset: Dataset) -> Table:
    gains, quality = dataset.gain_names, dataset.quality
    late = [dataset.column(g) for g in dataset.late_gains]
    return Table(
        name=EXPOSURES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("exposure_id", "bigint", "hash of the raw key: the same row has the same id in every run"),
            Column("exposed_at_ms", "bigint", "when, ms since 1970 UTC; (exposed_at_ms, exposure_id) is the order"),
            Column("channel", "string", "channel shown; null where unknown", Known.AFTER, nullable=True),
            Column("cost", "double", "what it cost, in the log's unit; 0 where the log has none", Known.AFTER),
            Column("propensity", "double", "probability with which the logging policy chose the channel",
                   Known.NEVER, nullable=True),
            *(d.column for d in dataset.columns),
        ),
        key=("exposure_id",),
        expectations=(
            Expectation("expect_column_values_to_be_unique", {"column": "exposure_id"},
                        "an exposure counted twice distorts every rate"),
            Expectation("expect_column_values_to_be_between", {"column": "cost", "min_value": 0},
                        "a negative cost would pay for itself in the penalised reward"),
            *(Expectation("expect_column_values_to_be_in_set", {"column": g, "value_set": [0, 1]},
                          "rewards are binary") for g in gains),
            *(Expectation("expect_column_values_to_be_in_set", {"column": f"{c.name}_has_time", "value_set": [True]},
                          "without its time a late gain would be known too early") for c in late),
            *((Expectation("expect_column_values_to_be_in_set",
                           {"column": "channel", "value_set": list(dataset.channels)},
                           "a channel outside the contract has no head in the model"),) if dataset.channels else ()),
            Expectation("expect_column_values_to_not_be_null",
                        {"column": "channel", "mostly": 1 - quality.unknown_channels.value},
                        quality.unknown_channels.why, quality.unknown_channels.severity),
            Expectation("expect_column_values_to_be_between",
                        {"column": "propensity", "min_value": 0, "max_value": 1, "strict_min": True},
                        "off-policy estimates divide by it"),
            Expectation("expect_column_mean_to_be_between",
                        {"column": gains[0], "min_value": quality.rare_gains,
                         "max_value": quality.frequent_gains.value},
                        quality.frequent_gains.why, quality.frequent_gains.severity),
            *(Expectation("expect_column_values_to_be_in_set",
                          {"column": r.name, "value_set": [True], **({"mostly": r.share} if r.share < 1 else {})},
                          r.why, r.severity) for r in quality.rows),
        ),
        audit_sql="SELECT *"
        # Quoted: a log may call a gain `order`.
        + "".join(f', ("{c.name}" = 0 OR "{c.known_at}" >= exposed_at_ms) AS "{c.name}_has_time"' for c in late)
        + "".join(f', ({r.sql}) AS "{r.name}"' for r in quality.rows)
        + " FROM partition",
    )  # fmt: skip
