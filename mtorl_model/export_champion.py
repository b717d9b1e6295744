"""Hand out what a champion needs from others: the feature spec its windows must be cut with.

python -m mtorl_model.export_champion --dataset D --lake LAKE --out DIR

Writes DIR/feature_spec.json (as FeatureSpec.to_json) and DIR/version.txt (e.g. mtorl_kuairand/3), each in one step:
another day's run may be reading them.
"""

import argparse
from pathlib import Path

from lakehouse.files import write_whole
from lakehouse.lake import Lake
from mtorl_model.champion.registry import champion, version_spec
from schemas.dataset import Dataset, get_dataset
from schemas.errors import exit_with_one_line
from schemas.tables.feature_spec import MODEL_SPEC_FILE

VERSION_FILE = "version.txt"


def export_champion(lake: Lake, dataset: Dataset, out: Path) -> str:
    """Write the two files and return the champion's version. Raises UserError where there is no champion."""
    version = champion(lake, dataset)
    write_whole(out / MODEL_SPEC_FILE, version_spec(lake, dataset, version).to_json() + "\n")
    write_whole(out / VERSION_FILE, version.name + "\n")
    return version.name


def hand_out(lake: Lake, dataset: Dataset) -> None:
    """Export to where the daily run and `make status` look: for whatever makes another version the champion."""
    export_champion(lake, dataset, lake.table("champion", dataset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    print(f"{export_champion(Lake(args.lake), get_dataset(args.dataset), args.out)} -> {args.out}")


if __name__ == "__main__":
    exit_with_one_line(main)
