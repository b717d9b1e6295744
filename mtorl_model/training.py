"""Fit a model: Adam, early stopping on the validation users, checkpoints to resume from.

Reproducible on one machine: weights, order, dropout and preference pairs all follow from the seed, and a
training that was killed and resumed ends with the very bits of one that was not (on a GPU as far as CUDA has
deterministic kernels). Departures from the paper's plain Adam are off unless the config asks for them.
"""

import math
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mtorl_model.batch import Batch
from mtorl_model.checkpoint import load_checkpoint, save_checkpoint
from mtorl_model.config import FineTuneConfig, LossConfig, TrainConfig
from mtorl_model.data import WindowStore, on_device
from mtorl_model.losses import policy_loss, reward_losses, total_loss
from mtorl_model.model import MTORL, Output
from schemas.errors import UserError

CHECKPOINT_FILE = "checkpoint.pt"
# Of the cosine schedule:
_WARMUP_SHARE = 0.05  # of all steps the learning rate rises, ...
_WARMUP_STEPS = 200  # ... but no longer than this
_LAST_RATE = 0.05  # share of the learning rate that it ends at


@dataclass(frozen=True, slots=True)
class Epoch:
    """Mean losses of one epoch: over the training batches as trained, and over the validation labels."""

    train_total: float
    train_policy: float
    train_dpo: float
    train_rewards: tuple[float, ...]  # one a reward head, see losses.reward_losses
    valid_policy: float
    valid_reward: float  # mean over the heads; log loss of the gains in the binary form

    def curves(self, gains: Sequence[str]) -> dict[str, float]:
        """Every figure by a name of its own, finite or not; a reward head is named after its gain where it has one."""
        heads = (
            gains if len(gains) == len(self.train_rewards) else [f"reward_{k}" for k in range(len(self.train_rewards))]
        )
        scalars = {name: value for name, value in asdict(self).items() if name != "train_rewards"}
        rewards = {f"train_{head}": value for head, value in zip(heads, self.train_rewards, strict=True)}
        return {**scalars, **rewards, "monitor": self.monitor}

    @property
    def monitor(self) -> float:
        """What early stopping watches."""
        return self.valid_policy + self.valid_reward


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


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device '{name}': choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use; choose auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def fit(
    model: MTORL,
    train: WindowStore,
    valid: WindowStore,
    loss_config: LossConfig,
    config: TrainConfig,
    *,
    checkpoints: Path | None = None,
    identity: str = "",
    after_epoch: Callable[[History], None] | None = None,
) -> History:
    """Train the model in place, on the device of the config; it ends with the weights that config.keep says.

    checkpoints: a folder; where it holds a checkpoint of the same identity, training goes on from there.
    after_epoch: called with the epochs so far; what it raises ends the training.
    Raises UserError where the checkpoint is of another training, or a loss is no longer a number.
    """
    with _deterministic():
        run = _Training(model, train, valid, loss_config, config)
        path = checkpoints / CHECKPOINT_FILE if checkpoints else None
        if path and (state := load_checkpoint(path, identity)):
            run.restore(state)

        def keep() -> None:
            if path:
                save_checkpoint(path, identity, run.state())

        total = config.max_epochs * run.steps_per_epoch
        with tqdm(total=total, initial=run.steps_done, unit="step", disable=None) as bar:
            while not run.finished:
                for _ in run.train_epoch():
                    bar.update()
                    if run.steps_done % config.checkpoint_every == 0:
                        keep()
                epoch = run.end_epoch()
                bar.set_postfix(epoch=len(run.history.epochs), validation=f"{epoch.monitor:.4f}")
                if bar.disable:  # no terminal: a line, for logs and those who follow them
                    print(f"epoch {len(run.history.epochs)}: validation loss {epoch.monitor:.4f}", flush=True)
                keep()
                if after_epoch:
                    after_epoch(run.history)
        if config.keep == "best":
            model.load_state_dict(run.best_weights)
    return run.history


def adapt(
    model: MTORL, batches: Iterable[Batch], loss_config: LossConfig, config: FineTuneConfig, *, seed: int
) -> dict[str, float]:
    """Move a trained model a little, in place: one optimiser step a batch; the mean losses over the batches.

    No users validate it and no step is chosen: whether the result is any good, others have to say (promote.py).
    Raises UserError where a loss is no longer a number.
    """
    with _deterministic():
        run = _Optimiser(model, loss_config, config, seed)
        model.train()
        for batch in on_device(iter(batches), run.device):
            run._optimise(batch)
        total, policy, dpo, *rewards = (run.sums / max(run.step, 1)).tolist()
        model.eval().to("cpu")
    losses = {"total": total, "policy": policy, "dpo": dpo, **{f"reward_{k}": r for k, r in enumerate(rewards)}}
    if not all(map(math.isfinite, losses.values())):
        raise UserError("fine-tuning diverged: a loss is no finite number; lower the learning rate")
    return losses


