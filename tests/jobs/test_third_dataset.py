"""A log of your own needs a contract and no code."""

import json
import sys
from contextlib import nullcontext

import pandas as pd
import pytest
from bucket_lake import BucketLake
from fates import EXPOSURE, FATE, with_fate
from raw_logs import header
from shop import SHOP, sent_to

import schemas.dataset
from jobs import audit_table, build_exposures, build_feature_spec, build_journeys, build_sequences
from jobs.raw.files import find_raw_files
from jobs.raw.row_work import DS
from jobs.raw.rows import read_rows
from lakehouse.lake import Lake
from lakehouse.storage.data_files import read_file
from mtorl_model import evaluate, plan_budget, score, train
from schemas.tables.exposures import exposures as exposures_table

ROWS = [
    "ann;2024-03-30T23:30:00Z;Mail;0.1;1;2024-03-31T10:00:00Z;41",
    "ann;2024-03-31T09:00:00Z;SMS;0.5;0;;41",
    "ann;2024-03-31T12:00:00Z;mail;0.1;0;;41",
    "bob;2024-03-31T08:00:00Z;push;0.0;1;;",
    "bob;yesterday;push;0.0;1;;",
    "bob;2024-03-31T08:00:00Z;push;free;1;;",
]


@pytest.fixture(scope="module")
def shop_rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "sent-2024.txt").write_text("\n".join([header(SHOP.log), *ROWS]) + "\n")
    return with_fate(read_rows(SHOP, find_raw_files(SHOP, folder)), SHOP)


def test_an_invented_log_becomes_exposures(shop_rows):
    assert sorted(row["_reason"] for row in shop_rows if row[FATE] != EXPOSURE) == [
        "price is not a number: free",
        "sent is no time",
    ]
    exposures = sorted(
        (row.user_id, row.exposed_at_ms, row.channel, row.order, row[DS]) for row in shop_rows if row[FATE] == EXPOSURE
    )
    assert [(user, channel, order, day) for user, _, channel, order, day in exposures] == [
        ("ann", "mail", 1, "2024-03-31"),  # half past midnight in Berlin
        ("ann", "sms", 0, "2024-03-31"),
        ("ann", "mail", 0, "2024-03-31"),
        ("bob", "push", 0, "2024-03-31"),
    ]


def test_its_exposures_become_journeys_and_windows(shop_rows, tmp_path):
    day = "2024-03-31"
    names = [*exposures_table(SHOP).column_names, DS]
    exposures = pd.DataFrame([{n: row[n] for n in names} for row in shop_rows if row[FATE] == EXPOSURE])
    lake = BucketLake(tmp_path, SHOP, exposures)
    rows = read_file(lake.lake.table("journeys", SHOP), lake.build_journeys(day)).to_pylist()
    journeys = {row["user_id"]: row for row in rows}
    assert set(journeys) == {"ann", "bob"}
    assert journeys["ann"]["next_step"]["seen_order"] == 1
    assert journeys["ann"]["age"] == 41

    stored = lake.build([day], window_steps=4)
    (window,) = lake.read(stored, "sequences").to_pylist()
    places = {name: window[name] for name in ("padding", "first_step", "first_label", "last_step")}
    assert window["user_id"] == "ann"
    assert places == {"padding": 1, "first_step": 0, "first_label": 1, "last_step": 2}
    # The order was at ten, between the second newsletter and the third.
    steps = lake.read(stored, "steps").to_pylist()
    assert [(step["journey_position"], step["seen_order"]) for step in steps] == [(0, 0), (1, 0), (2, 1), (0, 0)]
    (mail,) = [counts for counts in steps[2]["seen_by_channel"] if counts["order"]]
    assert (mail["channel"], mail["order"]) == ("mail", 1)


@pytest.mark.slow
def test_a_log_becomes_policies_ranks_and_a_budget_plan(spark, tmp_path, monkeypatch):
    lake, customers, days = Lake(tmp_path / "lake"), 150, ["2024-03-30", "2024-03-31", "2024-04-01"]
    (tmp_path / "sent-2024.txt").write_text("\n".join([header(SHOP.log), *sent_to(customers), "c0;never;sms;0;0;;"]))
    monkeypatch.setattr(schemas.dataset, "_registry", lambda: {"shop": SHOP})
    for job in (build_exposures, build_journeys, build_sequences):
        monkeypatch.setattr(job, "spark_context", lambda *_, **__: nullcontext(spark))

    def run(entry_point, *arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["shop", "--dataset", "shop", "--lake", str(lake.root), *arguments])
        entry_point.main()  # an audit with a critical finding exits

    def audit(*tables: str) -> None:
        for table in tables:
            run(audit_table, "--table", table)

    span = ("--from", days[0], "--to", days[-1])
    run(build_exposures, "--raw", str(tmp_path))
    assert lake.days("exposures", "shop") == days
    audit("exposures", "quarantine")
    run(build_journeys, "--day", days[-1])
    run(build_sequences, *span)
    run(build_feature_spec, *span)
    audit("journeys", "feature_spec", "sequences")
    run(train, *span, "--max-epochs", "2", "--members", "1", "--set", "trees=false", "--device", "cpu")
    run(evaluate, "--split", "test", "--out", str(tmp_path / "metrics.json"))
    assert set(json.loads((tmp_path / "metrics.json").read_text())["reward"]) == set(SHOP.gain_names)
    run(score, "--day", days[-1])
    run(plan_budget, "--day", days[-1], "--budget", "5")
    audit("channel_policies", "user_reward_ranks", "channel_allocation", "budget_plan")
    assert lake["budget_plan", "shop", days[-1]].read().to_pandas().selected.any()

    policies, ranks = (
        lake[table, "shop", days[-1]].read().to_pandas() for table in ("channel_policies", "user_reward_ranks")
    )
    assert set(policies.user_id) == set(ranks.user_id) == {f"c{k}" for k in range(customers)}
    assert set(policies.source) == {"model", "initial"}
    assert {channel for channel, _ in policies.policy[0]} == {"mail", "push", "sms"}
    assert ranks.predicted_order.between(0, 1).all()
