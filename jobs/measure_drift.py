"""Measure how far a day has drifted from the day before it and from the training period.

    python -m jobs.measure_drift --dataset kuairand --lake lake --day DAY

Reads the day's exposures, and its policies and `prequential` where they are there; keeps the figures as
LAKE/drift/dataset=<name>/<day>.json and prints those beyond their limits. Exit status 1 where a critical one is.
"""

import sys

from jobs.arguments import add_lake, dataset_of, lake_of, parser
from jobs.drift import measure_drift
from jobs.drift_results import store, stored_drifts
from schemas.contract import Severity
from schemas.errors import exit_with_one_line
from schemas.paths import checked_day


def main() -> None:
    arguments = parser(__doc__)
    add_lake(arguments)
    arguments.add_argument("--day", required=True, help="YYYY-MM-DD")
    args = arguments.parse_args()
    dataset, lake, day = dataset_of(args), lake_of(args), checked_day(args.day)
    drift = measure_drift(lake, dataset, day, stored_drifts(lake, dataset.name))
    store(lake, drift)
    for figure in drift.beyond:
        print(f"{figure.severity} drift/{dataset.name}/{day}: {figure.name}: {figure.sentence}")
    print(f"drift/{dataset.name}/{day}: {len(drift.figures)} figures, {len(drift.beyond)} beyond their limits")
    if any(figure.severity == Severity.CRITICAL.value for figure in drift.beyond):
        sys.exit(1)


if __name__ == "__main__":
    exit_with_one_line(main)
