"""One row per ad exposure."""

from schemas.contract import Column, Known, Table
from schemas.dataset import Dataset
from schemas.expectations import between, holds, mean_between, not_null, one_of, unique
from schemas.tables import EXPOSURES


def matches(dataset: Dataset) -> tuple[tuple[str, ...], ...]:
    """The different matches of the outcomes, in the order of the contract."""
    return tuple(dict.fromkeys(outcome.match for outcome in dataset.outcomes))


def match_columns(dataset: Dataset) -> tuple[Column, ...]:
    """A column for each match: by it an outcome finds its exposure, also once the exposure's file has been removed."""
    return tuple(
        Column(f"_match_{number}", "bigint", f"hash of {', '.join(match)}", Known.NEVER, nullable=True)
        for number, match in enumerate(matches(dataset))
    )


def exposures(dataset: Dataset) -> Table:
    gains, quality = dataset.gain_names, dataset.quality
    late_gains = [dataset.column(g) for g in dataset.late_gains]
    no_head = "a channel outside the contract has no head in the model"
    known_channels = [one_of("channel", dataset.channels, rationale=no_head)] if dataset.channels else []
    return Table(
        name=EXPOSURES,
        doc=__doc__,
        columns=(
            dataset.user_id.column,
            Column("exposure_id", "bigint", "hash of the raw key: the same row has the same id in every run"),
            Column("exposed_at_ms", "bigint", "when, ms since 1970 UTC; (exposed_at_ms, exposure_id) is the order"),
            Column("channel", "string", "channel shown; null if unknown", Known.AFTER, nullable=True),
            Column("cost", "double", "what it cost, in the log's unit; 0 if the log has no costs", Known.AFTER),
            Column(
                "propensity",
                "double",
                "probability with which the logging policy chose the channel",
                Known.NEVER,
                nullable=True,
            ),
            *(d.column for d in dataset.columns),
            *match_columns(dataset),
        ),
        key=("exposure_id",),
        expectations=(
            unique("exposure_id", rationale="an exposure counted twice distorts every rate"),
            between("cost", low=0, rationale="a negative cost would pay for itself in the penalised reward"),
            *(one_of(gain, (0, 1), rationale="rewards are binary") for gain in gains),
            *(
                holds(f"{gain.name}_has_time", rationale="without its time a late gain would be known too early")
                for gain in late_gains
            ),
            *known_channels,
            not_null(
                "channel",
                min_share=1 - quality.unknown_channels.value,
                rationale=quality.unknown_channels.rationale,
                severity=quality.unknown_channels.severity,
            ),
            between("propensity", low=0, high=1, above_low=True, rationale="off-policy estimates divide by it"),
            mean_between(
                gains[0],
                quality.min_gain_rate,
                quality.max_gain_rate.value,
                rationale=quality.max_gain_rate.rationale,
                severity=quality.max_gain_rate.severity,
            ),
            *(
                holds(rule.name, min_share=rule.min_share, rationale=rule.rationale, severity=rule.severity)
                for rule in quality.rows
            ),
        ),
        audit_duckdb_sql="SELECT *"
        # Quoted: a log may call a gain `order`.
        + "".join(f', ("{c.name}" = 0 OR "{c.known_at}" >= exposed_at_ms) AS "{c.name}_has_time"' for c in late_gains)
        + "".join(f', ({rule.duckdb_sql}) AS "{rule.name}"' for rule in quality.rows)
        + " FROM partition",
    )
