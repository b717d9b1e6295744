"""Compare two models on the same users: the log loss of every head, and the paired difference.

python -m mtorl_model.compare --dataset D --lake LAKE --base mtorl_D/1 --candidate mtorl_D/9 [--from DAY --to DAY]
    [--split validation]

The two models may have different methods that read the same inputs; heads that one of them does not predict are left
out. A difference below 0 means that --candidate is better. The labels are the full outcomes that the lake has.
"""

import argparse

from lakehouse.arguments import add_lake
from lakehouse.lake import Lake
from mtorl_model.champion.registry import load_named
from mtorl_model.evaluation.comparison import as_lines, compare
from mtorl_model.evaluation.label_sources import source_of
from schemas.dataset import get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import SPLITS, VALIDATION


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    add_lake(parser)
    parser.add_argument("--base", required=True, metavar="VERSION")
    parser.add_argument("--candidate", required=True, metavar="VERSION")
    parser.add_argument("--from", dest="first_day", metavar="DAY")
    parser.add_argument("--to", dest="last_day", metavar="DAY")
    parser.add_argument("--split", default=VALIDATION, choices=SPLITS)
    args = parser.parse_args()
    lake, dataset = Lake(args.lake), get_dataset(args.dataset)
    base, candidate = (load_named(lake, dataset, name) for name in (args.base, args.candidate))
    days = source_of(base).days(lake, dataset, base, args.first_day, args.last_day)
    compared = compare(lake, dataset, base, candidate, days, args.split)
    if compared is None:
        raise UserError(f"no {args.split} user of {dataset.name} has a label from {args.first_day} to {args.last_day}")
    print(f"log loss, {args.base} -> {args.candidate}, {args.split} users, {len(days)} days")
    print("\n".join(as_lines(compared.heads)))


if __name__ == "__main__":
    exit_with_one_line(main)
