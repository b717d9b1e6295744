"""The journeys of a raw Criteo log by Polars: python -m benchmarks.polars_peer --log FILE --out FOLDER

All columns parsed, users grouped in order of time, those with at least 10 exposures, their last 20 as arrays, split by
a hash of the user, Parquet. Nothing is checked, refused, counted or told apart by day.
"""

import argparse
import json
from pathlib import Path

import polars as pl

from schemas.datasets.criteo import LOG

LEAST, STEPS = 10, 20
_TYPES = {"bigint": pl.Int64, "double": pl.Float64, "string": pl.String}


def journeys(log: Path) -> pl.LazyFrame:
    """A row a user: uid, split, and a list a column of the log, oldest first."""
    types = {column.name: _TYPES[column.dtype]() for column in LOG.columns}
    rows = pl.scan_csv(log, separator=LOG.separator, schema=types)
    bucket = pl.col("uid").hash(seed=1) % 10
    split = pl.when(bucket < 8).then(pl.lit("train")).when(bucket == 8).then(pl.lit("validation"))
    return (
        rows.sort("uid", "timestamp")
        .group_by("uid", maintain_order=True)
        .agg(pl.len().alias("exposures"), pl.all().exclude("uid").tail(STEPS))
        .filter(pl.col("exposures") >= LEAST)
        .drop("exposures")
        .with_columns(split.otherwise(pl.lit("test")).alias("split"))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    found = journeys(args.log).collect()
    for (split,), part in found.partition_by("split", as_dict=True, include_key=False).items():
        part.write_parquet(args.out / f"{split}.parquet", compression="zstd")
    print(json.dumps({"users": len(found)}))


if __name__ == "__main__":
    main()
