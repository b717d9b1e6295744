"""The flags that entry points share: --dataset, --lake, the days, --this-code and others; and minimums of flags.

    parser = dataset_parser(__doc__)
    add_lake(parser)
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)

Every function raises UserError if the value of a flag cannot be used.
"""

import argparse
import sys

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from lakehouse.storage.store_path import located, path_of
from schemas.dataset import Dataset, contract_faults, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError


def dataset_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with --dataset. doc: the entry point's docstring, which --help prints unchanged."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="name of a dataset contract, for example kuairand")
    return parser


def day_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with --dataset, --lake and --day, for a step that builds one day."""
    parser = dataset_parser(doc)
    add_lake(parser)
    parser.add_argument("--day", required=True, help="YYYY-MM-DD")
    return parser


def add_lake(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lake", required=True, type=located, help="root folder of the tables, or its URI: s3://...")


def add_raw(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add --raw; its value is the folder of the raw files, a Path or a StorePath."""
    parser.add_argument("--raw", required=required, type=path_of, help="folder of the raw files, or its URI: s3://...")


def add_day_range(parser: argparse.ArgumentParser) -> None:
    """Add --from and --to, both optional; day_range_of reads them."""
    parser.add_argument("--from", dest="first", help="first day, YYYY-MM-DD; default: the earliest")
    parser.add_argument("--to", dest="last", help="last day, YYYY-MM-DD; default: the latest")


def add_this_code(parser: argparse.ArgumentParser) -> None:
    """Add --this-code; required_code_of reads it."""
    parser.add_argument("--this-code", action="store_true", help="build again what another version of the code built")


def add_accept_few_rows(parser: argparse.ArgumentParser) -> None:
    """Add --accept-few-rows, for the jobs that decide which days of a raw log have come."""
    parser.add_argument(
        "--accept-few-rows", action="store_true", help="the log's last days are complete although they have few rows"
    )


def dataset_of(args: argparse.Namespace) -> Dataset:
    dataset = get_dataset(args.dataset)
    for name, fault in contract_faults().items():
        print(f"note: {name} in schemas/datasets is not used: {fault}", file=sys.stderr)
    return dataset


def lake_of(args: argparse.Namespace) -> Lake:
    return Lake(args.lake)


def day_range_of(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """The first and the last day of the range; None for an open end."""
    first = checked_day(args.first) if args.first else None
    last = checked_day(args.last) if args.last else None
    return first, last


def required_code_of(args: argparse.Namespace, *packages: str) -> str | None:
    """The code version that must have built a fresh partition; None: any version. packages: whose code counts."""
    return code_version(*packages) if args.this_code else None


def require_at_least(args: argparse.Namespace, **minimums: int) -> None:
    """Raises UserError if the value of a flag is below its minimum; a flag without a value passes."""
    for name, minimum in minimums.items():
        value = getattr(args, name)
        if value is not None and value < minimum:
            raise UserError(f"--{name.replace('_', '-')} {value}: at least {minimum}")
