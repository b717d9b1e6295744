"""Raw files are opened by their content, under any name, and one that may still be written is not accepted."""

import bz2
import gzip
import lzma
import os
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from raw_reading import rows_of

from jobs.raw.files import RawFiles, matching_files
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import plan_splits, read_file, read_split
from jobs.raw.reader.source_files import UnreadableFile
from jobs.raw.reader.typed_rows import SOURCE
from jobs.raw.repair_files import repair_name
from schemas.dataset import RawColumn, RawFile
from schemas.errors import NothingToDoYet, UserError

LAYOUT = RawFile("log", ("*",), (RawColumn("n"),))
BODY = b"".join(b"%d\n" % k for k in range(1000))
TEXT = b"n\n" + BODY


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


COMPRESSED = {
    "plain": TEXT,
    "gzip": gzip.compress(TEXT),
    "gzip of two members": gzip.compress(TEXT[:99]) + gzip.compress(TEXT[99:]),
    "gzip and padding": gzip.compress(TEXT) + b"\x00" * 512,
    "zstd of two frames": zstd(TEXT[:99]) + zstd(TEXT[99:]),
    "bz2": bz2.compress(TEXT),
    "bz2 of two streams": bz2.compress(TEXT[:99]) + bz2.compress(TEXT[99:]),
    "xz": lzma.compress(TEXT),
    "xz of two streams and padding": lzma.compress(TEXT[:99]) + b"\x00" * 4 + lzma.compress(TEXT[99:]) + b"\x00" * 8,
}


@pytest.mark.parametrize("data", COMPRESSED.values(), ids=COMPRESSED)
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.zst"])
def test_the_content_decides_the_compression(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    assert sorted(row[0] for row in rows_of(path, LAYOUT)) == list(range(1000))


ODD_NAMES = ["a b.csv", "100%.csv", "a%20b.csv", "#1.csv", "a:b.csv", "it's.csv", 'say "a".csv', "a\nb.csv",
             "\u00e9\u4e2d.csv", "[1].csv", "{a}*?.csv", "back\\slash.csv", "log (1).csv", "\x1b[31m.csv", " .csv",
             "-rf.csv"]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_is_read_and_rows_have_the_name_that_people_see(tmp_path, name):
    blob = tmp_path / "sha256-0123"
    blob.write_bytes(TEXT)
    for path in (tmp_path / name, tmp_path / f"link to {name}"):
        if path.name == name:
            path.write_bytes(TEXT)
        else:
            path.symlink_to(blob)
        source = open_raw_file(path, LAYOUT)
        (split,) = plan_splits(source)
        assert {row for table in read_split(split, LAYOUT) for row in table.column(SOURCE).to_pylist()} == {path.name}
        assert source.shown_name.isprintable()


@pytest.mark.parametrize("form", [form for form in COMPRESSED if form not in ("plain", "gzip and padding")])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_may_still_be_written_if_it_is_new(tmp_path, form, share):
    path = tmp_path / "log.csv"
    path.write_bytes(COMPRESSED[form][: int(len(COMPRESSED[form]) * share)])
    with pytest.raises(NothingToDoYet, match=r"log\.csv is cut off or damaged; it has changed 0 minutes ago"):
        rows_of(path, LAYOUT)
    week_ago = time.time() - 7 * 86400
    os.utime(path, (week_ago, week_ago))
    with pytest.raises(UserError, match=r"log\.csv is cut off or damaged: fetch it again"):
        rows_of(path, LAYOUT)


def test_a_damaged_file_is_not_accepted(tmp_path):
    data = bytearray(COMPRESSED["gzip"])
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "log.csv").write_bytes(bytes(data))
    with pytest.raises(NothingToDoYet, match="cut off or damaged"):
        rows_of(tmp_path / "log.csv", LAYOUT)


def test_files_of_one_name_in_several_folders_have_different_names(tmp_path):
    layout = replace(LAYOUT, patterns=("day=*/part-*.csv",))
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        (tmp_path / f"day={day}" / "part-0.csv").write_bytes(TEXT)
    names = ["day=1/part-0.csv", "day=2/part-0.csv"]
    paths = matching_files(tmp_path, layout)
    assert list(RawFiles(layout, tuple(paths)).by_name) == names
    sources = [table.column(SOURCE)[0].as_py() for p in paths for table in read_file(open_raw_file(p, layout), layout)]
    assert sources == names
    assert repair_name(names[0], "2024-05-01", layout) == "day=1/part-0_repaired_2024-05-01.csv"
    assert LAYOUT.name_of(paths[0]) == "part-0.csv"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_no_rows_are_lost_with_a_stream_that_begins_wrongly(tmp_path, compress):
    """Python's readers of bz2 and xz would end before such a stream."""
    path = tmp_path / "log.csv"
    path.write_bytes(compress(TEXT[:99]) + b"?" + compress(TEXT[99:]))
    with pytest.raises(NothingToDoYet, match="cut off or damaged"):
        rows_of(path, LAYOUT)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (gzip.compress(gzip.compress(TEXT)), "it is compressed twice, decompress it once"),
        (pa.compress(TEXT, "lz4", asbytes=True), "delimited text is expected, and it is another kind of file"),
        (gzip.compress(b"log.csv".ljust(257, b"\x00") + b"ustar  \x00" + TEXT), "it is another kind of file"),
        (b"Rar!\x1a\x07\x00", "it is another kind of file"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content, line):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(UnreadableFile, match=line):
        open_raw_file(tmp_path / "log.csv", LAYOUT)


@pytest.mark.parametrize("data", [TEXT, COMPRESSED["gzip"]], ids=["plain", "gzip"])
@pytest.mark.parametrize("change", ["appended", "replaced", "removed"])
def test_a_file_that_changes_during_the_read_is_not_accepted(tmp_path, data, change):
    path = tmp_path / "log.csv"
    path.write_bytes(data)
    (split,) = plan_splits(open_raw_file(path, LAYOUT))

    def read_while_it_changes() -> None:
        for k, _ in enumerate(read_split(split, LAYOUT, block_size=500)):
            if k == 0:
                changed(path, change)

    with pytest.raises(NothingToDoYet, match=r"log\.csv (is still being written|has been removed)"):
        read_while_it_changes()


def changed(path: Path, change: str) -> None:
    if change == "appended":
        with path.open("ab") as file:
            file.write(b"1\n")
    elif change == "replaced":
        time.sleep(0.02)
        path.write_bytes(path.read_bytes())
    else:
        path.unlink()


def test_a_file_that_changes_between_two_splits_is_not_accepted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(TEXT)
    first, *_, last = plan_splits(open_raw_file(path, LAYOUT), 100)
    list(read_split(first, LAYOUT))
    changed(path, "appended")
    with pytest.raises(NothingToDoYet):
        list(read_split(last, LAYOUT))


def test_a_large_plain_file_is_split_unless_a_record_may_have_two_lines(tmp_path):
    path = tmp_path / "log.csv"
    quoted = b"".join(b'"%d"\n' % k for k in range(1000))
    two_lines = b'"1\n"\n'
    for body, is_split in ((BODY, True), (quoted, True), (quoted + two_lines, False), (b'1"\n' + BODY, False)):
        path.write_bytes(b"n\n" + body)
        assert (len(plan_splits(open_raw_file(path, LAYOUT), 200)) > 1) is is_split, body[-10:]
    path.write_bytes(COMPRESSED["gzip"])
    assert len(plan_splits(open_raw_file(path, LAYOUT), 200)) == 1


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_bytes(TEXT)

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"log\.csv cannot be read: Permission denied"):
        open_raw_file(path, LAYOUT)