class _Optimiser:
    """A model, its optimiser, and the sums of its losses over the steps done."""

    def __init__(self, model: MTORL, loss_config: LossConfig, config: TrainConfig | FineTuneConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self.device = choose_device(config.device)
        self.model = model.to(self.device)
        on_gpu = self.device.type == "cuda"
        self.forward = _compiled(model) if on_gpu else model
        # The paper names no precision; on a GPU matrix products are in bfloat16.
        self.autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=on_gpu)
        self.loss_config, self.learning_rate = loss_config, config.learning_rate
        self.gradient_clip = config.gradient_clip
        # Decoupled decay; with weight_decay 0 it is the paper's Adam.
        decay = config.weight_decay if isinstance(config, TrainConfig) else 0.0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=decay, fused=True)
        self.pairs = torch.Generator(self.device).manual_seed(seed)  # draws the preference pairs
        self.step = 0  # steps done (of a training: in the current epoch)
        heads = model.sizes.gains if model.config.reward_form == "binary" else 1
        self.sums = torch.zeros(3 + heads, device=self.device)  # of the losses over these steps

    def _optimise(self, batch: Batch) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self._rate()
        with self.autocast:
            output = self.forward(batch)
        losses = total_loss(output, batch, self.loss_config, self.pairs)
        self.optimizer.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        if self.gradient_clip:  # not in the paper
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()
        self.sums += torch.stack([losses.total, losses.policy, losses.dpo, *losses.reward_losses]).detach()
        self.step += 1

    def _rate(self) -> float:
        """The share of the learning rate that this step has."""
        return 1.0


class _Training(_Optimiser):
    """All that changes while training, to be saved and restored as one."""

    def __init__(
        self, model: MTORL, train: WindowStore, valid: WindowStore, loss_config: LossConfig, config: TrainConfig
    ) -> None:
        super().__init__(model, loss_config, config, config.seed)
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
        """The rest of the current epoch, one optimiser step a time. The host never waits for the device."""
        self.model.train()
        batches = self.train.batches(
            self.config.batch_size, seed=self.config.seed, epoch=len(self.history.epochs), start_step=self.step
        )
        for batch in on_device(batches, self.device):
            self._optimise(batch)
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
        total, policy, dpo, *rewards = (self.sums / self.step).tolist()
        epoch = Epoch(total, policy, dpo, tuple(rewards), *self._validate())
        if not all(map(math.isfinite, epoch.curves(()).values())):
            raise UserError(
                f"training diverged: a loss of epoch {len(self.history.epochs) + 1} is no finite number; "
                "lower the learning rate"
            )
        self.history.epochs.append(epoch)
        if self.history.best is epoch:
            self.best_weights = {name: w.detach().cpu().clone() for name, w in self.model.state_dict().items()}
        self.step = 0
        self.sums.zero_()
        return epoch

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Policy and reward loss, means over all validation labels."""
        self.model.eval()
        sums, labels = torch.zeros(2, device=self.device), torch.zeros((), device=self.device)
        for batch in on_device(self.valid.in_order(self.config.batch_size), self.device):
            with self.autocast:
                output = self.forward(batch)
            count = batch.label_BL.sum()
            sums += count * torch.stack([policy_loss(output, batch), reward_losses(output, batch).mean()])
            labels += count
        policy, reward = (sums / labels).tolist()
        return policy, reward

    def state(self) -> dict[str, Any]:
        """Plain tensors and numbers, as load_tensors takes them."""
        return {
            "model": self.model.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "history": [asdict(epoch) for epoch in self.history.epochs],
            "step": self.step,
            "sums": self.sums,
            "pairs": self.pairs.get_state(),
            "random_cpu": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = History([Epoch(**{**e, "train_rewards": tuple(e["train_rewards"])}) for e in state["history"]])
        self.step = state["step"]
        self.sums = state["sums"].to(self.device)
        self.pairs.set_state(state["pairs"])
        torch.set_rng_state(state["random_cpu"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])


def _compiled(model: MTORL) -> Callable[[Batch], Output]:
    """The model compiled for the GPU; as it is, with a line of warning, where Triton cannot build its kernels."""
    if _can_build():
        return torch.compile(model)
    print(
        "warning: no C compiler or no Python.h for torch.compile, so training on the GPU is slower: "
        "install gcc and Python's headers (Debian: gcc python3-dev)",
        file=sys.stderr,
    )
    return model


def _can_build() -> bool:
    """Whether there are the C compiler and the Python headers that Triton looks for at its first kernel."""
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")
    headers = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return headers.is_file() and any(shutil.which(compiler) for compiler in compilers)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic kernels within; where CUDA has none, torch warns and goes on."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS at its first use
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
