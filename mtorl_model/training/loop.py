"""Fit a network: Adam, early stopping on the validation users, checkpoints to resume from.

A helper for the `fit` of methods that train a network. The method passes the loss as an objective (objective.py).

Reproducible on one machine: initial weights, order, dropout and random draws of the loss depend on the seed only. A
training that was killed and resumed ends with the same bits as an uninterrupted one (on a GPU as far as CUDA has
deterministic kernels). Departures from the paper's plain Adam are off unless the config turns them on.

A batch may be computed in parts (micro_batches), by one process or by several (data_parallel.py). Dropout and draws of
a part depend only on (seed, step, part), so they do not depend on the process that computes it. With another number of
processes the losses differ only by the rounding of sums, and the checkpoint remains usable.
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
from mtorl_model.data.windows.store import WindowStore, on_device
from mtorl_model.training import data_parallel
from mtorl_model.training.checkpoint import load_checkpoint, save_checkpoint
from mtorl_model.training.config import FineTuneConfig, TrainConfig
from mtorl_model.training.objective import Objective
from schemas.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
# The cosine schedule:
_WARMUP_SHARE = 0.05  # share of all steps in which the learning rate rises
_WARMUP_STEPS = 200  # upper limit of these steps
_LAST_RATE = 0.05  # final share of the learning rate


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean losses of one epoch by name: over the training batches as trained, and over the validation labels."""

    train: dict[str, float]
    valid: dict[str, float]

    def curves(self) -> dict[str, float]:
        """Every figure under a distinct name, finite or not."""
        losses = {f"{part}_{name}": value for part in ("train", "valid") for name, value in getattr(self, part).items()}
        return {**losses, "monitor": self.monitor}

    @property
    def monitor(self) -> float:
        """The validation loss that early stopping uses."""
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
    seed: int  # of dropout and of the loss's random draws
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
    """Train the network in place, on the device of the config; config.keep selects the final weights.

    checkpoints: a folder; training resumes from its checkpoint if there is one. after_epoch: called with the history;
    an exception that it raises ends the training.
    Within data_parallel.joined all processes call this with the same arguments and end with the same weights; only the
    first process reads and writes the checkpoint.
    Raises UserError if the checkpoint has another identity, a loss is not finite, or the processes cannot share the
    micro-batches evenly.
    """
    with _deterministic(config.device):
        run = _Training(network, train, valid, objective, config)
        path = checkpoints / CHECKPOINT_FILE if checkpoints else None
        if path and (state := data_parallel.from_first(lambda: load_checkpoint(path, identity))):
            run.restore(state)

        def write_checkpoint() -> None:
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
                        write_checkpoint()
                epoch = run.end_epoch()
                bar.set_postfix(epoch=len(run.history.epochs), validation=f"{epoch.monitor:.4f}")
                if bar.disable and data_parallel.is_first():  # no terminal: print a line for the log
                    print(f"epoch {len(run.history.epochs)}: validation loss {epoch.monitor:.4f}", flush=True)
                write_checkpoint()
                if after_epoch:
                    after_epoch(run.history)
        if config.keep == "best":
            network.load_state_dict(run.best_weights)
    return run.history


def fine_tune(
    network: nn.Module, batches: Iterable[Batch], objective: Objective, config: FineTuneConfig, *, seed: int
) -> dict[str, float]:
    """Train a trained network further, in place, with one optimiser step per batch; returns the mean losses.

    There is no validation; the gate decides about the result. Raises UserError if a loss is not finite.
    """
    # Not compiled: compiling takes longer than the steps of a day.
    settings = StepSettings(config.learning_rate, seed, choose_device(config.device), config.gradient_clip)
    with _deterministic(config.device):
        stepper = _Stepper(network, objective, settings)
        network.train()
        for batch in on_device(iter(batches), settings.device):
            stepper.optimise([batch])
        losses = stepper.mean_losses(stepper.sums)
        network.eval().to("cpu")
    if not all(map(math.isfinite, losses.values())):
        raise UserError("fine-tuning diverged: a loss is not a finite number; lower the learning rate")
    return losses


