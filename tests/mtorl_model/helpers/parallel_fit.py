"""One process of a training on the synthetic lake, for test_data_parallel.py.

It fails if a process other than the first writes a checkpoint, the registry or the lake.

python -m parallel_fit LAKE CHECKPOINTS OUT [--micro-batches K] [--kill-rank R [--kill-launcher]] [--champion LAKE]
"""

import argparse
import json
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from test_loop import CONFIG, TINY, Setup

from lakehouse.feature_specs import latest_spec
from lakehouse.lake import Lake
from mtorl_model import train
from mtorl_model.champion.registry import Registry
from mtorl_model.methods.mtorl.config import LossConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training import data_parallel, loop
from schemas.errors import exit_with_one_line

KILLED_AT = 14  # steps: in the second epoch, after a checkpoint within it


def run(
    lake: Path, checkpoints: Path, out: Path, micro_batches: int, kill_rank: int = -1, kill_launcher: bool = False
) -> None:
    """Fit, then write the losses of the epochs to OUT<rank>.json and the weights to OUT<rank>.pt."""
    setup = Setup(Lake(lake), latest_spec(Lake(lake), "kuairand")[0])
    config = replace(CONFIG, micro_batches=micro_batches)
    original_optimise = loop._Training.optimise

    def optimise_and_die(self: Any, parts: Any) -> None:
        original_optimise(self, parts)
        if self.steps_done == KILLED_AT and data_parallel.rank() == kill_rank:
            os.kill(os.getppid() if kill_launcher else os.getpid(), signal.SIGKILL)

    loop._Training.optimise = optimise_and_die  # type: ignore[method-assign]
    try:
        model = setup.model()
        history = loop.fit(
            model, setup.store("train"), setup.store("validation"), setup.objective(), config, checkpoints=checkpoints
        )
    finally:
        loop._Training.optimise = original_optimise  # type: ignore[method-assign]
    name = f"{out}{data_parallel.rank()}"
    Path(f"{name}.json").write_text(json.dumps([asdict(epoch) for epoch in history.epochs]))
    torch.save(model.state_dict(), f"{name}.pt")


def champion(lake: Path) -> None:
    """Train and register a champion, then repeat it; prints the first line that each of the two returns."""
    training = replace(CONFIG, max_epochs=2, members=2, micro_batches=data_parallel.processes())
    config = MTORLConfig(TINY, LossConfig(), training)
    spec = latest_spec(Lake(lake), "kuairand")[0]
    for _ in range(2):
        lines = train.train_champion(
            Lake(lake), train.get_dataset("kuairand"), spec.first_day, spec.last_day, MTORL, config
        )
        print(f"rank {data_parallel.rank()}: {lines[:1]}", flush=True)


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("only the first process may write")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lake", type=Path)
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--micro-batches", type=int, default=2)
    parser.add_argument("--kill-rank", type=int, default=-1)
    parser.add_argument("--kill-launcher", action="store_true", help="kill the launcher in place of that process")
    parser.add_argument("--champion", type=Path, help="then train and register a champion in this lake")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with data_parallel.joined(torch.device("cpu")):
        if not data_parallel.is_first():
            loop.save_checkpoint = refuse  # type: ignore[assignment]
            for writer in ("work_folder", "save_model", "export_for_daily_run"):
                setattr(train, writer, refuse)
            for writer in ("register", "make_champion", "write_lineage"):
                setattr(Registry, writer, refuse)
        run(args.lake, args.checkpoints, args.out, args.micro_batches, args.kill_rank, args.kill_launcher)
        if args.champion:
            champion(args.champion)


if __name__ == "__main__":
    exit_with_one_line(main)
