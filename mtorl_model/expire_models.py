"""Delete the versions of registered models that no command needs any more.

python -m mtorl_model.expire_models --dataset D --lake LAKE [--dry-run]

A part of `make maintain`. Which versions are needed: mtorl_model/champion/expiry.py.
"""

from datetime import datetime
from zoneinfo import ZoneInfo

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from mtorl_model.arguments import for_each
from mtorl_model.champion.expiry import delete_expired
from mtorl_model.champion.registry import Registry
from mtorl_model.methods import METHODS
from schemas.errors import exit_with_one_line


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be deleted")
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    today = datetime.now(ZoneInfo(dataset.timezone)).date().isoformat()

    def expire(method: str) -> None:
        registry = Registry(lake, dataset, method)
        if registry.decided():
            print("\n".join(delete_expired(registry, today=today, dry_run=args.dry_run)), flush=True)

    for_each(list(METHODS), expire)


if __name__ == "__main__":
    exit_with_one_line(main)
