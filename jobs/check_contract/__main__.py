"""Try a contract on the first rows of a log: what would be kept and refused, and why, column by column.

    python -m jobs.check_contract --dataset NAME --raw DIR [--rows 10000]

Reads the first rows of the log, and the side tables and files of outcomes as a whole. Writes nothing.
"""

import argparse
from codecs import BOM_UTF8
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from jobs.draft.contract_report import report_lines
from jobs.raw.files import RawFiles, file_headers, find_raw_files
from jobs.raw.joins.outcomes import NO_EXPOSURE, join_outcomes
from jobs.raw.reader.open_file import open_raw_file
from jobs.raw.reader.read import read_file
from jobs.raw.reader.source_files import plain_name
from jobs.raw.reader.typed_rows import RAW, REASON, SOURCE, typed_schema
from jobs.raw.repair_files import RawRows
from jobs.raw.row_work import OUTCOME
from jobs.raw.rows import read_rows, require_usable
from jobs.spark.coded_text import plain_text
from lakehouse.arguments import add_raw, dataset_of, dataset_parser
from schemas.dataset import PARQUET
from schemas.errors import UserError, exit_with_one_line
from schemas.tables.exposures import matches

DEFAULT_ROWS = 10_000


def main() -> None:
    arguments = dataset_parser(__doc__)
    add_raw(arguments)
    arguments.add_argument("--rows", type=_at_least_one, default=DEFAULT_ROWS, help="rows of the log to read")
    args = arguments.parse_args()
    dataset = dataset_of(args)
    require_usable(dataset)
    files = find_raw_files(dataset, args.raw)
    log = files[dataset.log.view]
    sample = first_rows(log, args.rows)
    if not len(sample):
        raise UserError(f"the files of the log have no rows: {', '.join(log.by_name)}")
    is_refused = pc.is_valid(sample.column(REASON))
    with TemporaryDirectory() as folder:
        readable = sample_files(sample.filter(pc.invert(is_refused)), log, Path(folder))
        table = read_rows(dataset, {**files, log.layout.view: readable})
    for match in range(len(matches(dataset))):
        table = join_outcomes(table, dataset, match)
    table = plain_text(with_refused(table, sample.filter(is_refused)))
    # The exposures of these outcomes are in rows that were not read.
    is_lone = pc.starts_with(pc.fill_null(table.column(REASON), ""), NO_EXPOSURE)
    lone_outcomes = Counter(table.filter(is_lone).column(OUTCOME).to_pylist()) if dataset.outcomes else {}
    for line in (*log.notes, *report_lines(dataset, sample, table.filter(pc.invert(is_lone)), lone_outcomes)):
        print(line)


def first_rows(files: RawFiles, largest: int) -> pa.Table:
    """The first rows of the files, with the columns of jobs.raw.reader.typed_rows.typed_schema."""
    tables, rows = [], 0
    for path in files.paths:
        for table in read_file(open_raw_file(path, files.layout), files.layout):
            tables.append(table)
            rows += len(table)
            if rows >= largest:
                return pa.concat_tables(tables).slice(0, largest)
    return pa.concat_tables(tables) if tables else typed_schema(files.layout).empty_table()


def with_refused(rows: pa.Table, refused: pa.Table) -> pa.Table:
    """The rows, and those of the sample that were refused when they were read.

    They are not read again: as JSON lines, some refused rows of a Parquet file could be read.
    """
    names = [REASON, RAW]
    schema = pa.schema([rows.schema.field(name) for name in names])
    return pa.concat_tables([rows, refused.select(names).cast(schema)], promote_options="default")


def sample_files(sample: pa.Table, files: RawFiles, folder: Path) -> RawFiles:
    """The sampled rows, written to the folder as files of the same layout and, uncompressed, with the same names."""
    headers = file_headers(files)
    transcoded = {name for name, path in files.by_name.items() if open_raw_file(path, files.layout).is_transcoded}
    paths = []
    for name in dict.fromkeys(sample.column(SOURCE).to_pylist()):
        rows = sample.filter(pc.equal(sample.column(SOURCE), name)).column(RAW).to_pylist()
        path = folder / (plain_name(name) + (".jsonl" if files.layout.format == PARQUET else ""))
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = BOM_UTF8 if name in transcoded else b""
        path.write_bytes(mark + RawRows(headers.get(name, b""), rows).content)
        paths.append(path)
    return RawFiles(files.layout, tuple(paths))


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on, not {text!r}")
    return int(text)


if __name__ == "__main__":
    exit_with_one_line(main)
