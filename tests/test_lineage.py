"""The query of docs/operations.md, copied from there, on a lake of two days."""

import re
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.staging import staging_folder
from mtorl_model.champion.registry import Registry
from schemas.dataset import get_dataset
from schemas.tables import CHANNEL_POLICIES, JOURNEYS

DOCS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
KUAIRAND = get_dataset("kuairand")
DAYS = ["2022-04-27", "2022-04-28"]


def publish(lake: Lake, table: str, day: str, rows: dict, inputs: dict[str, str], spec: str | None = None) -> None:
    with staging_folder(lake) as staging:
        (staging / "part").mkdir()
        pq.write_table(pa.table(rows), staging / "part" / "x.parquet")
        lake[table, KUAIRAND, day].publish(staging / "part", rows=1, inputs=inputs, code="c", spec_version=spec)


def history(lake: Lake, day: str) -> dict[str, str]:
    """The inputs of every table that is built from the exposures up to the day."""
    return lake[JOURNEYS, KUAIRAND, day].current_inputs()


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    for day in DAYS:
        publish(lake, "exposures", day, {"user_id": [17], "day": [day]}, {"raw/log.csv": f"rows of {day}"})
        publish(lake, "journeys", day, {"user_id": [17], "as_of": [day]}, history(lake, day))
        policy = {"user_id": [17], "channel": ["short"], "model_version": ["mtorl_kuairand/3"]}
        inputs = {**lake[CHANNEL_POLICIES, KUAIRAND, day].current_inputs(), "model": "mtorl_kuairand/3"}
        publish(lake, "channel_policies", day, policy, inputs, "spec1")
    for day in DAYS:
        publish(lake, "sequences", day, {"user_id": [17], "day": [day]}, history(lake, day), "spec1")
    for number, day, parent in ((1, DAYS[0], ""), (3, DAYS[1], "mtorl_kuairand/1")):
        version = Version(f"mtorl_kuairand/{number}", number, f"run{number}", day, "identity", parent=parent)
        trained_on = lake.fingerprints("sequences", KUAIRAND, [day])
        Registry(lake, KUAIRAND).write_lineage(version, "spec1", trained_on)
    return lake


def lineage(lake: Lake) -> set[tuple]:
    """The rows of the query without their first columns, which describe the policy."""
    (query,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    rows = duckdb.sql(query.replace("lake = 'lake'", f"lake = '{lake.root}'")).fetchall()
    assert {row[:3] for row in rows} == {(17, "short", "mtorl_kuairand/3")}
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)
    return {row[3:] for row in rows}


def test_one_query_leads_from_a_policy_to_its_model_spec_and_inputs(lake):
    def key(table: str, day: str) -> str:
        return lake[table, KUAIRAND, day].key

    def fingerprint(table: str, day: str) -> str:
        return lake[table, KUAIRAND, day].manifest.fingerprint

    policies, journeys = key("channel_policies", DAYS[1]), key("journeys", DAYS[1])
    assert lineage(lake) == {
        (0, policies, "spec1", "model", "mtorl_kuairand/3", True),
        (0, policies, "spec1", journeys, fingerprint("journeys", DAYS[1]), True),
        *((1, journeys, None, key("exposures", day), fingerprint("exposures", day), True) for day in DAYS),
        *((2, key("exposures", day), None, "raw/log.csv", f"rows of {day}", True) for day in DAYS),
        # The model, the model that it was fine-tuned from, and their training data.
        (1, "mtorl_kuairand/3", "spec1", "parent", "mtorl_kuairand/1", True),
        *((k + 1, f"mtorl_kuairand/{version}", "spec1", key("sequences", day), fingerprint("sequences", day), True)
          for k, (version, day) in enumerate([(3, DAYS[1]), (1, DAYS[0])])),
        *((2, key("sequences", DAYS[1]), "spec1", key("exposures", day), fingerprint("exposures", day), True)
          for day in DAYS),
        (3, key("sequences", DAYS[0]), "spec1", key("exposures", DAYS[0]), fingerprint("exposures", DAYS[0]), True),
    }  # fmt: skip


def test_inputs_that_were_published_again_since_they_were_read_are_marked(lake):
    def changed_inputs() -> set[tuple[str, str]]:
        return {(partition, name) for _, partition, _, name, _, is_unchanged in lineage(lake) if not is_unchanged}

    exposures = lake["exposures", KUAIRAND, DAYS[0]].key
    sequences = lake["sequences", KUAIRAND, DAYS[0]]
    models = ("mtorl_kuairand/1", "mtorl_kuairand/3")
    model_rows = {row[1:5] for row in lineage(lake) if row[1] in models}
    # The exposures and sequences that the first model was trained on are built again from corrected rows.
    publish(lake, "exposures", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, {"raw/log.csv": "corrected rows"})
    publish(lake, "sequences", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, history(lake, DAYS[0]), "spec1")
    rebuilt = {("mtorl_kuairand/1", sequences.key), (sequences.key, exposures)}
    not_rebuilt = {(lake[table, KUAIRAND, DAYS[1]].key, exposures) for table in ("journeys", "sequences")}
    assert changed_inputs() == rebuilt | not_rebuilt | {(exposures, "raw/log.csv")}
    # The rows about the models still name what they were trained on.
    assert model_rows <= {row[1:5] for row in lineage(lake)}
    shutil.rmtree(sequences.path)
    assert changed_inputs() == {*not_rebuilt, ("mtorl_kuairand/1", sequences.key), (exposures, "raw/log.csv")}
