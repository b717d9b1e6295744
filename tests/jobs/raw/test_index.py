"""The raw index: what it stores, and which code makes it read a log again."""

import ast
import json
from dataclasses import replace
from pathlib import Path

from jobs.raw import index as index_module
from jobs.raw.index import FileRows, RawIndex, store_index, stored_index
from lakehouse.lake import Lake
from schemas.dataset import get_dataset
from schemas.days import UNDATED

CRITEO = get_dataset("criteo")
# As every version of the code has stored it.
STORED = {
    "read_with": "r",
    "files": {"a.tsv": {"stamp": [1, 2, 3], "usable": {"2017-01-01": [5, "ab"]}, "refused": {"": [1, "cd"]}}},
    "gone": {"b.tsv": {"stamp": [4, 5, 6], "usable": {"2017-01-02": [7, "ef"]}, "refused": {"2017-01-01": [2, "01"]}}},
}
INDEX = RawIndex(
    "r",
    {"a.tsv": FileRows([1, 2, 3], {"2017-01-01": [5, "ab"]}, {"": [1, "cd"]})},
    {"b.tsv": FileRows([4, 5, 6], {"2017-01-02": [7, "ef"]}, {"2017-01-01": [2, "01"]})},
)


def test_the_stored_form_stays_the_same(tmp_path):
    lake = Lake(tmp_path)
    assert stored_index(lake, CRITEO) is None
    store_index(lake, CRITEO, INDEX)
    assert json.loads(lake.raw_index(CRITEO).read_text()) == STORED
    assert stored_index(lake, CRITEO) == INDEX


def test_the_fingerprints_of_a_days_rows_stay_the_same():
    """Lakes that exist were built from these: another value would build all of their days again."""
    assert {day: INDEX.inputs(day) for day in ("2017-01-01", "2017-01-02", UNDATED)} == {
        "2017-01-01": {
            "raw/a.tsv": "40dea39e44469764ae4dd7f8730d0429",
            "raw/b.tsv": "4350cbab58069def976f7fc82c932d9c",
        },
        "2017-01-02": {"raw/b.tsv": "cbe45e84dc880daefffb3c23e64c7125"},
        UNDATED: {"raw/a.tsv": "e4a369a8db4f7bcd38b163da0f2ec024"},
    }


def test_outcomes_are_inputs_of_the_days_around_them():
    """The day of the exposure, and the day of the outcome: it may belong to an exposure or to none."""
    files = {
        "views.csv": FileRows([1], {"2024-05-01": [5, "a"], "2024-05-02": [5, "b"], "2024-05-09": [5, "c"]}, {}),
        "buys.csv": FileRows([1], {}, {"2024-05-02": [1, "d"]}, {"2024-05-03": [2, "e"], "2024-05-10": [1, "f"]}),
    }
    index = RawIndex("r", files, join_days=1)
    assert index.span == ("2024-05-01", "2024-05-09")  # outcomes alone make no day
    assert index.rows == 19
    assert index.rows_by_partition() == {
        "2024-05-01": 5, "2024-05-02": 6, "2024-05-03": 2, "2024-05-09": 5, UNDATED: 1,
    }  # fmt: skip
    names = {
        day: sorted(index.inputs(day)) for day in ("2024-05-01", "2024-05-02", "2024-05-03", "2024-05-04", UNDATED)
    }
    assert names == {
        "2024-05-01": ["raw/views.csv"],
        "2024-05-02": ["raw/buys.csv", "raw/views.csv"],
        "2024-05-03": ["raw/buys.csv", "raw/views.csv"],
        "2024-05-04": ["raw/buys.csv"],
        UNDATED: ["raw/buys.csv", "raw/views.csv"],
    }
    assert index.days_read_for(["2024-05-02"]) == {"2024-05-01", "2024-05-02", "2024-05-03"}
    assert index.days_read_for([UNDATED]) == {UNDATED, "2024-05-09", "2024-05-10", "2024-05-11"}
    later = replace(index, files=files | {"buys.csv": replace(files["buys.csv"], outcomes={"2024-05-10": [1, "f"]})})
    changed = {day for day in names if later.inputs(day) != index.inputs(day)}
    assert changed == {"2024-05-02", "2024-05-03", "2024-05-04"}
    assert replace(index, join_days=0).inputs("2024-05-04") == {}


def test_rows_of_removed_files_count():
    assert INDEX.span == INDEX.log_days == ("2017-01-01", "2017-01-02")
    assert INDEX.rows == 15
    assert INDEX.files_with(["2017-01-01"]) == {"a.tsv", "b.tsv"}
    assert INDEX.removed_files_with("2017-01-01") == ["b.tsv"]
    assert (INDEX.removed_usable_rows("2017-01-01"), INDEX.removed_usable_rows("2017-01-02")) == (0, 7)


def test_every_module_that_reads_rows_makes_the_log_be_read_again():
    """The modules of jobs.raw that rows.py and fingerprints.py import, directly or not, and these two."""
    folder = Path(index_module.__file__).parent
    readers: set[str] = set()
    pending = ["rows.py", "fingerprints.py"]
    while pending:
        name = pending.pop()
        readers.add(name)
        modules = [
            n.module or "" for n in ast.walk(ast.parse((folder / name).read_text())) if isinstance(n, ast.ImportFrom)
        ]
        imported = {
            f"{module.removeprefix('jobs.raw.').replace('.', '/')}.py"
            for module in modules
            if module.startswith("jobs.raw.")
        }
        pending += imported - readers
    assert set(index_module._READERS) == readers
