"""Fit a network: Adam, early stopping on the validation users, checkpoints to resume from.

A helper for the `fit` of methods that train a network. What is minimised they hand over (objective.py).

Reproducible on one machine: weights, order, dropout and what the loss draws all follow from the seed, and a
training that was killed and resumed ends with the very bits of one that was not (on a GPU as far as CUDA has
deterministic kernels). Departures from the paper's plain Adam are off unless the config asks for them.

A batch may be computed in parts (micro_batches), by one process or by several (data_parallel.py). Dropout and draws
of a part follow from (seed, step, part) and from nothing before it, so that whoever computes it draws the same:
the losses differ by the rounding of sums only, and a checkpoint of one number of processes is good for another.
"""

import math
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.utils.deterministic
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from mtorl_model.data.batch import Batch
from mtorl_model.data.device import choose_device
from mtorl_model.data.window_store import WindowStore, on_device
from mtorl_model.training import data_parallel
from mtorl_model.training.checkpoint import load_checkpoint, save_checkpoint
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from mtorl_model.training.objective import Objective
from schemas.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
# Of the cosine schedule:
_WARMUP_SHARE = 0.05  # of all steps the learning rate rises, ...
_WARMUP_STEPS = 200  # ... but no longer than this
_LAST_RATE = 0.05  # share of the learning rate that it ends at


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean losses of one epoch by name: over the training batches as trained, and over the validation labels."""

    train: dict[str, float]
    valid: dict[str, float]

    def curves(self) -> dict[str, float]:
        """Every figure by a name of its own, finite or not."""
        losses = {f"{part}_{name}": value for part in ("train", "valid") for name, value in getattr(self, part).items()}
        return {**losses, "monitor": self.monitor}

    @property
    def monitor(self) -> float:
        """What early stopping watches."""
        return sum(self.valid.values())


@dataclass(slots=True)
class History:
    """All epochs so far, and the one whose weights are the best."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """Index of the lowest monitor, the first of equals; -1 before the first epoch."""
        return min(range(len(self.epochs)), key=lambda e: self.epochs[e].monitor, default=-1)

    @property
    def best(self) -> Epoch:
        return self.epochs[self.best_epoch]


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How one optimiser step is made."""

    learning_rate: float  # of Adam
    seed: int  # of dropout, and of what the loss draws
    device: torch.device
    gradient_clip: float = 0.0  # largest norm of the gradient; 0: not clipped
    weight_decay: float = 0.0  # decoupled; with 0 it is plain Adam
    micro_batches: int = 1  # parts that a batch is computed in
    compiled: bool = False


