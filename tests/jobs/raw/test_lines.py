"""Lines of raw files in Spark: headers, and the same values whether Arrow or Spark reads a line."""

import gzip

import pytest
from raw_logs import criteo_row, header

from jobs.raw.files import RawFiles
from jobs.raw.lines import RAW, REASON, SOURCE, read_typed_lines
from schemas.dataset import get_dataset

LAYOUT = get_dataset("criteo").log
HEADER = header(LAYOUT)
LINES = [criteo_row(uid=k, cost="0.1234567890123", cpo="1e-05", cat7=k * 10**9) for k in range(40)]
# Spark reads a line with a blank; Arrow reads quoted fields differently from others.
FILES = {
    "plain.tsv.gz": [HEADER, *LINES],
    "quoted.tsv": [HEADER, *(line.replace(f"\t{k}\t", f'\t"{k}"\t', 1) for k, line in enumerate(LINES))],
    "blank.tsv": [HEADER, *(line.replace(f"\t{k}\t", f"\t{k} \t", 1) for k, line in enumerate(LINES))],
    "header_1.tsv": [HEADER, criteo_row(), HEADER, criteo_row()],
    "header_2.tsv": [HEADER, criteo_row(), HEADER, criteo_row()],
}


@pytest.fixture(scope="module")
def rows_by_file(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for name, lines in FILES.items():
        text = ("\n".join(lines) + "\n").encode()
        (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    rows = read_typed_lines(spark, RawFiles(LAYOUT, tuple(folder / name for name in FILES))).collect()
    return {name: [row.asDict() for row in rows if row[SOURCE] == name] for name in FILES}


def test_a_line_has_the_same_values_whether_arrow_or_spark_reads_it(rows_by_file):
    values = {}
    for name in ("plain.tsv.gz", "quoted.tsv", "blank.tsv"):
        rows = sorted(rows_by_file[name], key=lambda row: row["uid"])
        assert len(rows) == 40
        assert {row[REASON] for row in rows} == {None}
        values[name] = [{key: value for key, value in row.items() if key not in (RAW, SOURCE)} for row in rows]
    assert values["plain.tsv.gz"] == values["quoted.tsv"] == values["blank.tsv"]


@pytest.mark.parametrize("name", ["header_1.tsv", "header_2.tsv"])
def test_only_the_first_line_of_a_file_is_its_header(rows_by_file, name):
    rows = [(row[RAW] == HEADER, row[REASON]) for row in rows_by_file[name]]
    assert sorted(rows, key=lambda row: row[0]) == [
        (False, None),
        (False, None),
        (True, "timestamp is not a whole number: timestamp"),
    ]
