"""One network of RMTL with its critics, trained in three stages.

Each finished stage is written to a checkpoint, so that a training which was killed does not repeat it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.device import choose_device
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork, build_network
from mtorl_model.methods.rmtl.config import IF_BETTER, RMTLConfig
from mtorl_model.methods.rmtl.critics import Critics
from mtorl_model.methods.rmtl.stages import Curve, loss_weights, predict, train_actor, train_critics
from mtorl_model.methods.rmtl.weight_choice import RMTL, UNWEIGHTED, weights_help
from mtorl_model.methods.rmtl.weights import WEIGHTS_TO_BEAT
from mtorl_model.training.checkpoint import load_checkpoint, save_checkpoint

AfterEpoch = Callable[[int, float], None] | None
State = dict[str, Any]


@dataclass(slots=True)
class Member:
    """critics: None without a weighting. curves: of stage 1a, and of stage 2. critic_losses: of stage 1b.

    retrained: by weighting, the weights after stage 2, until choose_weighting selects some of them.
    """

    network: MultiTaskNetwork
    critics: Critics | None = None
    curves: list[Curve] = field(default_factory=list)
    critic_losses: list[float] = field(default_factory=list)
    retrained: dict[str, State] = field(default_factory=dict)

    def parts(self) -> dict[str, nn.Module]:
        """The network and the critics by name."""
        return {"network": self.network} | ({} if self.critics is None else {"critics": self.critics})

    def use(self, retrained: State) -> None:
        """Take the network of a stage 2 in place of the pre-trained one."""
        self.network.load_state_dict(retrained["network"])
        self.curves.append(Curve(**retrained["curve"]))


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The finished stages of one member. folder: of this member only; None: they are not written."""

    folder: Path | None = None
    identity: str = ""

    def stage(self, name: str, run: Callable[[], State]) -> State:
        """The state after a stage, which is read if the stage was finished earlier, and otherwise computed by `run`."""
        if self.folder is None:
            return run()
        path = self.folder / f"{name}.pt"
        saved = load_checkpoint(path, self.identity)
        if saved is None:
            saved = run()
            save_checkpoint(path, self.identity, saved)
        return saved


NO_CHECKPOINTS = Checkpoints()


def untrained(config: RMTLConfig, sizes: CandidateSizes, seed: int, *, with_critics: bool = False) -> Member:
    """A member with random weights, which depend on the seed only."""
    torch.manual_seed(seed)
    network = build_network(config.model, sizes)
    return Member(network, Critics(config.critic, network) if with_critics else None)


def train_member(
    config: RMTLConfig,
    sizes: CandidateSizes,
    train: CandidateStore,
    valid: CandidateStore,
    *,
    seed: int,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
    after_epoch: AfterEpoch = None,
) -> Member:
    """Stages 1a, 1b and 2; without a weighting stage 1a alone. With IF_BETTER, choose_weighting must follow."""
    member, device = untrained(config, sizes, seed), str(choose_device(config.train.device))

    def train_network(network: MultiTaskNetwork, **options: Any) -> State:
        curve = train_actor(network, train, valid, config.train, seed=seed, after_epoch=after_epoch, **options)
        return {"network": network.state_dict(), "curve": asdict(curve)}

    pretrained = checkpoints.stage("pretrained", lambda: train_network(member.network))
    member.use(pretrained)
    member.network.to(device).eval()
    if config.critic.weighting == "none":
        return member

    def train_values() -> State:
        critics, losses = train_critics(
            member.network, train, config.critic, batch_size=config.train.batch_size, seed=seed, device=device
        )
        return {"critics": critics.state_dict(), "losses": losses}

    values = checkpoints.stage("critics", train_values)
    critics = Critics(config.critic, member.network).to(device).eval()
    critics.load_state_dict(values["critics"])
    member.critics, member.critic_losses = critics, values["losses"]

    def retrain(weighting: str) -> State:
        network = build_network(config.model, sizes)
        network.load_state_dict(pretrained["network"])
        critic = replace(config.critic, weighting=weighting)
        return train_network(network, weight_of=loss_weights(critics, critic, seed=seed))

    is_chosen_later = config.critic.weighting == IF_BETTER
    for weighting in (RMTL, *WEIGHTS_TO_BEAT) if is_chosen_later else (config.critic.weighting,):
        member.retrained[weighting] = checkpoints.stage(f"retrained_{weighting}", partial(retrain, weighting))
    if not is_chosen_later:
        member.use(member.retrained[config.critic.weighting])
    return member


def choose_weighting(members: Sequence[Member], valid: CandidateStore) -> str:
    """After IF_BETTER: all members use RMTL's weights if they help on validation users; returns a line about it.

    All weightings were stopped by the same users, so their losses are comparable. Without weights the critics go, too.
    """
    predicted = {UNWEIGHTED: [predict(member.network, valid) for member in members]}
    for weighting in (RMTL, *WEIGHTS_TO_BEAT):
        predicted[weighting] = [_predicted(member, weighting, valid) for member in members]
    helps, line = weights_help(predicted, valid)
    for member in members:
        if helps:
            member.use(member.retrained[RMTL])
        else:
            member.critics = None
        member.retrained.clear()
    return line


def _predicted(member: Member, weighting: str, valid: CandidateStore) -> Any:
    """(N, T): the prediction of the network that was trained with a weighting."""
    network = build_network(member.network.config, member.network.sizes)
    network.load_state_dict(member.retrained[weighting]["network"])
    return predict(network.to(next(member.network.parameters()).device), valid)
