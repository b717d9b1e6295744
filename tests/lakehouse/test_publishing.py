"""A partition is published completely or not, even if the job is killed, and its manifest describes it."""

import json
import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.lake import Lake
from lakehouse.manifest import MANIFEST, content_fingerprint, read_manifest
from lakehouse.scratch import work_folder
from schemas.days import UNDATED, checked_day, days_between
from schemas.errors import UserError

DAY = "2022-05-01"


def publish_text(lake: Lake, *texts: str, table: str = "exposures", day: str = DAY) -> None:
    """Publish a partition with one file per text, which repeats the text many times."""
    with work_folder() as staging:
        staged = staging / DAY
        staged.mkdir()
        for k, text in enumerate(texts):
            (staged / f"part-{k}-{time.monotonic_ns()}.parquet").write_text(text * 1000)
        (staged / "_SUCCESS").touch()
        lake[table, "shop", day].publish(staged, inputs={}, code="c")


def partition(lake: Lake) -> Path:
    return lake["exposures", "shop", DAY].path


def test_a_published_partition_states_its_content(tmp_path):
    lake = Lake(tmp_path)
    publish_text(lake, "a", "b")
    manifest = read_manifest(partition(lake))
    assert manifest is not None
    assert manifest.rows == 2
    assert manifest.fingerprint == content_fingerprint(partition(lake))
    assert not (partition(lake) / "_SUCCESS").exists()
    assert list(lake.staging.iterdir()) == []


def test_a_partition_that_failed_its_audit_is_no_input_until_it_is_repaired(tmp_path):
    lake = Lake(tmp_path)
    publish_text(lake, "a")
    audit = lake.audits("shop") / "exposures" / f"{DAY}.json"
    audit.parent.mkdir(parents=True)
    for verdict, refused in (("pass", False), ("warn", False), ("fail", True)):
        audit.write_text(json.dumps({"fingerprint": read_manifest(partition(lake)).fingerprint, "verdict": verdict}))
        with pytest.raises(UserError, match="failed its audit") if refused else nullcontext():
            lake["exposures", "shop", DAY].require()
    publish_text(lake, "repaired")
    assert lake["exposures", "shop", DAY].require() == read_manifest(partition(lake))


@pytest.mark.parametrize("refused", [DAY, UNDATED])
def test_exposures_are_no_input_if_the_audit_of_their_refused_rows_failed(tmp_path, refused):
    lake = Lake(tmp_path)
    publish_text(lake, "a")
    publish_text(lake, "refused", table="quarantine", day=refused)
    lake["exposures", "shop", DAY].require()
    audit = lake.audits("shop") / "quarantine" / f"{refused}.json"
    audit.parent.mkdir(parents=True)
    fingerprint = lake["quarantine", "shop", refused].manifest.fingerprint
    audit.write_text(json.dumps({"fingerprint": fingerprint, "verdict": "fail"}))
    with pytest.raises(UserError, match=f"^quarantine for shop on {refused} failed its audit"):
        lake["exposures", "shop", DAY].require()


def test_the_fingerprint_does_not_depend_on_file_names(tmp_path):
    lake, second_lake = Lake(tmp_path / "1"), Lake(tmp_path / "2")
    publish_text(lake, "a", "b")
    publish_text(second_lake, "b", "a")
    assert content_fingerprint(partition(lake)) == content_fingerprint(partition(second_lake))
    publish_text(second_lake, "b", "c")
    assert content_fingerprint(partition(lake)) != content_fingerprint(partition(second_lake))


def test_a_parquet_footer_does_not_count_but_every_page_does(tmp_path):
    def fingerprint(name: str, pages: bytes, footer: bytes) -> str:
        (tmp_path / name).mkdir()
        tail = footer + len(footer).to_bytes(4, "little") + b"PAR1"
        (tmp_path / name / "x.parquet").write_bytes(b"PAR1" + pages + tail)
        return content_fingerprint(tmp_path / name)

    expected = fingerprint("1", b"pages", b"encodings: PLAIN, RLE")
    assert expected == fingerprint("2", b"pages", b"encodings: RLE, PLAIN")
    assert expected != fingerprint("3", b"pageS", b"encodings: PLAIN, RLE")


def test_a_failed_job_leaves_the_old_partition(tmp_path):
    lake = Lake(tmp_path)
    publish_text(lake, "old")
    old_fingerprint = content_fingerprint(partition(lake))

    def fail() -> None:
        with work_folder() as staging:
            (staging / "half").write_text("new")
            raise RuntimeError("the job died")

    with pytest.raises(RuntimeError, match="the job died"):
        fail()
    assert content_fingerprint(partition(lake)) == old_fingerprint
    assert list(lake.staging.iterdir()) == []


def _publish_repeatedly(root: str) -> None:
    k = 0
    while True:
        k += 1
        publish_text(Lake(Path(root)), *("xyz"[k % 3] for _ in range(1 + k % 3)))


def _check(folder: Path) -> tuple[bool, bool]:
    """Whether the partition agrees with its manifest, and whether it was still published after the check."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        names = os.listdir(handle)  # noqa: PTH208 - of an open folder
        try:
            with os.fdopen(os.open(MANIFEST, os.O_RDONLY, dir_fd=handle)) as file:
                complete = json.load(file)["rows"] == sum(name.endswith(".parquet") for name in names)
        except FileNotFoundError:
            complete = False
        return complete, os.fstat(handle).st_ino == folder.stat().st_ino
    finally:
        os.close(handle)


def test_a_reader_never_sees_an_incomplete_partition_while_writers_are_killed(tmp_path):
    lake = Lake(tmp_path)
    publish_text(lake, "x")
    spawn = multiprocessing.get_context("fork")
    reads = 0
    for _ in range(8):
        writer = spawn.Process(target=_publish_repeatedly, args=(str(tmp_path),))
        writer.start()
        end = time.monotonic() + 0.15
        while time.monotonic() < end:
            complete, current = _check(partition(lake))
            assert complete or not current  # a replaced version may be partly removed
            reads += complete
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        manifest = read_manifest(partition(lake))
        assert manifest is not None
        assert manifest.fingerprint == content_fingerprint(partition(lake))
    assert reads > 20
    publish_text(lake, "x")
    assert list(lake.staging.iterdir()) == []  # the folders of the killed writers are removed


def test_a_folder_that_cannot_be_removed_yet_is_removed_later(tmp_path, monkeypatch):
    """For example, a worker that outlives its driver may still write into the folder while it is removed."""
    lake = Lake(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        with work_folder():
            pass
    assert len([path for path in lake.staging.iterdir() if path.is_dir()]) == 1
    with work_folder():
        pass
    assert list(lake.staging.iterdir()) == []


def test_an_unwritable_lake_is_one_clear_line(tmp_path):
    (tmp_path / "lake").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to the lake .*choose another folder with LAKE="),
        staging_folder(Lake(tmp_path / "lake")),
    ):
        pass


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