class _Stepper:
    """A network, its optimiser, and the sums of its losses over the steps done."""

    def __init__(self, network: nn.Module, objective: Objective, settings: StepSettings) -> None:
        self.settings, self.objective, self.device = settings, objective, settings.device
        self.network = network.to(self.device)
        on_gpu = self.device.type == "cuda"
        self.parts = settings.micro_batches
        self.own_parts = data_parallel.own_parts(self.parts)
        # Only on a GPU: on a CPU, compiling takes minutes and makes a step of `small` slower.
        compiles = on_gpu and settings.compiled
        self.forward = data_parallel.replicated(_compiled(self.network) if compiles else self.network, self.device)
        # The paper does not state a precision; on a GPU matrix products use bfloat16. Many CPUs cannot compute in it,
        # and one seed must give one model.
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on_gpu)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # Gradients are averaged over the processes but must be summed, so the loss is multiplied by their number.
        self.processes = torch.tensor(float(data_parallel.processes()), device=self.device)
        self.generator = torch.Generator(self.device)  # of the loss's random draws
        self.step = 0  # steps done (of a training: in the current epoch)
        self.sums = torch.zeros(len(objective.names), device=self.device)  # of this process's losses over these steps

    @property
    def steps_done(self) -> int:
        return self.step

    def mean_losses(self, sums: Tensor) -> dict[str, float]:
        """The sums of the losses divided by the steps done, by name."""
        return dict(zip(self.objective.names, (sums / max(self.step, 1)).tolist(), strict=True))

    def optimise(self, parts: Sequence[Batch]) -> None:
        """One optimiser step. parts: this process's parts of the batch. The host never waits for the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate()
        self.optimizer.zero_grad()
        seeds = [self._seeds(part) for part in range(self.parts)[self.own_parts]]
        drawn = [
            self.objective.draw(batch, self.generator.manual_seed(seed))
            for batch, (seed, _) in zip(parts, seeds, strict=True)
        ]
        shares = self._shares(parts, drawn)
        for number, (batch, drawn_of_part, share) in enumerate(zip(parts, drawn, shares, strict=True)):
            torch.manual_seed(seeds[number][1])  # of dropout
            with self._without_sync(number < len(parts) - 1):
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
        """The seeds of the loss's draws and of dropout, for a part of the next step."""
        sequence = np.random.SeedSequence([self.settings.seed, self.steps_done, part])
        draws, dropout = sequence.generate_state(2, np.uint64)
        return int(draws), int(dropout)

    def _shares(self, parts: Sequence[Batch], drawn: Sequence[Tensor]) -> list[Tensor] | list[None]:
        """Each part's share of the labels of the whole batch, see Objective.losses."""
        if self.parts == 1:
            return [None]
        counts = [self.objective.label_counts(batch, d) for batch, d in zip(parts, drawn, strict=True)]
        total = data_parallel.add_up(torch.stack(counts).sum(dim=0)).clamp_min(1)
        return [count / total for count in counts]

    def _without_sync(self, active: bool) -> AbstractContextManager[None]:
        """If active, backward passes do not exchange gradients; the last pass of a step exchanges their sum."""
        return self.forward.no_sync() if active and isinstance(self.forward, DistributedDataParallel) else nullcontext()

    def _rate(self) -> float:
        """The factor of the learning rate in this step."""
        return 1.0


