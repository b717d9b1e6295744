"""The benchmarks: python -m benchmarks.run [--only SECTION] [--sizes "1 4 16"] [--repeats 3] [--document FILE]

Measures the sections in sequence. Each section is written as soon as it is measured, into the document and into a JSON
file of the same name, so stopping a run loses one section. Sections that a run does not measure stay unchanged, even if
they were measured on another machine. Generated logs are kept in the folder --kept and used again.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import machine
from benchmarks.commands import ROOT
from benchmarks.sections import journey_build, large_day, long_history, model_costs, one_more_day, scale
from benchmarks.sections.page import write_page
from benchmarks.sections.section import Section, store, stored
from schemas.errors import UserError, exit_with_one_line

_HISTORIES = [1, 10, 30]  # days
_LONG_HISTORIES = [10, 100, 1000, 1095]  # days
_MAX_LARGE_DAY_ROWS, _MAX_SCALE_ROWS = 1_000_000, 4_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sections to measure, separated by blanks; default: all")
    parser.add_argument("--sizes", default="1 4 16", help="millions of rows; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; default: %(default)s")
    parser.add_argument("--kept", type=Path, default=ROOT / ".bench", help="folder of generated logs")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md")
    args = parser.parse_args()
    sizes = [round(1_000_000 * _number(word)) for word in args.sizes.split()]
    if not sizes or args.repeats < 1:
        raise UserError("SIZES are numbers of million rows, at least one, and REPEATS is at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the measured command too
    args.kept.mkdir(parents=True, exist_ok=True)
    measures = _measures(args.kept.resolve(), sizes, args.repeats)
    default_names = [name for name in measures if name != "gpu" or torch.cuda.is_available()]
    names = (args.only or " ".join(default_names)).split()
    if unknown := [name for name in names if name not in measures]:
        raise UserError(f"ONLY={unknown[0]}: choose from {', '.join(measures)}")
    cores = sorted(os.sched_getaffinity(0))
    json_file = args.document.with_suffix(".json")
    for name in names:
        print(f"{name}:", flush=True)
        only_flag = f"ONLY={name} " if args.only else ""
        command = f'make bench {only_flag}SIZES="{args.sizes}" REPEATS={args.repeats}'
        # The measured processes inherit the cores. A GPU should not have to wait for two cores.
        os.sched_setaffinity(0, cores if name == "gpu" else cores[: machine.CORES])
        store(json_file, name, measures[name](command))
        latest = {key: stored(json_file, key) for key in measures}
        sections = {key: section for key, section in latest.items() if section}
        for path in write_page(args.document, sections, list(measures)):
            print(f"  {path}", flush=True)


def _measures(cache: Path, sizes: list[int], repeats: int) -> dict[str, Callable[[str], Section]]:
    """By name, in the order of the page, a function that measures a section; it needs the make command as text."""
    largest = min(max(sizes), _MAX_LARGE_DAY_ROWS)
    users = largest // 400
    return {
        "journeys": lambda command: journey_build.measure_section(cache, command, sizes, repeats),
        "scale": lambda command: scale.measure_section(cache, command, min(max(sizes), _MAX_SCALE_ROWS), repeats),
        "day": lambda command: one_more_day.measure_section(cache, command, users, _HISTORIES, repeats),
        "history": lambda command: long_history.measure_section(cache, command, _LONG_HISTORIES, repeats),
        "training": lambda command: model_costs.measure_training(command, repeats),
        "scoring": lambda command: model_costs.measure_scoring(command, repeats),
        "large-day": lambda command: large_day.measure_section(cache, command, largest, repeats),
        "gpu": lambda command: model_costs.measure_gpu(command, repeats),
    }


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1_000:
        raise UserError(f"SIZES={word!r}: numbers of million rows, for example 1 or 0.1")
    return number


if __name__ == "__main__":
    exit_with_one_line(main)
