"""Lakes that the jobs build from generated logs, and a way to plant faults in their partitions."""

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from audit_samples import arrow_schema
from in_process import Jobs
from pyspark import SparkContext

from jobs import generate_log
from lakehouse.duckdb_view import rows_sql
from lakehouse.journeys import read_journeys
from lakehouse.lake import Lake
from lakehouse.storage.scratch import work_folder
from schemas.contract import Table
from schemas.dataset import Dataset, get_dataset
from schemas.tables.channel_policies import channel_policies
from schemas.tables.prequential import prequential
from schemas.tables.user_reward_ranks import user_reward_ranks


def generate(patch, folder: Path, layout: str, *, users: int, days: int, seed: int = 3) -> Path:
    """A generated log with about four rows per user and day."""
    patch.setattr(sys, "argv", ["generate_log", "--layout", layout, "--out", str(folder), "--users", str(users),
                                "--rows", str(4 * users * days), "--days", str(days), "--seed", str(seed)])  # fmt: skip
    generate_log.main()
    return folder


class BuiltLake(NamedTuple):
    """day: the last day of the lake."""

    lake: Lake
    day: str


def built_lake(spark: SparkContext, patch, folder: Path, layout: str) -> BuiltLake:
    """The lake in this folder that was built from a generated log of this layout; built if it does not exist.

    It has exposures, quarantine, steps, item history and sequences of four days, the feature spec of the last day, and
    for the last two days also journeys and scores.
    """
    finished = folder / f"built_{layout}"
    if not finished.exists():
        unfinished = folder / f"unfinished_{layout}"
        shutil.rmtree(unfinished, ignore_errors=True)
        raw = generate(patch, unfinished / "raw", layout, users=400, days=4, seed=5)
        _build(Jobs(spark, Lake(unfinished / "lake"), layout, patch), raw)
        unfinished.rename(finished)
    lake = Lake(finished / "lake")
    return BuiltLake(lake, lake.days("exposures", layout)[-1])


def _build(jobs: Jobs, raw: Path) -> None:
    jobs.ok("build_exposures", "--raw", str(raw))
    days = jobs.lake.days("exposures", jobs.dataset)
    for day in days[-2:]:
        jobs.ok("build_journeys", "--day", day)
    jobs.ok("build_sequences", "--from", days[0], "--to", days[-1])
    jobs.ok("build_feature_spec", "--from", days[0], "--to", days[-1])
    for day in days[-2:]:
        publish_scores(jobs.lake, get_dataset(jobs.dataset), day)


def publish_scores(lake: Lake, dataset: Dataset, day: str, seed: int = 0) -> None:
    """Publish policies, ranks and a prequential test near the outcomes of the day, as a good model would."""
    exposures = _parquet(lake, "exposures", dataset, day)
    channels = [c for (c,) in duckdb.sql(f"SELECT DISTINCT channel FROM {exposures} WHERE channel <> '' ORDER BY 1")
                .fetchall()]  # fmt: skip
    users = sorted(u for rows in read_journeys(lake, dataset, day, ["user_id"]) for u in rows["user_id"].to_pylist())
    origin = {"source": "model", "model_version": f"mtorl_{dataset.name}/1", "feature_spec": "0123456789ab", "day": day}
    policies = []
    for user in users:  # a user's policy stays from day to day
        policy = np.random.default_rng([seed, user]).dirichlet(np.full(len(channels), 2.0))
        policies.append({"user_id": user, "channel": channels[int(policy.argmax())],
                         "policy": list(zip(channels, map(float, policy), strict=True)), "basis": "imitation",
                         "explored": False, "propensity": 1.0, **origin})  # fmt: skip
    write(lake, channel_policies(dataset), dataset, day, policies)
    rates = {g: duckdb.sql(f"SELECT avg({g}) FROM {exposures}").fetchall()[0][0] for g in dataset.gain_names}
    rewards = np.linspace(0.3, 0.01, len(users))
    predicted = {f"predicted_{g}": rate for g, rate in rates.items()}
    ranks = [{"user_id": user, "predicted_reward": float(reward), "rank": k + 1, **predicted, **origin}
             for k, (user, reward) in enumerate(zip(users, rewards, strict=True))]  # fmt: skip
    write(lake, user_reward_ranks(dataset), dataset, day, ranks)
    judged = {"day": day, "model_version": origin["model_version"], "trained_through": "2000-01-01",
              "users": len(users), "labels": 5_000, "logloss": 0.4, "base_logloss": 0.5,
              "known_share": 1.0}  # fmt: skip
    heads = [{"head": "channel", **judged}, *({"head": g, "rate": rate, "predicted_rate": 1.1 * rate, **judged}
                                             for g, rate in rates.items())]  # fmt: skip
    write(lake, prequential(dataset), dataset, day, heads)


def write(lake: Lake, table: Table, dataset: Dataset, day: str, rows: list[dict]) -> None:
    with work_folder() as staged:
        pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(table)), staged / "part-0.parquet")
        lake[table.name, dataset, day].publish(staged, inputs={}, code="0")


def replant(lake: Lake, table: str, dataset: str, day: str, sql: str, **counts: int) -> None:
    """Publish the partition again with the rows of sql, which selects from `rows`. counts: changed in the manifest."""
    manifest = lake[table, dataset, day].manifest
    with work_folder() as staged, duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW rows AS FROM {_parquet(lake, table, get_dataset(dataset), day)}")
        connection.execute(
            f"CREATE TABLE planted AS FROM rows LIMIT 0; INSERT INTO planted BY NAME {sql}"
        )  # same types
        connection.execute(f"COPY planted TO '{staged}/part-0.parquet' (FORMAT parquet)")
        rows = pq.read_metadata(staged / "part-0.parquet").num_rows
        stated = {**manifest.counts, **counts}
        if "rows_in" in stated and "rows_in" not in counts:
            stated["rows_in"] = rows + stated["duplicates"] + stated["quarantined"]
        lake[table, dataset, day].publish(
            staged,
            inputs=manifest.inputs,
            code=manifest.code_version,
            spec_version=manifest.spec_version,
            counts=stated,
        )


def _parquet(lake: Lake, table: str, dataset: Dataset, day: str) -> str:
    return rows_sql([lake[table, dataset, day]])
