"""Check a folder of raw files and print the first and the last day of its log.

python -m jobs.log_days --dataset kuairand --raw RAW
"""

from pathlib import Path

from jobs.raw.files import find_raw_files
from jobs.raw.rows import log_span, read_rows
from jobs.spark.session import spark_session
from lakehouse.arguments import dataset_of, dataset_parser
from schemas.errors import exit_with_one_line


def main() -> None:
    arguments = dataset_parser(__doc__)
    arguments.add_argument("--raw", required=True, type=Path, help="folder of the raw files")
    args = arguments.parse_args()
    dataset = dataset_of(args)
    files = find_raw_files(dataset, args.raw)
    with spark_session(f"days of {dataset.name}") as spark:
        first_day, last_day = log_span(read_rows(spark, dataset, files))
    print(first_day, last_day)


if __name__ == "__main__":
    exit_with_one_line(main)
