"""The few flags that the entry points share."""

import argparse
from pathlib import Path

from lakehouse.code_version import code_version
from lakehouse.lake import Lake
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day


def parser(doc: str | None) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    result.add_argument("--dataset", required=True, type=str, help="name of a dataset contract, e.g. kuairand")
    return result


def add_lake(result: argparse.ArgumentParser) -> None:
    result.add_argument("--lake", required=True, type=Path, help="root folder of the tables")


def add_range(result: argparse.ArgumentParser) -> None:
    result.add_argument("--from", dest="first", help="first day, YYYY-MM-DD; default: the earliest there is")
    result.add_argument("--to", dest="last", help="last day, YYYY-MM-DD; default: the latest there is")


def add_this_code(result: argparse.ArgumentParser) -> None:
    result.add_argument("--this-code", action="store_true", help="build again what another version of the code built")


def this_code(args: argparse.Namespace) -> str | None:
    """The code version that a partition must have been built by to stay as it is; None: any."""
    return code_version("jobs") if args.this_code else None


def dataset_of(args: argparse.Namespace) -> Dataset:
    return get_dataset(args.dataset)


def lake_of(args: argparse.Namespace) -> Lake:
    return Lake(args.lake.resolve())


def range_of(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """The asked range, each end checked, None where it is open."""
    first = checked_day(args.first) if args.first else None
    last = checked_day(args.last) if args.last else None
    return first, last
