"""Export what others need of a champion: the feature spec that its windows must be cut with.

python -m mtorl_model.export_champion --dataset D --lake LAKE --out DIR

Writes DIR/feature_spec.json (as FeatureSpec.to_json) and DIR/version.txt (e.g. mtorl_kuairand/3), each in one step:
another day's run may be reading them.
"""

import argparse
from pathlib import Path

from lakehouse.paths import Lake
from mtorl_model.champion.export import export_champion
from schemas.dataset import get_dataset
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    print(f"{export_champion(Lake(args.lake), get_dataset(args.dataset), args.out)} -> {args.out}")


if __name__ == "__main__":
    exit_with_one_line(main)
