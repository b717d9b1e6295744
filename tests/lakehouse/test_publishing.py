"""Days of a table are published in one commit, also if jobs are killed or publish at the same time."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from hypothesis import given
from hypothesis import strategies as st

import lakehouse.lake
from lakehouse import lineage
from lakehouse.lake import Lake
from lakehouse.manifest import Manifest
from lakehouse.storage.data_files import has_its_content
from lakehouse.storage.delta_table import Replaced, commit, table_version
from lakehouse.storage.scratch import work_folder
from schemas.days import UNDATED, checked_day, days_between
from schemas.errors import UserError

pytestmark = pytest.mark.lake

DAY, NEXT = "2022-05-01", "2022-05-02"


def publish(
    lake: Lake, *parts: str, table: str = "exposures", day: str = DAY, inputs: dict[str, str] | None = None, **options
) -> Manifest:
    """Publish a partition with one file per text, of a hundred rows with the text."""
    with work_folder() as work:
        for k, text in enumerate(parts):
            pq.write_table(pa.table({"text": [text] * 100}), work / f"part-{k}.parquet")
        return lake[table, "shop", day].publish(work, inputs=inputs or {}, code="c", **options)


def texts(lake: Lake, day: str = DAY) -> list[str]:
    return lake["exposures", "shop", day].read(["text"]).column("text").unique().to_pylist()


def test_a_published_partition_states_its_content(tmp_path):
    lake = Lake(tmp_path)
    published = publish(lake, "a", "b", inputs={"x": "1"})
    partition = lake["exposures", "shop", DAY]
    assert partition.manifest == published
    assert (published.rows, published.inputs) == (200, {"x": "1"})
    assert texts(lake) == ["a", "b"]
    assert all(has_its_content(file) for file in partition.files())
    assert lake.days("exposures", "shop") == [DAY]


def test_other_readers_of_delta_tables_read_the_table(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "a", "b")
    publish(lake, "c", day=NEXT)
    table = DeltaTable(str(lake.table("exposures", "shop")))
    rows = table.to_pyarrow_dataset()  # noqa: F841 - DuckDB reads it by name
    counts = duckdb.sql("SELECT ds, text, count(*) FROM rows GROUP BY ALL ORDER BY ALL").fetchall()
    assert counts == [(DAY, "a", 100), (DAY, "b", 100), (NEXT, "c", 100)]
    assert table.to_pandas().ds.tolist().count(NEXT) == 100


def test_the_same_rows_again_commit_nothing(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "a", "b")
    versions = [table_version(lake.table(table, "shop")) for table in ("exposures", "lineage")]
    publish(lake, "a", "b")
    assert [table_version(lake.table(table, "shop")) for table in ("exposures", "lineage")] == versions
    publish(lake, "a", "b", inputs={"x": "2"})  # other inputs alone change the lineage alone
    assert table_version(lake.table("exposures", "shop")) == versions[0]
    assert lake["exposures", "shop", DAY].manifest.inputs == {"x": "2"}


def test_an_earlier_edition_that_comes_back_has_its_manifest(tmp_path):
    lake = Lake(tmp_path)
    first = publish(lake, "a", inputs={"x": "1"})
    publish(lake, "b", inputs={"x": "2"})
    assert publish(lake, "a", inputs={"x": "1"}) == first == lake["exposures", "shop", DAY].manifest
    assert texts(lake) == ["a"]


def _publish_until_the_second_commit(root: Path, text: str, inputs: dict[str, str]) -> None:
    """Be killed when the first of the two commits, of manifest and files, is done."""
    commits = []

    def killed(*arguments: object) -> None:
        commits.append(arguments)
        if len(commits) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        commit(*arguments)

    lineage.commit = lakehouse.lake.commit = killed
    publish(Lake(root), text, inputs=inputs)


@pytest.mark.parametrize("has_earlier_edition", [False, True])
def test_a_kill_between_the_two_commits_leaves_the_earlier_edition_until_the_next_run(tmp_path, has_earlier_edition):
    lake = Lake(tmp_path)
    earlier = publish(lake, "a", inputs={"x": "1"}) if has_earlier_edition else None
    killed = multiprocessing.get_context("spawn").Process(
        target=_publish_until_the_second_commit, args=(tmp_path, "b", {"x": "2"})
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    partition = lake["exposures", "shop", DAY]
    assert partition.manifest == earlier
    assert not partition.is_fresh({"x": "2"})
    if earlier:
        assert texts(lake) == ["a"]
        assert partition.is_fresh({"x": "1"})
    publish(lake, "b", inputs={"x": "2"})
    assert partition.is_fresh({"x": "2"})
    assert texts(lake) == ["b"]


def test_files_without_a_manifest_count_as_unpublished(tmp_path, monkeypatch):
    """For example, after a person has restored an earlier version of the table."""
    monkeypatch.setattr(lineage, "_KEPT", timedelta(seconds=-1))
    lake = Lake(tmp_path)
    for text in "abc":
        publish(lake, text)
    DeltaTable(str(lake.table("exposures", "shop"))).restore(0)
    assert not lake["exposures", "shop", DAY].is_published
    assert lake.days("exposures", "shop") == []
    publish(lake, "a")
    assert lake.days("exposures", "shop") == [DAY]


def test_a_lake_that_was_replaced_by_another_is_read_anew(tmp_path):
    """As by `rsync --delete`, which keeps the folders."""
    lake, backup = Lake(tmp_path / "lake"), Lake(tmp_path / "backup")
    publish(lake, "a")
    expected = publish(backup, "b", inputs={"x": "2"})
    assert texts(lake) == ["a"]
    for file in filter(Path.is_file, lake.root.rglob("*")):
        file.unlink()
    shutil.copytree(backup.root, lake.root, dirs_exist_ok=True)
    assert texts(lake) == ["b"]
    assert lake["exposures", "shop", DAY].manifest == expected
    shutil.rmtree(lake.root)
    assert not lake["exposures", "shop", DAY].is_published


def test_rows_that_were_made_from_replaced_rows_are_not_published(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "a")
    read = lake["exposures", "shop", DAY].data_files()
    publish(lake, "b")
    with pytest.raises(Replaced):
        publish(lake, "c", replaces=read)
    assert texts(lake) == ["b"]
    publish(lake, "c", replaces=lake["exposures", "shop", DAY].data_files())
    assert texts(lake) == ["c"]


def test_a_run_keeps_the_manifest_of_another_run_that_has_not_committed_its_files_yet(tmp_path, monkeypatch):
    lake = Lake(tmp_path)

    def other_run_first(*arguments: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("lakehouse.lake.commit", commit)
            publish(lake, "b", inputs={"x": "2"})
            commit(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("lakehouse.lake.commit", other_run_first)
        publish(lake, "a", inputs={"x": "1"})
    assert lake["exposures", "shop", DAY].manifest.inputs == {"x": "1"}
    assert texts(lake) == ["a"]


def test_manifests_of_editions_that_are_gone_are_removed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(lineage, "_KEPT", timedelta(seconds=-1))
    lake = Lake(tmp_path)
    for text in "abc":
        publish(lake, text)
    fingerprints = {edition[2] for edition in lineage.editions(lake.table("lineage", "shop"))}
    assert len(fingerprints) == 2  # of the last edition, and of the one before, which was present during the commit
    assert lake["exposures", "shop", DAY].manifest.fingerprint in fingerprints


def test_added_columns_are_merged_and_another_type_is_one_clear_line(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "a")
    folder = lake.table("exposures", "shop")

    def publish_table(table: pa.Table, day: str) -> None:
        with work_folder() as work:
            pq.write_table(table, work / "part-0.parquet")
            lake["exposures", "shop", day].publish(work, inputs={}, code="c")

    publish_table(pa.table({"text": ["b"], "weight": [0.5]}), NEXT)
    assert DeltaTable(str(folder)).to_pandas().weight.notna().sum() == 1
    with pytest.raises(
        UserError, match=r"the column weight cannot be stored .*double and would become string.*make run"
    ):
        publish_table(pa.table({"text": ["b"], "weight": ["heavy"]}), NEXT)
    publish(lake, "c", day="2022-05-03")  # files that lack a column of the table
    assert DeltaTable(str(folder)).to_pandas().weight.notna().sum() == 1
    for fields in ({"a": 1}, {"a": 2, "b": 3}, {"a": 4}):  # of a nested column
        publish_table(pa.table({"text": ["d"], "steps": [[fields]]}), f"2022-06-0{fields['a']}")
    steps = DeltaTable(str(folder)).to_pandas().sort_values("ds").steps.dropna()
    assert [list(user_steps) for user_steps in steps] == [
        [{"a": 1, "b": None}],
        [{"a": 2, "b": 3}],
        [{"a": 4, "b": None}],
    ]


def test_inputs_of_a_history_are_chained(tmp_path):
    lake = Lake(tmp_path)
    days = days_between("2022-05-01", "2022-05-04")
    for day in days:
        publish(lake, day, day=day)
    chained = lake.history_inputs("exposures", "shop", ["2022-04-30", *days])
    assert chained["2022-04-30"] == {}
    assert [list(inputs) for inputs in chained.values()][1:] == [[f"shop/exposures/ds<={day}"] for day in days]
    publish(lake, "corrected", day=days[1])
    rebuilt = lake.history_inputs("exposures", "shop", days)
    assert [rebuilt[day] == chained[day] for day in days] == [True, False, False, False]
    publish(lake, days[1], day=days[1])
    assert lake.history_inputs("exposures", "shop", days) == {day: chained[day] for day in days}


def test_a_partition_that_failed_its_audit_is_no_input_until_it_is_repaired(tmp_path):
    lake = Lake(tmp_path)
    published = publish(lake, "a")
    audit = lake.audits("shop") / "exposures" / f"{DAY}.json"
    audit.parent.mkdir(parents=True)
    for verdict, refused in (("pass", False), ("warn", False), ("fail", True)):
        audit.write_text(json.dumps({"fingerprint": published.fingerprint, "verdict": verdict}))
        with pytest.raises(UserError, match="failed its audit") if refused else nullcontext():
            lake["exposures", "shop", DAY].require()
    repaired = publish(lake, "repaired")
    assert lake["exposures", "shop", DAY].require() == repaired


@pytest.mark.parametrize("refused", [DAY, UNDATED])
def test_exposures_are_no_input_if_the_audit_of_their_refused_rows_failed(tmp_path, refused):
    lake = Lake(tmp_path)
    publish(lake, "a")
    fingerprint = publish(lake, "refused", table="quarantine", day=refused).fingerprint
    lake["exposures", "shop", DAY].require()
    audit = lake.audits("shop") / "quarantine" / f"{refused}.json"
    audit.parent.mkdir(parents=True)
    audit.write_text(json.dumps({"fingerprint": fingerprint, "verdict": "fail"}))
    with pytest.raises(UserError, match=f"^quarantine for shop on {refused} failed its audit"):
        lake["exposures", "shop", DAY].require()


def _publish_repeatedly(root: str) -> None:
    for k in range(1_000_000):
        publish(Lake(Path(root)), *("xyz"[k % 3] for _ in range(1 + k % 3)))


@pytest.mark.slow
def test_a_reader_never_sees_an_incomplete_partition_while_writers_are_killed(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "x")
    spawn = multiprocessing.get_context("spawn")
    reads = 0
    for _ in range(3):
        writer = spawn.Process(target=_publish_repeatedly, args=(str(tmp_path),))
        writer.start()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            manifest, present = lake["exposures", "shop", DAY].manifest, texts(lake)
            assert manifest is not None
            assert len(present) == 1
            reads += 1
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        partition = lake["exposures", "shop", DAY]
        assert partition.manifest.rows == partition.read().num_rows
        assert all(has_its_content(file) for file in partition.files())
    assert reads > 20
    publish(lake, "x")
    assert texts(lake) == ["x"]


def test_a_damaged_file_is_stored_again_by_the_same_rows(tmp_path):
    lake = Lake(tmp_path)
    publish(lake, "a")
    (file,) = lake["exposures", "shop", DAY].files()
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    assert not has_its_content(file)
    publish(lake, "a")
    assert has_its_content(file)


def test_a_lake_of_an_earlier_version_is_one_clear_line(tmp_path):
    (tmp_path / "exposures" / "dataset=shop" / f"ds={DAY}").mkdir(parents=True)
    with pytest.raises(UserError, match=r"made by an earlier version.*run the history again into another folder"):
        Lake(tmp_path)


def test_an_unwritable_lake_is_one_clear_line(tmp_path):
    (tmp_path / "lake").write_text("")
    with pytest.raises(UserError, match=r"cannot write to the lake .*choose another folder with LAKE="):
        Lake(tmp_path / "lake").require_writable()


@pytest.mark.slow
@given(st.text(max_size=12))
def test_only_a_well_formed_day_is_accepted(text):
    try:
        checked_day(text)
    except UserError:
        return
    assert len(text) == 10
    assert Path("x", f"ds={text}").parts == ("x", f"ds={text}")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A", "a" * 65, "x;y"])
def test_no_path_is_built_from_an_unchecked_name(name, tmp_path):
    with pytest.raises(UserError):
        _ = Lake(tmp_path)[name, "kuairand", DAY]
    with pytest.raises(UserError):
        _ = Lake(tmp_path)["exposures", name, DAY]


def test_days_between():
    assert days_between("2024-02-28", "2024-03-01") == ["2024-02-28", "2024-02-29", "2024-03-01"]
    with pytest.raises(UserError, match="the range of days is empty"):
        days_between("2024-03-01", "2024-02-28")


def test_a_store_that_fails_during_a_commit_is_an_error_of_the_system(tmp_path, monkeypatch):
    """In a bucket it becomes one line (store_errors). deltalake has another class for it than for other requests."""
    lake = Lake(tmp_path)
    publish(lake, "a")

    def fail(*_: object, **__: object) -> None:
        raise DeltaError("Generic DeltaTable error: Error interacting with object store: error sending request")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", fail)
    with pytest.raises(OSError, match="interacting with object store"):
        publish(lake, "b")
