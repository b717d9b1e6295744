"""Remove what no command needs any more, from a lake and from this machine.

    python -m jobs.maintain --dataset kuairand --lake lake [--dry-run] [--airflow-logs FOLDER ...]

Removes replaced files of tables, old log entries, old pages and drift of days, exported quarantine that has not come
back, caches that were not used, work folders of killed jobs, and logs of the embedded Airflow. The ages are in
lakehouse/retention.py. Jobs may run at the same time: nothing is removed that the longest of them may still read.
--dry-run prints the same lines, and removes nothing.
"""

import os
from pathlib import Path

from jobs.maintain.lake_files import lake_removals, log_removal
from jobs.maintain.machine_files import machine_removals
from jobs.maintain.removal import megabytes
from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of
from lakehouse.storage.vacuum import trim_log
from schemas.errors import UserError, exit_with_one_line


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    parser.add_argument(
        "--airflow-logs", nargs="*", type=Path, help="folders of Airflow's logs; default: $AIRFLOW_HOME/logs"
    )
    args = parser.parse_args()
    dataset, lake = dataset_of(args), lake_of(args)
    folders = lake.table_folders(dataset)
    if not folders:
        raise UserError(f"{dataset.name} has no tables in {lake.root}: name another lake with LAKE=")
    home = os.environ.get("AIRFLOW_HOME")
    logs = args.airflow_logs if args.airflow_logs is not None else [Path(home) / "logs"] if home else []
    size = 0
    for removal in (*lake_removals(lake, dataset), *machine_removals(logs)):
        if not args.dry_run:
            removal.remove()
        size += removal.size
        print(removal.line(dry_run=args.dry_run))
    entries = log_removal(lake, dataset)
    if not args.dry_run:
        for folder in folders:
            trim_log(folder)
    print(entries.line(dry_run=args.dry_run))
    print(f"{dataset.name}: {megabytes(size + entries.size)} {'would be' if args.dry_run else 'were'} removed")


if __name__ == "__main__":
    exit_with_one_line(main)
