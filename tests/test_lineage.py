"""The query of docs/operations.md, copied from there, on a lake of two days."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lakes import unpublish

from lakehouse.lake import Lake
from lakehouse.models.versions import Version
from lakehouse.storage.scratch import work_folder
from mtorl_model.champion.registry import Registry
from schemas.dataset import get_dataset
from schemas.tables import CHANNEL_POLICIES, JOURNEYS

DOCS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
KUAIRAND = get_dataset("kuairand")
DAYS = ["2022-04-27", "2022-04-28"]


def publish(lake: Lake, table: str, day: str, rows: dict, inputs: dict[str, str], spec: str | None = None) -> None:
    with work_folder() as work:
        pq.write_table(pa.table(rows), work / "part-0.parquet")
        lake[table, KUAIRAND, day].publish(work, inputs=inputs, code="c", spec_version=spec)


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
    (query,) = re.findall(r"```python\n(import duckdb.*?)```", DOCS.read_text(), re.DOTALL)
    assert 'LAKE, DATASET, DAY, USER = "lake", "kuairand", "2022-04-28", "17"' in query
    names: dict[str, Any] = {}
    exec(query.replace('"lake",', f"{str(lake.root)!r},"), names)
    rows = names["answer"]
    assert {row[:3] for row in rows} == {(17, "short", "mtorl_kuairand/3")}
    assert [row[3] for row in rows] == sorted(row[3] for row in rows)
    return {row[3:] for row in rows}


def key(lake: Lake, table: str, day: str) -> str:
    return lake[table, KUAIRAND, day].key


def fingerprint(lake: Lake, table: str, day: str) -> str:
    return lake[table, KUAIRAND, day].manifest.fingerprint


def test_one_query_leads_from_a_policy_to_its_model_spec_and_inputs(lake):
    policies, journeys = key(lake, "channel_policies", DAYS[1]), key(lake, "journeys", DAYS[1])
    (first, first_chain), (second, second_chain) = (next(iter(history(lake, day).items())) for day in DAYS)
    assert (first, second) == ("kuairand/exposures/ds<=2022-04-27", "kuairand/exposures/ds<=2022-04-28")
    exposures = [key(lake, "exposures", day) for day in DAYS]
    exposed = [fingerprint(lake, "exposures", day) for day in DAYS]
    sequences = [key(lake, "sequences", day) for day in DAYS]
    trained_on = [fingerprint(lake, "sequences", day) for day in DAYS]
    assert lineage(lake) == {
        (0, policies, "spec1", "model", "mtorl_kuairand/3", True),
        (0, policies, "spec1", journeys, fingerprint(lake, "journeys", DAYS[1]), True),
        (1, journeys, None, second, second_chain, True),
        # The days up to the second are the days up to the first, and the second.
        (2, second, None, first, first_chain, True),
        (2, second, None, exposures[1], exposed[1], True),
        (3, first, None, exposures[0], exposed[0], True),
        (3, exposures[1], None, "raw/log.csv", f"rows of {DAYS[1]}", True),
        (4, exposures[0], None, "raw/log.csv", f"rows of {DAYS[0]}", True),
        # The model, the model that it was fine-tuned from, and their training data.
        (1, "mtorl_kuairand/3", "spec1", "parent", "mtorl_kuairand/1", True),
        (1, "mtorl_kuairand/3", "spec1", sequences[1], trained_on[1], True),
        (2, "mtorl_kuairand/1", "spec1", sequences[0], trained_on[0], True),
        (2, sequences[1], "spec1", second, second_chain, True),
        (3, sequences[0], "spec1", first, first_chain, True),
    }


def test_inputs_that_were_published_again_since_they_were_read_are_marked(lake):
    def changed_inputs() -> set[tuple[str, str]]:
        return {(partition, name) for _, partition, _, name, _, is_unchanged in lineage(lake) if not is_unchanged}

    first, second = (next(iter(history(lake, day))) for day in DAYS)
    exposures = [key(lake, "exposures", day) for day in DAYS]
    sequences = [key(lake, "sequences", day) for day in DAYS]
    models = ("mtorl_kuairand/1", "mtorl_kuairand/3")
    model_rows = {row[1:5] for row in lineage(lake) if row[1] in models}
    # The exposures and sequences that the first model was trained on are built again from corrected rows.
    publish(lake, "exposures", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, {"raw/log.csv": "corrected rows"})
    publish(lake, "sequences", DAYS[0], {"user_id": [18], "day": [DAYS[0]]}, history(lake, DAYS[0]), "spec1")
    # The second day's journeys and sequences were built from other exposures up to that day: nothing below is as read.
    not_rebuilt = {(key(lake, table, DAYS[1]), second) for table in ("journeys", "sequences")} | {
        (second, first), (second, exposures[1]), (first, exposures[0]), *((day, "raw/log.csv") for day in exposures)
    }  # fmt: skip
    rebuilt = {("mtorl_kuairand/1", sequences[0]), (sequences[0], first)}
    assert changed_inputs() == not_rebuilt | rebuilt
    # The rows about the models still name what they were trained on.
    assert model_rows <= {row[1:5] for row in lineage(lake)}
    unpublish(lake["sequences", KUAIRAND, DAYS[0]])
    assert changed_inputs() == not_rebuilt | {("mtorl_kuairand/1", sequences[0])}
