"""A small lake of two scored days, written straight into its tables, whose figures can be counted by hand."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import duckdb

from jobs.drift import results as drift_results
from jobs.drift.results import Drift, DriftFigure
from jobs.quality import audit_results
from jobs.quality.audit_results import FAILED, HOLDS, Audit, Outcome
from jobs.reports.data_docs import publish_pages
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.staging import staging_folder
from schemas.dataset import get_dataset
from schemas.days import UNDATED

DATASET = "criteo"
CONTRACT = get_dataset(DATASET)
FIRST, DAY = "2017-01-02", "2017-01-03"
MODEL = "mtorl_criteo/2"


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One database for all tables: to start one takes longer than to write a table."""
    return duckdb.connect(config={"enable_external_file_cache": False})


def put(
    lake: Lake,
    table: str,
    ds: str,
    select: str,
    *,
    counts: Mapping[str, int] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish what a DuckDB SELECT gives as the partition."""
    with staging_folder(lake) as staged, _database().cursor() as db:
        file = staged / "part-00000.parquet"
        db.execute(f"COPY ({select}) TO '{file}' (FORMAT parquet)")
        rows = db.execute(f"SELECT count(*) FROM '{file}'").fetchall()[0][0]
        return lake[table, DATASET, ds].publish(staged, rows=rows, inputs=inputs or {}, code="0" * 12, counts=counts)


def passed(lake: Lake, table: str, ds: str, *outcomes: Outcome) -> Audit:
    """Store an audit of the partition as it lies there: a rule that holds, and the outcomes given."""
    manifest = lake[table, DATASET, ds].manifest
    holds = Outcome("expect_a(x)", "partition", "A holds.", "it matters", "critical", HOLDS)
    audit = Audit(table, DATASET, ds, manifest.rows, manifest.fingerprint, (), (holds, *outcomes))
    audit_results.store_audit(lake, audit)
    return audit


def failure(severity: str, text: str = "12 users stand twice") -> Outcome:
    return Outcome(
        f"expect_b({text})", "rows", f"{text}.", "every rate is distorted", severity, FAILED, "", 12, (text,)
    )


def drifted(value: float, name: str = "psi(device)", severity: str = "warning", text: str = "moved") -> DriftFigure:
    return DriftFigure(name, "features", "day before", value, 0.2, "fixed", severity, f"{text}.", f"why {text}.")


def exposures(lake: Lake, ds: str, kept: int, duplicates: int, refused: int) -> None:
    """Channel a has two exposures of three, and every fourth exposure is clicked."""
    put(
        lake, "exposures", ds,
        f"""SELECT i AS user_id, CASE WHEN i % 3 < 2 THEN 'a' ELSE 'b' END AS channel, CAST(i % 4 = 0 AS int) AS click,
                   0 AS conversion FROM range({kept}) t(i)""",
        counts={"rows_in": kept + duplicates + refused, "duplicates": duplicates, "quarantined": refused},
    )  # fmt: skip


def refused(lake: Lake, ds: str, groups: Mapping[tuple[str, str], int], raw: str = "row") -> None:
    """Refused rows by (reason, source file)."""
    rows = [f"(?, ?, ?, {n})" for n in groups.values()]
    with _database().cursor() as db:
        values = [v for (reason, file) in groups for v in (reason, file, raw)]
        db.execute("CREATE TEMP TABLE g (reason text, source_file text, raw text, n int)")
        if rows:
            db.execute(f"INSERT INTO g VALUES {', '.join(rows)}", values)
        file = lake.root / ".refused.parquet"
        lake.root.mkdir(parents=True, exist_ok=True)
        db.execute(f"COPY (SELECT source_file, raw, reason FROM g, range(n)) TO '{file}' (FORMAT parquet)")
    put(lake, "quarantine", ds, f"SELECT * FROM '{file}'")
    file.unlink()


def scored(lake: Lake, ds: str, users: int = 100, channels: tuple[str, str] = ("a", "b"), shift: float = 0.0) -> None:
    """Every second user is advised channel b; mean probabilities are .5 - shift and .5 + shift; rewards fall evenly."""
    one, two = (c.replace("'", "''") for c in channels)
    inputs = {"model": MODEL}
    high, low = round(0.7 + shift, 3), round(0.3 + shift, 3)
    put(
        lake, "channel_policies", ds,
        f"""SELECT i AS user_id, CASE WHEN i % 2 = 0 THEN '{one}' ELSE '{two}' END AS channel,
                   CASE WHEN i % 2 = 0 THEN MAP {{'{one}': {round(1 - low, 3)}e0, '{two}': {low}e0}}
                        ELSE MAP {{'{one}': {round(1 - high, 3)}e0, '{two}': {high}e0}} END AS policy,
                   CASE WHEN i < 3 THEN 'initial' ELSE 'model' END AS source FROM range({users}) t(i)""",
        inputs=inputs,
    )  # fmt: skip
    put(
        lake, "user_reward_ranks", ds,
        f"""SELECT i AS user_id, 1 - (i + 1) / {users * 2} AS predicted_reward, .25e0 AS predicted_click,
                   .125e0 AS predicted_conversion, i + 1 AS rank FROM range({users}) t(i)""",
        inputs=inputs,
    )  # fmt: skip
    put(lake, "channel_allocation", ds, f"SELECT '{one}' AS channel", inputs=inputs)


def planned(lake: Lake, ds: str, users: int = 100, budget: int = 50, channel: str = "a") -> None:
    """Every fourth user is bought, each for 1."""
    name = channel.replace("'", "''")
    put(
        lake, "budget_plan", ds,
        f"""SELECT i AS user_id, '{name}' AS channel, .5e0 AS expected_reward, 1000000000 AS expected_cost_nano,
                   i % 4 = 0 AS selected, 13.5e0 AS reward_bound FROM range({users}) t(i)""",
        inputs={"budget_nano": str(budget * 10**9)},
        counts={"selected": users // 4, "spend_nano": users // 4 * 10**9},
    )  # fmt: skip


def judged(lake: Lake, ds: str, logloss: float = 0.5) -> None:
    put(
        lake, "prequential", ds,
        f"""SELECT * FROM (VALUES
              ('channel', '{MODEL}', 200, 0.6e0, 0.65e0, NULL, NULL, NULL),
              ('click', '{MODEL}', 200, {logloss}e0, 0.55e0, 0.7125e0, 0.25e0, 0.24e0),
              ('conversion', '{MODEL}', 150, 0.2e0, 0.21e0, 0.61e0, 0.04e0, 0.05e0))
            t(head, model_version, labels, logloss, base_logloss, auc, rate, predicted_rate)""",
    )  # fmt: skip


def complete_lake(root: Path) -> Lake:
    """Two scored days with all there is, and all of it well; the second one has refused rows."""
    lake = Lake(root)
    for ds, kept in ((FIRST, 90), (DAY, 120)):
        exposures(lake, ds, kept, 3, 7 if ds == DAY else 0)
        refused(lake, ds, {("no user", "log.tsv"): 4, ("no user", "late.tsv"): 1, ("cost below 0", "log.tsv"): 2}
                if ds == DAY else {})  # fmt: skip
        # 1, 2, 3, ... exposures
        users = 100 if ds == DAY else 90
        put(
            lake, "journeys", ds,
            f"SELECT i AS user_id, {{'seen_exposures': 1 + i}} AS next_step FROM range({users}) t(i)",
        )  # fmt: skip
        scored(lake, ds, shift=0.1 if ds == DAY else 0.0)
        planned(lake, ds)
        judged(lake, ds, 0.5 if ds == DAY else 0.52)
        put(
            lake, "promotions", ds,
            f"""SELECT * FROM (VALUES ('click', false, 'click is worse', .5e0, .51e0, .01e0, .005e0),
                                      ('policy_audit', true, '', NULL, NULL, NULL, NULL))
                t("check", passed, reason, champion_logloss, challenger_logloss, difference, margin),
                (SELECT 'mtorl_criteo/3' AS challenger, '{MODEL}' AS champion, 'refused' AS decision)""",
        )  # fmt: skip
        audits = [passed(lake, table.parent.parent.name, ds) for table in lake.root.glob(f"*/*/ds={ds}")]
        publish_pages(lake, CONTRACT, audits)
        drift_results.store_drift(lake, Drift(DATASET, ds, (FIRST,), (drifted(0.05 if ds == FIRST else 0.1),), {}))
    refused(lake, UNDATED, {("no time", "log.tsv"): 5})
    return lake
