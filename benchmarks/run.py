"""The benchmarks: python -m benchmarks.run [--only SECTION] [--sizes "1 4 16"] [--repeats 3] [--document FILE]

Measures the sections one after the other and writes each as soon as it is done into the document, and as JSON beside
it: a run that is stopped has lost one section, and one that measures some leaves the others as they were last measured,
on whatever machine. Generated logs are kept in --kept, and made once.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks import journey_build, large_day, model_costs, one_more_day
from benchmarks.page import write_page
from benchmarks.pipeline import ROOT
from benchmarks.section import Section, store, stored
from schemas.errors import UserError, exit_with_one_line

_CORES = 2
_HISTORIES = [1, 10, 30]
_LARGE = 1_000_000  # rows of a large day, whatever the sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="sections to measure, by blanks; default: all")
    parser.add_argument("--sizes", default="1 4 16", help="millions of rows; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kept", type=Path, default=ROOT / ".bench", help="folder of generated logs")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "performance.md")
    args = parser.parse_args()
    sizes = [round(1_000_000 * _number(word)) for word in args.sizes.split()]
    if not sizes or args.repeats < 1:
        raise UserError("SIZES are numbers of million rows, at least one, and REPEATS is at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what is being measured
    cores = sorted(os.sched_getaffinity(0))
    largest = min(max(sizes), _LARGE)
    args.kept.mkdir(parents=True, exist_ok=True)
    kept, held = args.kept.resolve(), args.document.with_suffix(".json")
    measures: dict[str, Callable[[str], Section]] = {
        "journeys": lambda command: journey_build.measure(kept, command, sizes, args.repeats),
        "day": lambda command: one_more_day.measure(kept, command, largest // 400, _HISTORIES, args.repeats),
        "training": lambda command: model_costs.training(command, args.repeats),
        "scoring": lambda command: model_costs.scoring(command, args.repeats),
        "large-day": lambda command: large_day.measure(kept, command, largest, args.repeats),
        "gpu": lambda command: model_costs.gpu(command, args.repeats),
    }
    everything = [name for name in measures if name != "gpu" or torch.cuda.is_available()]
    chosen = (args.only or " ".join(everything)).split()
    if unknown := [name for name in chosen if name not in measures]:
        raise UserError(f"ONLY={unknown[0]}: choose from {', '.join(measures)}")
    for name in chosen:
        print(f"{name}:", flush=True)
        # Sections of a run of all name that run; a section measured alone, or among some, says so.
        only = f"ONLY={name} " if args.only else ""
        command = f'make bench {only}SIZES="{args.sizes}" REPEATS={args.repeats}'
        # The measured processes inherit it. What a GPU does should not wait for two cores.
        os.sched_setaffinity(0, cores if name == "gpu" else cores[:_CORES])
        store(held, name, measures[name](command))
        found: Iterator[tuple[str, Section | None]] = ((key, stored(held, key)) for key in measures)
        sections = {key: section for key, section in found if section}
        for path in write_page(args.document, sections, list(measures)):
            print(f"  {path}", flush=True)


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
