"""Checks that the plan of a budget for a million users stays within 300 s and 4 GiB.

python -m benchmarks.plan_scale [--users 1000000] [--channels 11]

Publishes made-up scores in a temporary folder, plans a budget with the nightly entry point in a separate process on two
cores, and prints that process's figures, on the last line as a JSON object.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.commands import module
from benchmarks.inputs.made_up_scores import DATASET, DAY, publish_scores
from benchmarks.machine import CORES, use_two_cores
from benchmarks.measure import measure
from lakehouse.lake import Lake
from schemas.errors import UserError, exit_with_one_line

_MAX_S, _MAX_GIB = 300, 4  # for a million users


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=11)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        publish_scores(Lake(Path(folder)), args.users, args.channels)
        budget = 0.2 * args.users * 3e-4  # about a fifth of the cost of one exposure for every user
        use_two_cores()
        flags = ("--dataset", DATASET, "--lake", folder, "--day", DAY, f"--budget={budget}")
        cost = measure(module("mtorl_model.plan_budget", *flags), whole_tree=False)
    gib = cost.peak_bytes / 2**30
    print(cost.output, end="")
    print(
        f"{args.users:,} users x {args.channels} channels: {cost.seconds:.1f} s, "
        f"{cost.cpu_s:.1f} s of processor time, {gib:.2f} GiB"
    )
    print(json.dumps({"seconds": cost.seconds, "cpu_s": cost.cpu_s, "peak_bytes": cost.peak_bytes}), flush=True)
    if cost.seconds > _MAX_S or gib > _MAX_GIB:
        raise UserError(f"more than {_MAX_S} s or {_MAX_GIB} GiB on {CORES} cores: slower, or the machine is busy")


if __name__ == "__main__":
    exit_with_one_line(main)
