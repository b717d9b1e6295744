"""Export the feature spec of a champion, for other programs.

python -m mtorl_model.export_champion --dataset D --lake LAKE --out DIR [--method mtorl,rmtl]

It exports the champion of the first named method that has one. Writes DIR/feature_spec.json (FeatureSpec.to_json) and
DIR/version.txt (e.g. mtorl_kuairand/3), each atomically, because the run of another day may be reading them.
"""

import argparse

from lakehouse.arguments import add_lake
from lakehouse.lake import Lake
from lakehouse.storage.store_path import located
from mtorl_model.arguments import add_methods, methods_of
from mtorl_model.champion.export import export_champion, first_with_champion
from schemas.dataset import get_dataset
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    add_lake(parser)
    parser.add_argument("--out", required=True, type=located)
    add_methods(parser)
    args = parser.parse_args()
    registry = first_with_champion(Lake(args.lake), get_dataset(args.dataset), methods_of(args))
    print(f"{export_champion(registry, args.out)} -> {args.out}")


if __name__ == "__main__":
    exit_with_one_line(main)
