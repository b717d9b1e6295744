"""Journeys of a raw Criteo log by Polars: python -m benchmarks.polars_peer --log FILE --out FOLDER

Parses all columns, groups the rows by user in order of time, keeps users with at least 10 exposures, takes the last 20
exposures as arrays, splits by a hash of the user, writes Parquet. It checks, refuses and counts nothing, and does not
separate the days.
"""

import argparse
import json
from pathlib import Path

import polars as pl

from schemas.datasets.criteo import LOG

MIN_EXPOSURES, STEPS = 10, 20
_TYPES = {"bigint": pl.Int64, "double": pl.Float64, "string": pl.String}


def journeys(log: Path) -> pl.LazyFrame:
    """One row per user: uid, split, and for every other column of the log a list, oldest first."""
    types = {column.name: _TYPES[column.dtype]() for column in LOG.columns}
    rows = pl.scan_csv(log, separator=LOG.separator, schema=types)
    bucket = pl.col("uid").hash(seed=1) % 10
    split = pl.when(bucket < 8).then(pl.lit("train")).when(bucket == 8).then(pl.lit("validation"))
    return (
        rows.sort("uid", "timestamp")
        .group_by("uid", maintain_order=True)
        .agg(pl.len().alias("exposures"), pl.all().exclude("uid").tail(STEPS))
        .filter(pl.col("exposures") >= MIN_EXPOSURES)
        .drop("exposures")
        .with_columns(split.otherwise(pl.lit("test")).alias("split"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    windows = journeys(args.log).collect()
    for (split,), part in windows.partition_by("split", as_dict=True, include_key=False).items():
        part.write_parquet(args.out / f"{split}.parquet", compression="zstd")
    print(json.dumps({"users": len(windows)}))


if __name__ == "__main__":
    main()
