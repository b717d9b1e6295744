"""The query in docs/operations.md, unchanged, on a lake of two days."""

import re
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.lake import Lake
from lakehouse.manifest import read_manifest
from lakehouse.staging import staging_folder
from mtorl_model.champion.registry import Registry, Version
from schemas.dataset import get_dataset
from schemas.tables import CHANNEL_POLICIES, JOURNEYS

DOCS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
DAYS = ["2022-04-27", "2022-04-28"]


def publish_table(lake: Lake, table: str, day: str, rows: dict, inputs: dict[str, str], spec: str | None = None) -> str:
    with staging_folder(lake) as staging:
        (staging / "part").mkdir()
        pq.write_table(pa.table(rows), staging / "part" / "x.parquet")
        manifest = lake[table, "kuairand", day].publish(
            staging / "part", rows=1, inputs=inputs, code="c", spec_version=spec
        )
    return manifest.fingerprint


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    for day in DAYS:
        publish_table(lake, "exposures", day, {"user_id": [17], "day": [day]}, {"raw/log.csv": f"rows of {day}"})
        publish_table(
            lake, "journeys", day, {"user_id": [17], "as_of": [day]}, lake[JOURNEYS, "kuairand", day].current_inputs()
        )
        policy = {"user_id": [17], "channel": ["short"], "model_version": ["mtorl_kuairand/3"]}
        inputs = {**lake[CHANNEL_POLICIES, "kuairand", day].current_inputs(), "model": "mtorl_kuairand/3"}
        publish_table(lake, "channel_policies", day, policy, inputs, "spec1")
    for day in DAYS:
        publish_table(
            lake,
            "sequences",
            day,
            {"user_id": [17], "day": [day]},
            lake[JOURNEYS, "kuairand", day].current_inputs(),
            "spec1",
        )
    for number, day, parent in ((1, DAYS[0], ""), (3, DAYS[1], "mtorl_kuairand/1")):
        version = Version(f"mtorl_kuairand/{number}", number, f"run{number}", day, "identity", parent=parent)
        trained_on = lake.fingerprints("sequences", "kuairand", [day])
        Registry(lake, get_dataset("kuairand")).write_lineage(version, "spec1", trained_on)
    return lake


def query_rows(lake: Lake) -> set[tuple]:
    """The rows of the query without their first columns, which describe the policy."""
    (query,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
    rows = duckdb.sql(query.replace("lake = 'lake'", f"lake = '{lake.root}'")).fetchall()
    assert {row[:3] for row in rows} == {(17, "short", "mtorl_kuairand/3")}
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)
    return {row[3:] for row in rows}


def path(table: str, day: str) -> str:
    return f"{table}/dataset=kuairand/ds={day}"


def test_one_query_leads_from_a_policy_to_model_spec_and_every_input(lake):
    def fingerprint(table: str, day: str) -> str:
        return read_manifest(lake.root / path(table, day)).fingerprint

    policies, journeys = path("channel_policies", DAYS[1]), path("journeys", DAYS[1])
    assert query_rows(lake) == {
        (0, policies, "spec1", "model", "mtorl_kuairand/3", True),
        (0, policies, "spec1", journeys, fingerprint("journeys", DAYS[1]), True),
        *((1, journeys, None, path("exposures", day), fingerprint("exposures", day), True) for day in DAYS),
        *((2, path("exposures", day), None, "raw/log.csv", f"rows of {day}", True) for day in DAYS),
        # The model, its training data, and its parent model.
        (1, "mtorl_kuairand/3", "spec1", "parent", "mtorl_kuairand/1", True),
        *((k + 1, f"mtorl_kuairand/{version}", "spec1", path("sequences", day), fingerprint("sequences", day), True)
          for k, (version, day) in enumerate([(3, DAYS[1]), (1, DAYS[0])])),
        *((2, path("sequences", DAYS[1]), "spec1", path("exposures", day), fingerprint("exposures", day), True)
          for day in DAYS),
        (3, path("sequences", DAYS[0]), "spec1", path("exposures", DAYS[0]), fingerprint("exposures", DAYS[0]), True),
    }  # fmt: skip


def test_what_was_published_anew_since_it_was_read_is_marked_with_all_that_stands_behind_it(lake):
    def not_as_read() -> set[tuple[str, str]]:
        return {(partition, name) for _, partition, _, name, _, as_read in query_rows(lake) if not as_read}

    earlier_rows = query_rows(lake)
    # The sequences that the parent was trained on, from corrected rows of that day.
    publish_table(lake, "exposures", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, {"raw/log.csv": "corrected rows"})
    history = lake[JOURNEYS, "kuairand", DAYS[0]].current_inputs()
    publish_table(lake, "sequences", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, history, "spec1")
    rebuilt = {
        ("mtorl_kuairand/1", path("sequences", DAYS[0])),
        (path("sequences", DAYS[0]), path("exposures", DAYS[0])),
    }
    unread = {(path(table, DAYS[1]), path("exposures", DAYS[0])) for table in ("journeys", "sequences")}
    assert not_as_read() == rebuilt | unread | {(path("exposures", DAYS[0]), "raw/log.csv")}
    # The inputs of the model remain as they were recorded.
    recorded = {row[1:5] for row in earlier_rows if row[1] in ("mtorl_kuairand/1", "mtorl_kuairand/3")}
    assert recorded <= {row[1:5] for row in query_rows(lake)}
    shutil.rmtree(lake.root / path("sequences", DAYS[0]))
    assert not_as_read() == {*unread, ("mtorl_kuairand/1", path("sequences", DAYS[0])),
                             (path("exposures", DAYS[0]), "raw/log.csv")}  # fmt: skip
