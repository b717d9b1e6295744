"""A made-up long history: its metadata grow with its days, and `make status` finds every partition fresh."""

import sys

import pytest

from benchmarks.inputs.many_days import DATASET, publish_made_up_days
from benchmarks.sections.long_history import maintain_as_if_old, metadata_bytes
from jobs import status
from lakehouse.lake import Lake
from lakehouse.lineage import LINEAGE
from schemas.days import days_between


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """Three days, one by one."""
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for day in days_between("2022-01-30", "2022-02-01"):
        publish_made_up_days(lake, [day])
    return lake


def test_every_partition_is_fresh(lake, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["status", "--dataset", DATASET, "--lake", str(lake.root)])
    status.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["2022-01-30", "to", "2022-02-01"]
    assert set(lines[1].split()[3:]) == {"fresh"}
    assert lines[3] == "all fresh: nothing to do"


def test_metadata_grow_with_the_days_and_not_with_the_runs(lake):
    """After maintenance, three days that were published one by one take what three days of one run take."""
    maintain_as_if_old(lake)
    manifests = [file for file in lake.table(LINEAGE, DATASET).rglob("*.parquet") if "_delta_log" not in file.parts]
    assert len(manifests) == 2  # one for each month
    per_table = {log.parent.name: len(list(log.glob("0*"))) for log in lake.root.glob(f"{DATASET}/*/_delta_log")}
    assert set(per_table.values()) == {2}  # a checkpoint, and the entry of its version
    base = metadata_bytes(lake)
    publish_made_up_days(lake, days_between("2022-02-02", "2022-02-28"))
    maintain_as_if_old(lake)
    thirty_days = metadata_bytes(lake)
    publish_made_up_days(lake, days_between("2022-03-01", "2022-04-26"))
    maintain_as_if_old(lake)
    ninety_days = metadata_bytes(lake)
    assert base < thirty_days
    assert ninety_days - thirty_days < 2.4 * (thirty_days - base)  # 57 days after 27 days
    assert lake.days("exposures", DATASET) == days_between("2022-01-30", "2022-04-26")
