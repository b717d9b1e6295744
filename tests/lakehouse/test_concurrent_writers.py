"""Processes that publish the same and different days of one table at the same time, on a disk and on an S3 server."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier

import pytest
from deltalake import DeltaTable
from text_lake import publish_text

from lakehouse.lake import Lake
from lakehouse.storage.delta_table import table_version
from schemas.days import days_between

pytestmark = pytest.mark.lake

DAYS = days_between("2022-05-01", "2022-05-06")
SPAWN = multiprocessing.get_context("spawn")


def publish_day(location: str, text: str, day: str) -> None:
    publish_text(Lake.at(location), text, day=day)


def publish_in_turn(location: str, text: str, turn: Sequence[str], barrier: Barrier) -> None:
    """Publish these days, each at the moment at which the other processes publish one."""
    lake = Lake.at(location)
    for day in turn:
        barrier.wait(timeout=60)
        publish_text(lake, text, text + text, day=day)


@pytest.fixture(params=["disk", pytest.param("bucket", marks=pytest.mark.bucket)])
def location(request, tmp_path) -> str:
    return request.getfixturevalue("bucket") if request.param == "bucket" else str(tmp_path)


@pytest.mark.parametrize("day", DAYS[1:3])
def test_of_two_commits_from_one_version_the_second_looks_at_the_table_again(location, monkeypatch, day):
    lake = Lake.at(location)
    publish_text(lake, "first", day=DAYS[0])
    commit = DeltaTable.create_write_transaction

    def after_another_process(table: DeltaTable, *arguments: object, **options: object) -> None:
        if "/exposures" in table.table_uri:
            monkeypatch.setattr(DeltaTable, "create_write_transaction", commit)
            writer = SPAWN.Process(target=publish_day, args=(location, "other", DAYS[1]))
            writer.start()
            writer.join()
            assert writer.exitcode == 0
        commit(table, *arguments, **options)

    monkeypatch.setattr(DeltaTable, "create_write_transaction", after_another_process)
    publish_text(lake, "mine", day=day)
    expected = {DAYS[0]: "first", DAYS[1]: "other"} | {day: "mine"}
    assert lake.days("exposures", "shop") == list(expected)
    for published, text in expected.items():
        partition = lake["exposures", "shop", published]
        assert partition.read(["text"]).column("text").to_pylist() == [text] * 100
        assert partition.manifest.inputs == {"text": text}
    assert table_version(lake.table("exposures", "shop")) == 2


def test_no_day_is_lost_and_no_row_is_there_twice(location):
    turns = {"a": DAYS, "b": DAYS, "c": DAYS[::-1]}
    barrier = SPAWN.Barrier(len(turns))
    writers = [
        SPAWN.Process(target=publish_in_turn, args=(location, text, turn, barrier)) for text, turn in turns.items()
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    lake = Lake.at(location)
    assert lake.days("exposures", "shop") == DAYS
    for day in DAYS:
        partition = lake["exposures", "shop", day]
        text, _ = texts = partition.read(["text"]).column("text").unique().to_pylist()
        assert texts in (["a", "aa"], ["b", "bb"], ["c", "cc"])
        assert partition.read().num_rows == partition.manifest.rows == 200
        assert partition.manifest.inputs == {"text": f"{text} {text}{text}"}
    assert table_version(lake.table("exposures", "shop")) >= len(DAYS) - 1
