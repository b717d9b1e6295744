"""Which files in RAW are read, and the notes on the others."""

import gzip
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from raw_logs import criteo_row, header, kuairand_row, write_criteo, write_kuairand

from jobs.raw.files import file_headers, find_raw_files, looks_like_part
from schemas.dataset import get_dataset
from schemas.errors import UserError

KUAIRAND, CRITEO = get_dataset("kuairand"), get_dataset("criteo")
LOG, LOOKUP = "log_random_4_22_to_5_08_pure.csv", "user_features_pure.csv"


@pytest.fixture
def raw(tmp_path) -> Path:
    return write_kuairand(tmp_path / "raw", [kuairand_row()])


def log_names(folder: Path) -> list[str]:
    return [path.name for path in find_raw_files(KUAIRAND, folder)["log"].paths]


def notes(folder: Path) -> tuple[str, ...]:
    return find_raw_files(KUAIRAND, folder)["log"].notes


def test_a_folder_in_order_has_no_notes(raw):
    assert notes(raw) == ()


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2", ".xz"])
def test_a_compressed_part_is_read(raw, ending):
    (raw / LOG).rename(raw / f"{LOG}{ending}")
    assert f"{LOG}{ending}" in log_names(raw)
    assert notes(raw) == ()


@pytest.mark.parametrize("name", [
    "log_random_1.csv.zip", "log_random_1.csv.part", "LOG_RANDOM_1.CSV", "log_random_1.txt", "clicks.csv", "old.csv.gz",
    "user_features_pure.csv.crdownload", "video_features_basic_pure - Copy.tsv",
])  # fmt: skip
def test_a_file_that_looks_like_a_part_and_is_not_read_is_named(raw, name):
    (raw / name).write_text("x\n")
    assert notes(raw) == (f"no pattern of the contract matches, so not read: {name}",)


@pytest.mark.parametrize(
    "name", ["README.md", ".log_random_1.csv.swp", "_SUCCESS", "video_features_statistic_pure.csv"]
)
def test_other_files_are_left_out_without_a_word(raw, name):
    (raw / name).write_text("x\n")
    assert notes(raw) == ()


def test_a_copy_of_a_browser_is_a_part():
    layout = replace(KUAIRAND.log, patterns=("log.csv",))
    assert looks_like_part("log (1).csv", layout)
    assert looks_like_part("Log - Copy (2).csv.gz.part", layout)
    assert not looks_like_part("other.json", layout)


def test_two_forms_of_one_file_are_an_error(raw):
    (raw / f"{LOG}.gz").write_bytes(gzip.compress((raw / LOG).read_bytes()))
    with pytest.raises(UserError, match=rf"{LOG} and {LOG}\.gz are two forms of one file: remove one of them"):
        find_raw_files(KUAIRAND, raw)


def test_a_file_of_two_layouts_is_an_error(raw):
    users = replace(KUAIRAND.lookups[0], file=replace(KUAIRAND.lookups[0].file, patterns=("*_pure.csv",)))
    with pytest.raises(UserError, match=f"{LOG} matches the patterns of log and of users"):
        find_raw_files(replace(KUAIRAND, lookups=(users, *KUAIRAND.lookups[1:])), raw)


def test_links_have_their_own_names(raw, tmp_path):
    blob = (raw / LOG).rename(tmp_path / "3b1f")
    (raw / LOG).symlink_to(blob)
    assert LOG in log_names(raw)
    blob.unlink()
    assert LOG not in log_names(raw)
    assert notes(raw) == (f"{LOG} is not read: it is a link to a file that does not exist",)


def test_a_name_that_is_no_text(raw):
    Path(os.fsdecode(os.fsencode(raw) + b"/log_random_\xff.csv")).write_text("x\n")
    assert notes(raw) == (r"log_random_\udcff.csv is not read: its name is not UTF-8; rename it",)


def test_a_folder_that_looks_like_a_part(raw):
    (raw / "log_random_1.csv").mkdir()
    assert notes(raw) == ("log_random_1.csv is not read: it is a folder",)


def test_control_characters_of_a_name_do_not_reach_the_terminal(raw):
    (raw / "log_random_\x1b[2J\n.csv").write_text("no,such,header\n")
    (note,) = notes(raw)
    assert note.startswith(r"log_random_\x1b[2J\n.csv: the file has no header")
    assert note.isprintable()


def test_new_columns_are_named_once(raw):
    for name in ("log_random_1.csv", "log_random_2.csv"):
        (raw / name).write_text(f"{header(KUAIRAND.log)},new\n{kuairand_row()},1\n")
    assert notes(raw) == ("columns that are not read: new in log_random_1.csv, log_random_2.csv",)


def test_a_saved_index_has_no_name_but_is_named(raw):
    (raw / "log_random_1.csv").write_text(f",{header(KUAIRAND.log)}\n0,{kuairand_row()}\n")
    assert notes(raw) == ("columns that are not read: one without a name in log_random_1.csv",)


def test_a_log_file_without_a_column_stays_in_the_log_with_a_note(raw):
    (raw / "log_random_1.csv").write_text(header(KUAIRAND.log).replace("is_click", "clicked") + "\n1\n")
    assert "log_random_1.csv" in log_names(raw)
    assert notes(raw) == ("log_random_1.csv: the file has no column is_click (it has clicked); its rows are refused",)


def test_a_lookup_without_a_column_is_an_error_if_there_is_no_other(raw):
    text = (raw / LOOKUP).read_text()
    (raw / LOOKUP).write_text(text.replace("user_id", "uid", 1))
    with pytest.raises(UserError, match=f"{LOOKUP}: the file has no column user_id .it has uid.; it is not read"):
        find_raw_files(KUAIRAND, raw)
    (raw / "user_features_2.csv").write_text(text)
    assert notes(raw) == (f"{LOOKUP}: the file has no column user_id (it has uid); it is not read",)


def test_an_empty_file_and_one_of_another_kind_are_not_read(raw):
    (raw / "log_random_1.csv").write_text("")
    (raw / "log_random_2.csv").write_bytes(b"PK\x03\x04")
    assert not {"log_random_1.csv", "log_random_2.csv"} & set(log_names(raw))
    assert notes(raw) == (
        "log_random_1.csv is empty: it is not read",
        "log_random_2.csv is not read: delimited text is expected, and it is another kind of file",
    )


def test_a_log_of_which_nothing_can_be_read_is_an_error(tmp_path):
    raw = write_criteo(tmp_path, [criteo_row()])
    (raw / "criteo_attribution_dataset.tsv.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"criteo_attribution_dataset\.tsv\.gz is empty"):
        find_raw_files(CRITEO, raw)


def test_headers_are_as_they_stand_in_the_files(raw):
    log = raw / LOG
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes().replace(b"\n", b"\r\n"))
    headers = file_headers(find_raw_files(KUAIRAND, raw)["log"])
    assert headers[LOG] == b"\xef\xbb\xbf" + header(KUAIRAND.log).encode() + b"\r\n"


def test_what_is_no_file_is_named(tmp_path):
    raw = write_criteo(tmp_path / "raw", [criteo_row()])
    (log,) = raw.iterdir()
    name = log.name
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(UserError, match=f"no criteo files in .*; {re.escape(name)} is not read: it is no file"):
        find_raw_files(CRITEO, raw)
    log.unlink()
    log.symlink_to(log)
    with pytest.raises(UserError, match=f"{re.escape(name)} is not read: it is a link to a file that does not exist"):
        find_raw_files(CRITEO, raw)
