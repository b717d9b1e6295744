"""Raw log to policies and ranks through every entry point, on generated logs with all their quirks."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lakehouse.lake import Lake
from lakehouse.manifest import content_fingerprint
from schemas.dataset import get_dataset
from schemas.days import UNDATED

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.spark, pytest.mark.slow]


def run(module: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SPARK_LOCAL_IP": "127.0.0.1"}
    result = subprocess.run([sys.executable, "-m", module, *arguments], env=environment, text=True, cwd=ROOT,
                            capture_output=True, timeout=600, check=False)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


# A fifth of the users or so: exposures where the log has no costs, else its own unit.
BUDGET = {"kuairand": "30", "criteo": "0.006"}


@pytest.fixture(scope="module", params=["kuairand", "criteo"])
def finished(request, tmp_path_factory) -> tuple[str, Path, Lake]:
    """Dataset, raw folder and lake of a run over three days."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    raw, lake = folder / "raw", Lake(folder / "lake")
    run("jobs.generate_log", "--layout", name, "--out", str(raw), "--users", "150", "--days", "3", "--seed", "1")
    log = next(p for pattern in get_dataset(name).log.patterns for p in sorted(raw.glob(pattern)))
    if name == "kuairand":
        log.write_text(log.read_text() + "1,2,3\n")
    flags = ("--dataset", name, "--lake", str(lake.root))
    run("jobs.build_exposures", *flags, "--raw", str(raw))
    days = lake.days("exposures", name)
    span = ("--from", days[0], "--to", days[-1])
    run("jobs.build_journeys", *flags, "--day", days[-1])
    run("jobs.build_feature_spec", *flags, *span)
    run("jobs.build_sequences", *flags, *span)
    run("mtorl_model.train", *flags, *span, "--max-epochs", "3", "--members", "1")
    run("mtorl_model.score", *flags, "--day", days[-1])
    run("mtorl_model.plan_budget", *flags, "--day", days[-1], "--budget", BUDGET[name])
    return name, raw, lake


def table(lake: Lake, name: str, dataset: str, day: str) -> pd.DataFrame:
    return pd.read_parquet(lake[name, dataset, day].path)


def test_no_row_is_lost(finished):
    name, raw, lake = finished
    logs = {p for pattern in get_dataset(name).log.patterns for p in raw.glob(pattern)}
    rows_in = sum(len(pd.read_csv(p, sep=None, engine="python", header=None)) - 1 if name == "criteo"
                  else len(p.read_text().splitlines()) - 1 for p in logs)  # fmt: skip
    kept = duplicates = 0
    for day in lake.days("exposures", name):
        manifest = lake["exposures", name, day].manifest
        assert manifest.rows == len(table(lake, "exposures", name, day))
        assert manifest.fingerprint == content_fingerprint(lake["exposures", name, day].path)
        kept, duplicates = kept + manifest.rows, duplicates + manifest.counts["duplicates"]
    refused = sum(len(table(lake, "quarantine", name, day)) for day in [*lake.days("quarantine", name), UNDATED])
    assert rows_in == kept + duplicates + refused
    assert duplicates > 0
    assert refused == (1 if name == "kuairand" else 0)


def test_every_user_has_one_policy_and_one_rank(finished):
    name, _, lake = finished
    days = lake.days("exposures", name)
    users = set().union(*(table(lake, "exposures", name, day).user_id for day in days))
    policies = table(lake, "channel_policies", name, days[-1])
    ranks = table(lake, "user_reward_ranks", name, days[-1])
    for rows in (policies, ranks):
        assert rows.user_id.is_unique
        assert set(rows.user_id) == users
    assert sorted(ranks["rank"]) == list(range(1, len(users) + 1))
    totals = policies.policy.map(lambda policy: sum(p for _, p in policy))
    assert (totals - 1).abs().max() < 1e-9
    assert ranks.sort_values("rank").predicted_reward.is_monotonic_decreasing


def test_the_budget_is_planned_within_itself_and_audited(finished):
    name, _, lake = finished
    day = lake.days("exposures", name)[-1]
    run("jobs.audit_table", "--dataset", name, "--lake", str(lake.root), "--table", "channel_allocation")
    run("jobs.audit_table", "--dataset", name, "--lake", str(lake.root), "--table", "budget_plan")
    plan = table(lake, "budget_plan", name, day)
    bought = plan[plan.selected]
    assert set(plan.user_id) == set(table(lake, "channel_policies", name, day).user_id)
    assert 0 < len(bought) < len(plan)
    assert 0.9 * float(BUDGET[name]) < bought.expected_cost_nano.sum() / 1e9 <= float(BUDGET[name])
    assert bought.expected_reward.sum() > 0.9 * plan.reward_bound[0]
    assert bought.expected_reward.mean() > plan.expected_reward.mean()


def test_the_training_loss_of_each_head_falls(finished):
    import mlflow

    name, _, lake = finished
    client = mlflow.MlflowClient(lake.mlflow_uri)
    version = client.get_model_version_by_alias(f"mtorl_{name}", "champion")
    heads = ["train_policy", *(f"train_{gain}" for gain in get_dataset(name).gain_names)]
    for head in heads:
        curve = [m.value for m in sorted(client.get_metric_history(version.run_id, head), key=lambda m: m.step)]
        assert len(curve) == 3
        assert curve[-1] < curve[0], head


def test_one_day_on_its_own_gives_the_bytes_of_the_range(finished):
    name, raw, lake = finished
    last = lake.days("exposures", name)[-1]
    before = content_fingerprint(lake["exposures", name, last].path)
    flags = ("--dataset", name, "--lake", str(lake.root), "--raw", str(raw))
    run("jobs.build_exposures", *flags, "--from", last, "--to", last)
    assert content_fingerprint(lake["exposures", name, last].path) == before
