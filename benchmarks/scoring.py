"""Measures how many users the nightly scoring processes per second.

python -m benchmarks.scoring [--users 100000] [--dataset criteo] [--preset small] [--again]

Publishes made-up journeys and an untrained champion in a temporary folder (inputs/made_up_journeys.py), scores them
with the nightly entry point in a separate process, on two cores unless torch finds a GPU, and prints that process's
figures, its start included, as a JSON object. --again scores the day a second time, after the journeys of one user in a
hundred have changed: the predictions for the other users are reused. The figures are then those of the second scoring.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.commands import module
from benchmarks.inputs.made_up_journeys import DAY, publish_champion, publish_journeys, spec_of_all_candidates
from benchmarks.machine import CORES, device_name, use_two_cores
from benchmarks.measure import measure
from lakehouse.arguments import require_at_least
from lakehouse.lake import Lake
from mtorl_model.data.device import device
from mtorl_model.methods.mtorl.config import PRESETS
from schemas.dataset import Dataset, get_dataset
from schemas.errors import exit_with_one_line


def score(lake: Lake, dataset: Dataset) -> dict[str, float]:
    """Seconds, processor seconds and largest resident memory of the nightly entry point."""
    flags = ("--dataset", dataset.name, "--lake", lake.root, "--day", DAY)
    cost = measure(module("mtorl_model.score", *flags), whole_tree=False)
    return {
        "seconds": round(cost.seconds, 2),
        "processor_seconds": round(cost.cpu_s, 2),
        "peak_bytes": cost.peak_bytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--dataset", default="criteo")
    parser.add_argument("--preset", default="small", choices=sorted(PRESETS))
    parser.add_argument("--again", action="store_true", help="measure a second scoring, of slightly changed journeys")
    args = parser.parse_args()
    require_at_least(args, users=1)
    dataset = get_dataset(args.dataset)
    if device() == "cpu":
        use_two_cores()
    with tempfile.TemporaryDirectory() as folder:
        lake, spec = Lake(Path(folder)), spec_of_all_candidates(dataset)
        publish_champion(lake, dataset, spec, args.preset)
        publish_journeys(lake, dataset, spec, args.users)
        figures = score(lake, dataset)
        if args.again:
            publish_journeys(lake, dataset, spec, args.users, repaired=max(args.users // 100, 1))
            figures = score(lake, dataset)
    rate = round(args.users / figures["seconds"])
    device_text = device_name(device(), f"{CORES} cores")
    print(json.dumps({"device": device_text, "users": args.users, **figures, "users_per_second": rate}))


if __name__ == "__main__":
    exit_with_one_line(main)
