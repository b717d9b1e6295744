"""The query of docs/operations.md, as it stands there, on a lake of two days."""

import re
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtorl_model.registry import Version, write_lineage
from schemas.dataset import get_dataset
from schemas.freshness import fingerprints, history_inputs, scored_inputs
from schemas.paths import Lake
from schemas.publishing import publish, read_manifest, staging_folder

DOCS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
DAYS = ["2022-04-27", "2022-04-28"]


def put(lake: Lake, table: str, day: str, rows: dict, inputs: dict[str, str], spec: str | None = None) -> str:
    with staging_folder(lake) as staging:
        (staging / "part").mkdir()
        pq.write_table(pa.table(rows), staging / "part" / "x.parquet")
        made = publish(
            lake, table, "kuairand", day, staging / "part", rows=1, inputs=inputs, code="c", spec_version=spec
        )
    return made.fingerprint


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    for day in DAYS:
        put(lake, "exposures", day, {"user_id": [17], "day": [day]}, {"raw/log.csv": f"rows of {day}"})
        put(lake, "journeys", day, {"user_id": [17], "as_of": [day]}, history_inputs(lake, "kuairand", day))
        policy = {"user_id": [17], "channel": ["short"], "model_version": ["mtorl_kuairand/3"]}
        inputs = {**scored_inputs(lake, "kuairand", day), "model": "mtorl_kuairand/3"}
        put(lake, "channel_policies", day, policy, inputs, "spec1")
    put(lake, "sequences", DAYS[0], {"user_id": [17]}, history_inputs(lake, "kuairand", DAYS[0]), "spec1")
    version = Version("mtorl_kuairand/3", 3, "run3", DAYS[0], "identity", parent="mtorl_kuairand/1")
    write_lineage(lake, get_dataset("kuairand"), version, "spec1", fingerprints(lake, "sequences", "kuairand", DAYS))
    return lake


def test_one_query_leads_from_a_policy_to_model_spec_and_every_input(lake):
    (query,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    rows = duckdb.sql(query.replace("lake = 'lake'", f"lake = '{lake.root}'")).fetchall()
    found = {(depth, partition, spec, name): value for _, _, _, depth, partition, spec, name, value in rows}
    assert {row[:3] for row in rows} == {(17, "short", "mtorl_kuairand/3")}

    def path(table: str, day: str) -> str:
        return f"{table}/dataset=kuairand/ds={day}"

    def fingerprint(table: str, day: str) -> str:
        return read_manifest(lake.root / path(table, day)).fingerprint

    trained_on = path("sequences", DAYS[0])
    policies, journeys = path("channel_policies", DAYS[1]), path("journeys", DAYS[1])
    assert found == {
        (0, policies, "spec1", "model"): "mtorl_kuairand/3",
        (0, policies, "spec1", journeys): fingerprint("journeys", DAYS[1]),
        **{(1, journeys, None, path("exposures", day)): fingerprint("exposures", day) for day in DAYS},
        **{(2, path("exposures", day), None, "raw/log.csv"): f"rows of {day}" for day in DAYS},
        # The model, and what it was trained on.
        (1, "mtorl_kuairand/3", "spec1", "parent"): "mtorl_kuairand/1",
        (1, "mtorl_kuairand/3", "spec1", trained_on): fingerprint("sequences", DAYS[0]),
        (2, trained_on, "spec1", path("exposures", DAYS[0])): fingerprint("exposures", DAYS[0]),
        (3, path("exposures", DAYS[0]), None, "raw/log.csv"): f"rows of {DAYS[0]}",
    }
