"""The three stages of RMTL: pre-train the actor, train critics of it, retrain it with weighted losses.

Equations (1) to (8) of the paper, corrected; the comments name the departures. The paper's algorithm 1 also moves the
actor along the gradient of Q, printed with a sign that lowers Q. Its section on the implementation and the published
code keep the actor fixed while critics learn, and change it by weighted losses alone, as here.

Shapes: N exposures of whole sessions, T tasks.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.device import choose_device
from mtorl_model.data.session_batch import SessionBatch, is_known, observed, session_batches
from mtorl_model.methods.common.masks import masked_mean
from mtorl_model.methods.common.multitask import MultiTaskNetwork
from mtorl_model.methods.common.soft_update import move_towards
from mtorl_model.methods.rmtl.config import IF_BETTER, ActorTrainConfig, CriticConfig
from mtorl_model.methods.rmtl.critics import (
    SMALLEST,
    Critics,
    actions,
    critic_loss,
    rewards,
    targets,
)
from mtorl_model.methods.rmtl.weight_choice import cross_entropies
from mtorl_model.methods.rmtl.weights import WEIGHTINGS, WeightInputs
from mtorl_model.training.config import FineTuneConfig
from schemas.errors import UserError

ROWS_AT_ONCE = 8192  # of a prediction without a gradient

WeightOf = Callable[[SessionBatch, Tensor], Tensor]


@dataclass(slots=True)
class Curve:
    """The figures of each epoch of a stage, and the number of the epoch whose weights remain, from 0."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: int = 0


def weighted_loss(p_NT: Tensor, batch: SessionBatch, weight_NT: Tensor | None = None) -> Tensor:
    """Equations (1) and (8): the mean cross-entropy over exposures and tasks; weight_NT None: not weighted.

    Not in the paper: gains that may still follow. A label that is not known yet does not count, and a label without
    the task so far costs -log(1 - m p) (delayed_feedback.py).
    """
    loss_NT = F.binary_cross_entropy(observed(p_NT, batch), batch.label_NT, weight_NT, reduction="none")
    by_task = [masked_mean(loss_N, known_N) for loss_N, known_N in zip(loss_NT.T, is_known(batch).T, strict=True)]
    return torch.stack(by_task).mean()


def train_actor(
    actor: MultiTaskNetwork,
    train: CandidateStore,
    valid: CandidateStore,
    config: ActorTrainConfig,
    *,
    seed: int,
    weight_of: WeightOf | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
) -> Curve:
    """Stages 1a and 2, in place; the weights of the best epoch remain. weight_of: of a batch and its predictions.

    Batches, their order and dropout depend on the seed only. Raises UserError if a loss is not a finite number.
    """
    device = choose_device(config.device)
    actor.to(device)
    optimizer = torch.optim.Adam(actor.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    curve, best_auc, best_weights = Curve(), -np.inf, copy.deepcopy(actor.state_dict())
    for epoch in range(config.max_epochs):
        torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))  # of dropout
        actor.train()
        total, steps = torch.zeros((), device=device), 0
        for batch in session_batches(train, config.batch_size, seed=seed, epoch=epoch):
            total += _step(actor, optimizer, batch.to_device(str(device)), weight_of)
            steps += 1
        figures = {"train_loss": float(total) / steps, **validate(actor, valid)}
        if not np.isfinite(figures["train_loss"]):
            raise UserError(f"training diverged in epoch {epoch + 1}: lower the learning rate")
        curve.epochs.append(figures)
        if figures["valid_auc"] > best_auc:
            best_auc, curve.best, best_weights = figures["valid_auc"], epoch, copy.deepcopy(actor.state_dict())
        if after_epoch:
            after_epoch(epoch + 1, min(e["valid_loss"] for e in curve.epochs))
        if epoch - curve.best >= config.patience:
            break
    actor.load_state_dict(best_weights)
    actor.eval()
    return curve


def fine_tune_actor(
    actor: MultiTaskNetwork,
    batches: Iterable[SessionBatch],
    config: FineTuneConfig,
    *,
    seed: int,
    weight_of: WeightOf | None = None,
) -> float:
    """Train on these batches in place; returns the mean loss. The statistics of BatchNorm do not change."""
    torch.manual_seed(seed)
    device = str(next(actor.parameters()).device)
    optimizer = torch.optim.Adam(actor.parameters(), lr=config.learning_rate)
    actor.train()
    for module in actor.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    losses = [
        _step(actor, optimizer, batch.to_device(device), weight_of, clip=config.gradient_clip) for batch in batches
    ]
    actor.eval()
    return float(torch.stack(losses).mean()) if losses else 0.0


def _step(
    actor: MultiTaskNetwork,
    optimizer: torch.optim.Optimizer,
    batch: SessionBatch,
    weight_of: WeightOf | None,
    *,
    clip: float = 0.0,
) -> Tensor:
    """One step of the optimiser; returns the loss."""
    p_NT = actor(batch.categorical_NK, batch.numeric_NF)
    weight_NT = weight_of(batch, p_NT.detach()) if weight_of else None
    loss = weighted_loss(p_NT, batch, weight_NT)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    if clip:
        nn.utils.clip_grad_norm_(actor.parameters(), clip)
    optimizer.step()
    return loss.detach()