def fit(
    network: nn.Module,
    train: WindowStore,
    valid: WindowStore,
    objective: Objective,
    config: TrainConfig,
    *,
    checkpoints: Path | None = None,
    identity: str = "",
    after_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train the network in place, on the device of the config; it ends with the weights that config.keep says.

    checkpoints: a folder; where it holds a checkpoint of the same identity, training goes on from there.
    after_epoch: called with the epochs so far; what it raises ends the training.
    Within data_parallel.joined all processes call this with the same arguments and end with the same weights; the
    first of them alone reads and writes the checkpoint.
    Raises UserError where the checkpoint is of another training, a loss is no longer a number, or the processes
    cannot share the micro-batches.
    """
    with _deterministic():
        run = _Training(network, train, valid, objective, config)
        path = checkpoints / CHECKPOINT_FILE if checkpoints else None
        if path and (state := data_parallel.from_first(lambda: load_checkpoint(path, identity))):
            run.restore(state)

        def keep() -> None:
            if path:
                state = run.state()
                if data_parallel.is_first():
                    save_checkpoint(path, identity, state)

        total, hidden = config.max_epochs * run.steps_per_epoch, None if data_parallel.is_first() else True
        with tqdm(total=total, initial=run.steps_done, unit="step", disable=hidden) as bar:
            while not run.finished:
                for _ in run.train_epoch():
                    bar.update()
                    if run.steps_done % config.checkpoint_every == 0:
                        keep()
                epoch = run.end_epoch()
                bar.set_postfix(epoch=len(run.history.epochs), validation=f"{epoch.monitor:.4f}")
                if bar.disable and data_parallel.is_first():  # no terminal: a line, for logs and those who follow them
                    print(f"epoch {len(run.history.epochs)}: validation loss {epoch.monitor:.4f}", flush=True)
                keep()
                if after_epoch:
                    after_epoch(run.history)
        if config.keep == "best":
            network.load_state_dict(run.best_weights)
    return run.history


def fine_tune(
    network: nn.Module, batches: Iterable[Batch], objective: Objective, config: FineTuneConfig, *, seed: int
) -> dict[str, float]:
    """Move a trained network a little, in place: one optimiser step a batch; the mean losses over the batches.

    No users validate it and no step is chosen: whether the result is any good is for the gate to say.
    Raises UserError where a loss is no longer a number.
    """
    # Not compiled: the steps of a day are over before compiling has paid.
    settings = StepSettings(config.learning_rate, seed, choose_device(config.device), config.gradient_clip)
    with _deterministic():
        stepper = _Stepper(network, objective, settings)
        network.train()
        for batch in on_device(iter(batches), settings.device):
            stepper.take([batch])
        losses = stepper.mean_losses(stepper.sums)
        network.eval().to("cpu")
    if not all(map(math.isfinite, losses.values())):
        raise UserError("fine-tuning diverged: a loss is no finite number; lower the learning rate")
    return losses


class _Stepper:
    """A network, its optimiser, and the sums of its losses over the steps done."""

    def __init__(self, network: nn.Module, objective: Objective, settings: StepSettings) -> None:
        self.settings, self.objective, self.device = settings, objective, settings.device
        self.network = network.to(self.device)
        on_gpu = self.device.type == "cuda"
        self.parts = settings.micro_batches
        self.mine = data_parallel.mine(self.parts)
        # Compiling is for the GPU: on a CPU a step of `small` takes longer compiled, after minutes of compiling.
        compiles = on_gpu and settings.compiled
        self.forward = data_parallel.replicated(_compiled(self.network) if compiles else self.network, self.device)
        # The paper names no precision; on a GPU matrix products are in bfloat16. On a CPU not: many have no such
        # units, and one seed is to give one model.
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on_gpu)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # The gradients become the mean over the processes; what is wanted is their sum: this times the mean.
        self.processes = torch.tensor(float(data_parallel.processes()), device=self.device)
        self.generator = torch.Generator(self.device)  # of what the loss draws
        self.step = 0  # steps done (of a training: in the current epoch)
        self.sums = torch.zeros(len(objective.names), device=self.device)  # of this process's losses over these steps

    @property
    def steps_done(self) -> int:
        return self.step

    def mean_losses(self, sums: Tensor) -> dict[str, float]:
        """The mean over the steps done of the losses' sums, by name."""
        return dict(zip(self.objective.names, (sums / max(self.step, 1)).tolist(), strict=True))

    def take(self, parts: Sequence[Batch]) -> None:
        """One step. parts: those of the batch that are this process's. The host never waits for the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate()
        self.optimizer.zero_grad()
        seeds = [self._seeds(part) for part in range(self.parts)[self.mine]]
        drawn = [
            self.objective.draw(batch, self.generator.manual_seed(seed))
            for batch, (seed, _) in zip(parts, seeds, strict=True)
        ]
        shares = self._shares(parts, drawn)
        for number, (batch, drawn_of_part, share) in enumerate(zip(parts, drawn, shares, strict=True)):
            torch.manual_seed(seeds[number][1])  # of dropout
            with self._gradients_stay_here(number < len(parts) - 1):
                with self.autocast:
                    output = self.forward(batch)
                total, losses = self.objective.losses(output, batch, drawn_of_part, share)
                total.backward(self.processes)  # type: ignore[no-untyped-call]
            self.sums += losses
        if self.settings.gradient_clip:  # not in the paper
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self.step += 1

    def _seeds(self, part: int) -> tuple[int, int]:
        """Of what the loss draws and of dropout, in a part of the next step."""
        sequence = np.random.SeedSequence([self.settings.seed, self.steps_done, part])
        draws, dropout = sequence.generate_state(2, np.uint64)
        return int(draws), int(dropout)

    def _shares(self, parts: Sequence[Batch], drawn: Sequence[Tensor]) -> list[Tensor] | list[None]:
        """What share of the whole batch's labels each part holds, see Objective.losses."""
        if self.parts == 1:
            return [None]
        counts = [self.objective.label_counts(batch, d) for batch, d in zip(parts, drawn, strict=True)]
        total = data_parallel.add_up(torch.stack(counts).sum(dim=0)).clamp_min(1)
        return [count / total for count in counts]

    def _gradients_stay_here(self, yes: bool) -> AbstractContextManager[None]:
        """Where yes, a backward adds to this process's gradients and sends none: the last one of a step sends all."""
        return self.forward.no_sync() if yes and isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _rate(self) -> float:
        """The share of the learning rate that this step has."""
        return 1.0


class _Training(_Stepper):
    """All that changes while training, to be saved and restored as one."""

    def __init__(
        self, network: nn.Module, train: WindowStore, valid: WindowStore, objective: Objective, config: TrainConfig
    ) -> None:
        settings = StepSettings(
            config.learning_rate,
            config.seed,
            choose_device(config.device),
            config.gradient_clip,
            config.weight_decay,
            config.micro_batches,
            compiled=True,
        )
        super().__init__(network, objective, settings)
        self.train, self.valid, self.config = train, valid, config
        self.history = History()
        self.best_weights: dict[str, Tensor] = {}

    @property
    def steps_per_epoch(self) -> int:
        return self.train.steps_per_epoch(self.config.batch_size)

    @property
    def steps_done(self) -> int:
        return len(self.history.epochs) * self.steps_per_epoch + self.step

    @property
    def finished(self) -> bool:
        epochs = len(self.history.epochs)
        since_best = epochs - 1 - self.history.best_epoch
        return epochs >= self.config.max_epochs or (epochs > 0 and since_best >= self.config.patience)

    def train_epoch(self) -> Iterator[None]:
        """The rest of the current epoch, one optimiser step a time."""
        self.forward.train()
        parts = on_device(
            self.train.batches(
                self.config.batch_size, seed=self.config.seed, epoch=len(self.history.epochs), start_step=self.step,
                parts=self.parts, mine=self.mine,
            ),
            self.device,
        )  # fmt: skip
        each = len(range(self.parts)[self.mine])
        while of_one_step := list(islice(parts, each)):
            self.take(of_one_step)
            yield

    def _rate(self) -> float:
        """Share of the learning rate. Cosine (not in the paper): a linear rise, then half a cosine to the last step."""
        if self.config.schedule == "constant":
            return 1.0
        total = self.config.max_epochs * self.steps_per_epoch
        warmup = min(_WARMUP_STEPS, _WARMUP_SHARE * total)
        rise = min(1.0, (self.steps_done + 1) / (warmup + 1))
        fall = 0.5 * (1.0 + math.cos(math.pi * self.steps_done / total))
        return rise * (_LAST_RATE + (1.0 - _LAST_RATE) * fall)

    def end_epoch(self) -> Epoch:
        """Validate, keep the weights if they are the best so far, and turn to the next epoch."""
        epoch = Epoch(self.mean_losses(data_parallel.add_up(self.sums)), self._validate())
        if not all(map(math.isfinite, epoch.curves().values())):
            raise UserError(
                f"training diverged: a loss of epoch {len(self.history.epochs) + 1} is no finite number; "
                "lower the learning rate"
            )
        self.history.epochs.append(epoch)
        if self.history.best is epoch:
            self.best_weights = {name: w.detach().cpu().clone() for name, w in self.network.state_dict().items()}
        self.step = 0
        self.sums.zero_()
        return epoch

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The validation losses by name, means over all validation labels."""
        self.forward.eval()
        names = self.objective.validation_names
        sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.device)  # the last one counts labels
        batches = self.valid.in_order(
            -(-self.config.batch_size // self.parts), every=data_parallel.processes(), first=data_parallel.rank()
        )
        for batch in on_device(batches, self.device):
            with self.autocast:
                output = self.forward(batch)
            labels = batch.label_BL.sum()
            sums += torch.stack([*(labels * self.objective.validation_losses(output, batch)), labels])
        *losses, labels_seen = data_parallel.add_up(sums).tolist()
        return {name: loss / labels_seen for name, loss in zip(names, losses, strict=True)}

    def state(self) -> dict[str, Any]:
        """Plain tensors and numbers, as load_tensors takes them; the same in all processes."""
        return {
            "network": self.network.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history.epochs],
            "step": self.step,
            "sums": data_parallel.add_up(self.sums.clone()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = History([Epoch(**epoch) for epoch in state["history"]])
        self.step = state["step"]
        if data_parallel.is_first():  # the sums of all processes will be added up
            self.sums = state["sums"].to(self.device)


def forget_compiled(config: TrainConfig) -> None:
    """Before a training of another architecture in this process: torch compiles a module for some eight of them only,
    and runs it as it is for all others."""
    if choose_device(config.device).type == "cuda":
        torch.compiler.reset()


def _compiled(network: nn.Module) -> nn.Module:
    """The network compiled for the GPU; as it is, with a line of warning, where Triton cannot build its kernels."""
    if _can_build():
        # Not dynamic: the kernels for a batch depend on its size alone. Else they would depend on the sizes seen before
        # (the last batch of an epoch is a smaller one), and a resumed training has not seen them.
        return cast(nn.Module, torch.compile(network, dynamic=False))
    print(
        "warning: no C compiler or no Python.h for torch.compile, so training on the GPU is slower: "
        "install gcc and Python's headers (Debian: gcc python3-dev)",
        file=sys.stderr,
    )
    return network


def _can_build() -> bool:
    """Whether there are the C compiler and the Python headers that Triton looks for at its first kernel."""
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")
    headers = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return headers.is_file() and any(shutil.which(compiler) for compiler in compilers)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels within; where CUDA has none, torch warns and goes on."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else torch writes NaN into every new tensor before it is used: some hundred kernels a step, for nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(before, warn_only=warned)
