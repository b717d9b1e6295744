"""A small lake of two scored days whose figures can be counted by hand. Its tables are written without the jobs."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import duckdb
from lakes import partitions

from jobs.drift.results import Drift, DriftFigure, store_drift
from jobs.quality.audit_results import FAILED, HOLDS, Audit, Outcome, store_audit
from jobs.reports.data_docs import publish_pages
from lakehouse.duckdb_view import files_sql
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.scratch import work_folder
from schemas.dataset import get_dataset
from schemas.days import UNDATED
from schemas.tables.candidates.task_predictions import score_names

DATASET = "criteo"
CONTRACT = get_dataset(DATASET)
FIRST, DAY = "2017-01-02", "2017-01-03"
MODEL = "mtorl_criteo/2"
SECOND_MODEL = "rmtl_criteo/7"


def complete_lake(root: Path) -> Lake:
    """Two good days with everything that a page shows. The second day has rows in quarantine."""
    lake = Lake(root)
    _publish_day(lake, FIRST, exposures=90, users=90, quarantined={}, logloss=0.52, shift=0.0, drift=0.05)
    quarantined = {("no user", "log.tsv"): 4, ("no user", "late.tsv"): 1, ("cost below 0", "log.tsv"): 2}
    _publish_day(lake, DAY, exposures=120, users=100, quarantined=quarantined, logloss=0.5, shift=0.1, drift=0.1)
    publish_quarantine(lake, UNDATED, {("no time", "log.tsv"): 5})
    return lake


def _publish_day(
    lake: Lake,
    day: str,
    *,
    exposures: int,
    users: int,
    quarantined: Mapping[tuple[str, str], int],
    logloss: float,
    shift: float,
    drift: float,
) -> None:
    publish_exposures(lake, day, exposures, 3, sum(quarantined.values()))
    publish_quarantine(lake, day, quarantined)
    journeys = f"SELECT i AS user_id, {{'seen_exposures': 1 + i}} AS next_step FROM range({users}) t(i)"
    publish(lake, "journeys", day, journeys)  # 1, 2, 3, ... exposures
    publish_scores(lake, day, shift=shift)
    publish_plan(lake, day)
    publish_prequential(lake, day, logloss)
    publish(
        lake, "promotions", day,
        f"""SELECT * FROM (VALUES ('click', false, 'click is worse', .5e0, .51e0, .01e0, .005e0),
                                  ('policy_audit', true, '', NULL, NULL, NULL, NULL))
            t("check", passed, reason, champion_logloss, challenger_logloss, difference, margin),
            (SELECT 'mtorl_criteo/3' AS challenger, '{MODEL}' AS champion, 'refused' AS decision)""",
    )  # fmt: skip
    audits = [store_result(lake, partition.table, day) for partition in partitions(lake) if partition.day == day]
    publish_pages(lake, CONTRACT, audits)
    store_figures(lake, day, drift_figure(drift))


def publish(
    lake: Lake,
    table: str,
    day: str,
    select: str,
    *,
    counts: Mapping[str, int] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish the rows of a DuckDB SELECT as the partition."""
    with work_folder() as staged, _database().cursor() as db:
        file = staged / "part-0.parquet"
        db.execute(f"COPY ({select}) TO '{file}' (FORMAT parquet)")
        part = lake[table, CONTRACT, day]
        return part.publish(staged, inputs=inputs or {}, code="0" * 12, counts=counts)


def store_result(lake: Lake, table: str, day: str, *outcomes: Outcome) -> Audit:
    """Store an audit of the current partition: one rule that holds, and the given outcomes."""
    manifest = lake[table, CONTRACT, day].manifest
    good_outcome = Outcome("expect_a(x)", "partition", "A holds.", "it matters", "critical", HOLDS)
    audit = Audit(table, DATASET, day, manifest.rows, manifest.fingerprint, (), (good_outcome, *outcomes))
    store_audit(lake, audit)
    return audit


def failure(severity: str, text: str = "12 users are doubled") -> Outcome:
    return Outcome(
        f"expect_b({text})", "rows", f"{text}.", "every rate is distorted", severity, FAILED, "", 12, (text,)
    )


def store_figures(lake: Lake, day: str, *figures: DriftFigure, inputs: Mapping[str, str] | None = None) -> None:
    """Store the drift of a day whose training period is the first day."""
    store_drift(lake, Drift(DATASET, day, (FIRST,), figures, dict(inputs or {})))


def drift_figure(
    value: float, name: str = "psi(device)", severity: str = "warning", text: str = "moved"
) -> DriftFigure:
    return DriftFigure(name, "features", "day before", value, 0.2, "fixed", severity, f"{text}.", f"why {text}.")


def publish_exposures(lake: Lake, day: str, exposures: int, duplicates: int, quarantined: int) -> None:
    """Two of three exposures are in channel a, and every fourth exposure is clicked."""
    publish(
        lake, "exposures", day,
        f"""SELECT i AS user_id, CASE WHEN i % 3 < 2 THEN 'a' ELSE 'b' END AS channel, CAST(i % 4 = 0 AS int) AS click,
                   0 AS conversion FROM range({exposures}) t(i)""",
        counts={"rows_in": exposures + duplicates + quarantined, "duplicates": duplicates, "quarantined": quarantined},
    )  # fmt: skip