def train_critics(
    actor: MultiTaskNetwork, train: CandidateStore, config: CriticConfig, *, batch_size: int, seed: int, device: str
) -> tuple[Critics, list[float]]:
    """Stage 1b: critics of the frozen actor, in evaluation mode, and the mean loss of each epoch."""
    torch.manual_seed(seed)
    actor.eval()
    critics = Critics(config, actor).to(device)
    target = copy.deepcopy(critics).eval()
    optimizer = torch.optim.Adam(critics.parameters(), lr=config.critic_learning_rate)
    losses: list[float] = []
    for epoch in range(config.critic_epochs):
        critics.train()
        total, steps = torch.zeros((), device=device), 0
        for batch in session_batches(train, batch_size, seed=seed, epoch=epoch):
            total += _critic_step(critics, target, actor, optimizer, batch.to_device(device), config)
            steps += 1
        losses.append(float(total) / steps)
        if has_converged(losses, config.critic_change):
            break
    critics.eval()
    return critics, losses


def refresh_critics(
    critics: Critics, actor: MultiTaskNetwork, batches: Iterable[SessionBatch], config: CriticConfig, device: str
) -> float:
    """Train critics for a changed actor on a few batches, in place; returns the mean loss."""
    target = copy.deepcopy(critics).eval()
    actor.eval()
    critics.train()
    optimizer = torch.optim.Adam(critics.parameters(), lr=config.critic_learning_rate)
    losses = [_critic_step(critics, target, actor, optimizer, batch.to_device(device), config) for batch in batches]
    critics.eval()
    return float(torch.stack(losses).mean()) if losses else 0.0


def _critic_step(
    critics: Critics,
    target: Critics,
    actor: MultiTaskNetwork,
    optimizer: torch.optim.Optimizer,
    batch: SessionBatch,
    config: CriticConfig,
) -> Tensor:
    """One step of the optimiser, and of the targets after it; returns the loss."""
    a_NT = actions(actor, batch)
    loss = critic_loss(critics, batch, a_NT, targets(target, batch, a_NT, config.gamma))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    move_towards(target, critics, config.soft_update)  # equation (5)
    return loss.detach()


def has_converged(losses: list[float], change: float) -> bool:
    """Whether the loss has changed by less in two epochs running; (6). Published code: written, but never called."""
    return len(losses) >= 3 and all(abs(losses[-k] - losses[-k - 1]) < change for k in (1, 2))


def loss_weights(critics: Critics, config: CriticConfig, *, seed: int) -> WeightOf:
    """The weights of stage 2 as a function of a batch and the current actor's predictions.

    Critics are in evaluation mode, without a gradient. Published code: dropout is active in them.
    """
    name = "critics" if config.weighting == IF_BETTER else config.weighting
    weighting, generator = WEIGHTINGS[name], Generator().manual_seed(seed)

    @torch.no_grad()
    def weight_of(batch: SessionBatch, p_NT: Tensor) -> Tensor:
        a_NT = p_NT.clamp(SMALLEST, 1 - SMALLEST)
        q_NT = critics(batch.categorical_NK, batch.numeric_NF, a_NT)
        reward_NT = rewards(a_NT, batch)
        return weighting(WeightInputs(q_NT, reward_NT, batch, config.gamma, config.value_weight, generator))

    critics.eval()
    return weight_of


@torch.no_grad()
def predict(network: MultiTaskNetwork, candidates: CandidateStore) -> npt.NDArray[np.float64]:
    """(N, T): the probabilities of a network, which ends in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    parts = [np.zeros((0, network.sizes.tasks))]
    for start in range(0, len(candidates), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        codes_NK = torch.from_numpy(candidates.categorical_NK[rows].astype(np.int64)).to(device)
        p_NT = network(codes_NK, torch.from_numpy(candidates.numeric_NF[rows]).to(device))
        parts.append(p_NT.double().cpu().numpy())
    return np.concatenate(parts)


def validate(actor: MultiTaskNetwork, valid: CandidateStore) -> dict[str, float]:
    """Log loss and AUC of each task, and their means over the tasks."""
    p_NT = predict(actor, valid)
    losses_NT, is_known_NT = cross_entropies(p_NT, valid), valid.maturity_NT > 0
    columns = zip(valid.labels_NT.T, p_NT.T, is_known_NT.T, strict=True)
    aucs = [auc(label_N[is_known_N], p_N[is_known_N]) for label_N, p_N, is_known_N in columns]
    return {"valid_loss": float(losses_NT.sum() / is_known_NT.sum()), "valid_auc": float(np.mean(aucs))}


def auc(label_N: npt.NDArray[np.float32], p_N: npt.NDArray[np.float64]) -> float:
    """The probability that a label of 1 has the higher prediction; ties count half, and one class only gives 0.5."""
    _, rank_N = np.unique(p_N, return_inverse=True)
    positive, negative = np.bincount(rank_N, label_N), np.bincount(rank_N, 1 - label_N)
    pairs = positive.sum() * negative.sum()
    return float(positive @ (np.cumsum(negative) - negative / 2) / pairs) if pairs else 0.5
