"""One network of RMTL with its critics, trained in three stages.

Each finished stage is written to a checkpoint, so that a training which was killed does not repeat it.
"""

import copy
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
from mtorl_model.methods.rmtl.config import IF_BETTER, CriticConfig, RMTLConfig
from mtorl_model.methods.rmtl.critics import Critics
from mtorl_model.methods.rmtl.stages import Curve, WeightOf, loss_weights, predict, train_actor, train_critics
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
    """The finished stages of a training. folder: of this training only; None: they are not written."""

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

    def within(self, name: str) -> "Checkpoints":
        """The checkpoints of a part of the training."""
        return Checkpoints(self.folder / name if self.folder else None, self.identity)


NO_CHECKPOINTS = Checkpoints()


def untrained(config: RMTLConfig, sizes: CandidateSizes, seed: int, *, with_critics: bool = False) -> Member:
    """A member with random weights, which depend on the seed only."""
    torch.manual_seed(seed)
    network = build_network(config.model, sizes)
    return Member(network, Critics(config.critic, network) if with_critics else None)


@dataclass(frozen=True, slots=True)
class Training:
    """The three stages of one member."""

    config: RMTLConfig
    sizes: CandidateSizes
    train: CandidateStore
    valid: CandidateStore
    seed: int
    checkpoints: Checkpoints = NO_CHECKPOINTS
    after_epoch: AfterEpoch = None

    @property
    def device(self) -> str:
        return str(choose_device(self.config.train.device))

    def pretrain(self) -> Member:
        """Stage 1a."""
        member = untrained(self.config, self.sizes, self.seed)
        member.use(self.checkpoints.stage("pretrained", lambda: self._train(member.network)))
        member.network.to(self.device).eval()
        return member

    def add_critics(self, member: Member) -> Critics:
        """Stage 1b, of a pre-trained member."""
        values = self.checkpoints.stage("critics", lambda: self._train_critics(member.network))
        member.critics = Critics(self.config.critic, member.network).to(self.device).eval()
        member.critics.load_state_dict(values["critics"])
        member.critic_losses = values["losses"]
        return member.critics

    def retrain(self, member: Member, critic: CriticConfig) -> State:
        """Stage 2 from a pre-trained member, which remains unchanged. critic: the weighting and lambda."""
        assert member.critics is not None
        network = build_network(self.config.model, self.sizes)
        network.load_state_dict(member.network.state_dict())
        return self._train(network, loss_weights(member.critics, critic, seed=self.seed))

    def _train(self, network: MultiTaskNetwork, weight_of: WeightOf | None = None) -> State:
        curve = train_actor(
            network, self.train, self.valid, self.config.train, seed=self.seed, weight_of=weight_of,
            after_epoch=self.after_epoch,
        )  # fmt: skip
        return {"network": network.state_dict(), "curve": asdict(curve)}

    def _train_critics(self, network: MultiTaskNetwork) -> State:
        critics, losses = train_critics(
            network, self.train, self.config.critic, batch_size=self.config.train.batch_size, seed=self.seed,
            device=self.device,
        )  # fmt: skip
        return {"critics": critics.state_dict(), "losses": losses}


def train_member(training: Training) -> Member:
    """Stages 1a, 1b and 2; without a weighting stage 1a alone. With IF_BETTER, choose_weighting must follow."""
    member, critic = training.pretrain(), training.config.critic
    if critic.weighting == "none":
        return member
    training.add_critics(member)
    is_chosen_later = critic.weighting == IF_BETTER
    for weighting in (RMTL, *WEIGHTS_TO_BEAT) if is_chosen_later else (critic.weighting,):
        run = partial(training.retrain, member, replace(critic, weighting=weighting))
        member.retrained[weighting] = training.checkpoints.stage(f"retrained_{weighting}", run)
    if not is_chosen_later:
        member.use(member.retrained.pop(critic.weighting))
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
    network = copy.deepcopy(member.network)
    network.load_state_dict(member.retrained[weighting]["network"])
    return predict(network, valid)
