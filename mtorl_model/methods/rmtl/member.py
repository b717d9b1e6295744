"""One network of RMTL with its critics, trained in three stages.

A finished stage is written to a checkpoint, so that a training which was killed does not repeat it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.device import choose_device
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, build_network
from mtorl_model.methods.rmtl.config import RMTLConfig
from mtorl_model.methods.rmtl.critics import Critics
from mtorl_model.methods.rmtl.stages import Curve, loss_weights, train_actor, train_critics
from mtorl_model.training.checkpoint import load_checkpoint, save_checkpoint

AfterEpoch = Callable[[int, float], None] | None


@dataclass(slots=True)
class Member:
    """critics: None without a weighting. curves: of stage 1a, and of stage 2. critic_losses: of stage 1b."""

    network: MultiTaskNetwork
    critics: Critics | None = None
    curves: list[Curve] = field(default_factory=list)
    critic_losses: list[float] = field(default_factory=list)

    def parts(self) -> dict[str, nn.Module]:
        """The network and the critics by name."""
        return {"network": self.network} | ({} if self.critics is None else {"critics": self.critics})


def untrained(config: RMTLConfig, sizes: CandidateSizes, seed: int) -> Member:
    """A member with random weights, which depend on the seed only."""
    torch.manual_seed(seed)
    network = build_network(config.model, sizes)
    return Member(network, Critics(config.critic, network) if config.critic.weighting != "none" else None)


def train_member(
    config: RMTLConfig,
    sizes: CandidateSizes,
    train: CandidateStore,
    valid: CandidateStore,
    *,
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
    after_epoch: AfterEpoch = None,
) -> Member:
    """Stages 1a, 1b and 2; without a weighting stage 1a alone. checkpoint: a file, of this training only."""
    member, device = untrained(config, sizes, seed), str(choose_device(config.train.device))
    saved = load_checkpoint(checkpoint, identity) if checkpoint else None
    if saved is None:
        member.curves = [train_actor(member.network, train, valid, config.train, seed=seed, after_epoch=after_epoch)]
        if checkpoint:
            save_checkpoint(checkpoint, identity, _stage_1a(member))
    else:
        member.network.load_state_dict(saved["network"])
        member.network.to(device).eval()
        member.curves = [Curve(**saved["curve"])]
    if member.critics is None:
        return member
    critics, member.critic_losses = train_critics(
        member.network, train, config.critic, batch_size=config.train.batch_size, seed=seed, device=device
    )
    weight_of = loss_weights(critics, config.critic, seed=seed)
    member.critics = critics
    member.curves.append(
        train_actor(member.network, train, valid, config.train, seed=seed, weight_of=weight_of, after_epoch=after_epoch)
    )
    return member


def _stage_1a(member: Member) -> dict[str, Any]:
    return {"network": member.network.state_dict(), "curve": asdict(member.curves[0])}