def publish_quarantine(lake: Lake, day: str, groups: Mapping[tuple[str, str], int], raw: str = "row") -> None:
    """groups: the number of rows by reason and source file."""
    rows = [f"(?, ?, ?, {n})" for n in groups.values()]
    with _database().cursor() as db:
        values = [v for (reason, file) in groups for v in (reason, file, raw.encode())]
        db.execute("CREATE TEMP TABLE g (reason text, source_file text, raw blob, n int)")
        if rows:
            db.execute(f"INSERT INTO g VALUES {', '.join(rows)}", values)
        file = lake.root / ".quarantine.parquet"
        lake.root.mkdir(parents=True, exist_ok=True)
        db.execute(f"COPY (SELECT source_file, raw, reason FROM g, range(n)) TO '{file}' (FORMAT parquet)")
    publish(lake, "quarantine", day, f"SELECT * FROM '{file}'")
    file.unlink()


def publish_scores(
    lake: Lake, day: str, users: int = 100, channels: tuple[str, str] = ("a", "b"), shift: float = 0.0
) -> None:
    """Channel b is the best for every second user; the mean probabilities are .5 - shift and .5 + shift.

    The rewards fall evenly from the first rank to the last.
    """
    a, b = (c.replace("'", "''") for c in channels)
    inputs = {"model": MODEL}
    high, low = round(0.7 + shift, 3), round(0.3 + shift, 3)
    publish(
        lake, "channel_policies", day,
        f"""SELECT i AS user_id, CASE WHEN i % 2 = 0 THEN '{a}' ELSE '{b}' END AS channel,
                   CASE WHEN i % 2 = 0 THEN MAP {{'{a}': {round(1 - low, 3)}e0, '{b}': {low}e0}}
                        ELSE MAP {{'{a}': {round(1 - high, 3)}e0, '{b}': {high}e0}} END AS policy,
                   CASE WHEN i < 3 THEN 'initial' ELSE 'model' END AS source, 'imitation' AS basis,
                   i % 20 = 7 AS explored, 1e0 AS propensity FROM range({users}) t(i)""",
        inputs=inputs,
    )  # fmt: skip
    publish(
        lake, "user_reward_ranks", day,
        f"""SELECT i AS user_id, 1 - (i + 1) / {users * 2} AS predicted_reward, .25e0 AS predicted_click,
                   .125e0 AS predicted_conversion, i + 1 AS rank FROM range({users}) t(i)""",
        inputs=inputs,
    )  # fmt: skip
    publish(lake, "channel_allocation", day, f"SELECT '{a}' AS channel", inputs=inputs)


def publish_plan(lake: Lake, day: str, users: int = 100, budget: int = 50, channel: str = "a") -> None:
    """Every fourth user is bought, each for 1."""
    name = channel.replace("'", "''")
    publish(
        lake, "budget_plan", day,
        f"""SELECT i AS user_id, '{name}' AS channel, .5e0 AS expected_reward, 1000000000 AS expected_cost_nano,
                   i % 4 = 0 AS selected, 13.5e0 AS reward_bound FROM range({users}) t(i)""",
        inputs={"budget_nano": str(budget * 10**9)},
        counts={"selected": users // 4, "spend_nano": users // 4 * 10**9},
    )  # fmt: skip


def publish_prequential(lake: Lake, day: str, logloss: float = 0.5) -> None:
    """logloss: of the predicted clicks."""
    publish(
        lake, "prequential", day,
        f"""SELECT * FROM (VALUES
              ('channel', '{MODEL}', 200, 0.6e0, 0.65e0, NULL, NULL, NULL),
              ('click', '{MODEL}', 200, {logloss}e0, 0.55e0, 0.7125e0, 0.25e0, 0.24e0),
              ('conversion', '{MODEL}', 150, 0.2e0, 0.21e0, 0.61e0, 0.04e0, 0.05e0))
            t(head, model_version, labels, logloss, base_logloss, auc, rate, predicted_rate)""",
    )  # fmt: skip


def publish_second_method(lake: Lake, day: str) -> None:
    """A champion of a second method: its test, its challenger and its predictions, 1 / rank for every task."""
    for table, rows in (
        ("prequential", f"""SELECT * FROM (VALUES
            ('click', '{SECOND_MODEL}', 220, 0.4e0, 0.56e0, 0.8e0, 0.25e0, 0.26e0),
            ('click_conversion', '{SECOND_MODEL}', 220, 0.1e0, 0.12e0, 0.7e0, 0.03e0, 0.04e0))
            t(head, model_version, labels, logloss, base_logloss, auc, rate, predicted_rate)"""),
        ("promotions", f"""SELECT 'click' AS "check", true AS passed, '' AS reason, .4e0 AS champion_logloss,
            .39e0 AS challenger_logloss, -.01e0 AS difference, .004e0 AS margin, 'rmtl_criteo/8' AS challenger,
            '{SECOND_MODEL}' AS champion, 'promoted' AS decision"""),
    ):  # fmt: skip
        present = lake[table, DATASET, day].files()[0]
        publish(lake, table, day, f"SELECT * FROM {files_sql([present])} UNION ALL BY NAME {rows}")
    names = score_names(CONTRACT)
    columns = ", ".join(f"1e0 / (1 + i) AS predicted_{name}, i + 1 AS rank_{name}" for name in names)
    select = f"SELECT i AS user_id, {columns} FROM range(50) t(i)"
    publish(lake, "task_predictions", day, select, inputs={"model": SECOND_MODEL})
    for table in ("prequential", "promotions", "task_predictions"):
        store_result(lake, table, day)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One database for all tables: starting one takes longer than writing a table."""
    return duckdb.connect(config={"enable_external_file_cache": False})