class _Training(_Stepper):
    """The state of a training, which is saved and restored as a whole."""

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
        """Train the rest of the current epoch; yields after each optimiser step."""
        self.forward.train()
        parts = on_device(
            self.train.batches(
                self.config.batch_size, seed=self.config.seed, epoch=len(self.history.epochs), start_step=self.step,
                parts=self.parts, own_parts=self.own_parts,
            ),
            self.device,
        )  # fmt: skip
        parts_per_step = len(range(self.parts)[self.own_parts])
        while step_parts := list(islice(parts, parts_per_step)):
            self.optimise(step_parts)
            yield

    def _rate(self) -> float:
        """Constant, or cosine (not in the paper): a linear rise, then half a cosine to the last step."""
        if self.config.schedule == "constant":
            return 1.0
        total = self.config.max_epochs * self.steps_per_epoch
        warmup = min(_WARMUP_STEPS, _WARMUP_SHARE * total)
        rise = min(1.0, (self.steps_done + 1) / (warmup + 1))
        fall = 0.5 * (1.0 + math.cos(math.pi * self.steps_done / total))
        return rise * (_LAST_RATE + (1.0 - _LAST_RATE) * fall)

    def end_epoch(self) -> Epoch:
        """Validate, keep the weights if they are the best so far, and start the next epoch."""
        epoch = Epoch(self.mean_losses(data_parallel.add_up(self.sums)), self._validate())
        if not all(map(math.isfinite, epoch.curves().values())):
            raise UserError(
                f"training diverged: a loss of epoch {len(self.history.epochs) + 1} is not a finite number; "
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
        sums = torch.zeros(len(names) + 1, dtype=torch.float64, device=self.device)  # the last entry counts labels
        batches = self.valid.in_order(
            -(-self.config.batch_size // self.parts), first=data_parallel.rank(), stride=data_parallel.processes()
        )
        for batch in on_device(batches, self.device):
            with self.autocast:
                output = self.forward(batch)
            labels = batch.label_BL.sum()
            sums += torch.stack([*(labels * self.objective.validation_losses(output, batch)), labels])
        *losses, labels_seen = data_parallel.add_up(sums).tolist()
        return {name: loss / labels_seen for name, loss in zip(names, losses, strict=True)}

    def state(self) -> dict[str, Any]:
        """Plain tensors and numbers, as load_tensors reads them; equal in all processes."""
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
        if data_parallel.is_first():  # end_epoch adds up the sums of all processes
            self.sums = state["sums"].to(self.device)


def forget_compiled(config: TrainConfig) -> None:
    """Call this before training another architecture in this process.

    torch compiles a module for about eight architectures and runs it uncompiled for all further ones.
    """
    if choose_device(config.device).type == "cuda":
        torch.compiler.reset()


def _compiled(network: nn.Module) -> nn.Module:
    """The network, compiled for the GPU; uncompiled, with a warning, if Triton cannot build its kernels."""
    if _can_build():
        # Not dynamic, so that the kernels depend on the batch size alone. Otherwise they would depend on earlier sizes
        # (the last batch of an epoch is smaller), which a resumed training has not seen.
        return cast(nn.Module, torch.compile(network, dynamic=False))
    print(
        "warning: no C compiler or no Python.h for torch.compile, so training on the GPU is slower: "
        "install gcc and Python's headers (Debian: gcc python3-dev)",
        file=sys.stderr,
    )
    return network


def _can_build() -> bool:
    """Whether the machine has the C compiler and the Python headers that Triton needs."""
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")
    headers = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return headers.is_file() and any(shutil.which(compiler) for compiler in compilers)


@contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """Use deterministic kernels within this context; torch warns about operations without one.

    The other function of torch for this, which also sets the compiler, imports it: 1.5 CPU seconds.
    """
    former_mode = ("default", "warn", "error")[torch.get_deterministic_debug_mode()]
    was_filling = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
    on_cuda = choose_device(device).type == "cuda"  # only there a network is compiled
    if on_cuda:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:
        torch.set_deterministic_debug_mode("warn")
    # Otherwise torch fills every new tensor with NaN, which costs about a hundred kernels per step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = was_filling  # type: ignore[attr-defined]
        if on_cuda:
            torch.use_deterministic_algorithms(former_mode != "default", warn_only=former_mode == "warn")
        else:
            torch.set_deterministic_debug_mode(former_mode)
