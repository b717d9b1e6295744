"""RMTL: the chance of each task of an exposure whose candidate is chosen, from a multi-task network.

Stage 1a trains the network; with CriticConfig.weighting, stage 1b trains critics of it, and stage 2 trains it again
with weighted losses (stages.py). Several members, which differ in their seed, are averaged. With RMTLConfig.trees, not
in the paper, gradient boosting of the same inputs is blended with them; the weights are fitted on validation users.

The tasks are the gains of the dataset in their order; the second task is the second gain together with the first.

Shapes: N exposures, T tasks.
"""

from typing import Self

import numpy as np
import torch

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.data.device import choose_device, device
from mtorl_model.methods import register
from mtorl_model.methods.common.blend import Blend, fit_blend
from mtorl_model.methods.common.label_rows import candidate_labels
from mtorl_model.methods.common.label_trees import LabelTrees, state_part
from mtorl_model.methods.common.multitask import CandidateSizes, MultiTaskNetwork
from mtorl_model.methods.method import CANDIDATES, GAINS, Floats, Method, Prediction, Run, State
from mtorl_model.methods.rmtl.config import IF_BETTER, PRESETS, RMTLConfig
from mtorl_model.methods.rmtl.member import Checkpoints, Member, Training, choose_weighting, train_member, untrained
from mtorl_model.methods.rmtl.stages import fine_tune_actor, loss_weights, predict, refresh_critics
from mtorl_model.training.candidate_sample import CandidateSample, mixed_sessions
from mtorl_model.training.config import FineTuneConfig
from schemas.tables import TASK_PREDICTIONS


@register
class RMTL(Method):
    """The paper's method, corrected, on one of the networks in methods/common/multitask.py."""

    name = "rmtl"
    reads = CANDIDATES
    predicts = frozenset({GAINS})
    publishes = (TASK_PREDICTIONS,)
    score_rows = "mtorl_model.inference.task_scoring:tasks_table"
    fine_tunes = True
    Config = RMTLConfig
    config: RMTLConfig
    tasks: int  # of the store that it was fitted on
    members: tuple[Member, ...] = ()
    trees: LabelTrees | None = None  # None if config.trees is False
    blend: Blend | None = None  # of the networks and the trees, in this order

    @property
    def fits_latest(self) -> bool:
        return self.trees is not None

    @classmethod
    def presets(cls, dataset: str) -> dict[str, RMTLConfig]:
        return PRESETS

    def _seeds(self) -> range:
        return range(self.config.train.seed, self.config.train.seed + self.config.train.members)

    def fit(self, train: CandidateStore, valid: CandidateStore, run: Run) -> Self:
        """Train one member after another; each has a checkpoint after every stage."""
        self.tasks = len(train.task_names)
        sizes, members = candidate_sizes(self.encoding, self.tasks), []
        for seed in self._seeds():
            checkpoints = Checkpoints(run.checkpoints / str(seed) if run.checkpoints else None, run.identity)
            members.append(train_member(Training(self.config, sizes, train, valid, seed, checkpoints, run.after_epoch)))
        self.members = tuple(members)
        choice = [choose_weighting(members, valid)] if self.config.critic.weighting == IF_BETTER else []
        if self.config.trees:
            self._fit_trees(train, valid)
        run.curves = [epoch for curve in self.members[0].curves for epoch in curve.epochs]
        run.lines = [*map(_line, self.members), *choice]
        return self

    def _fit_trees(self, train: CandidateStore, valid: CandidateStore) -> None:
        """Fit the trees on training users, and the weights of the blend on validation users."""
        self.trees = self._fitted_trees(train)
        predictions = [self._networks_prediction(valid), self._trees_prediction(self.trees, valid)]
        known = candidate_labels(valid)
        self.blend = fit_blend(predictions, known.gain_NG, known.maturity_NG, known.action_N)

    def _fitted_trees(self, train: CandidateStore) -> LabelTrees:
        """Trees of these users; see gain_weights for gains that may still follow."""
        config, labels = self.config.boosting, candidate_labels(train)
        if not (train.maturity_NT == 1).all():
            labels = labels._replace(prediction=self._networks_prediction(train))
        return LabelTrees.fit(labels.at_most(config.most_labels, config.tree_seed), config, channels=1)

    def predict(self, candidates: CandidateStore) -> Prediction:
        """The prediction for every row of the store, [N]. It depends on the row's own inputs only."""
        networks = self._networks_prediction(candidates)
        if self.trees is None or self.blend is None:
            return networks
        return self.blend.predict([networks, self._trees_prediction(self.trees, candidates)])

    def _networks_prediction(self, candidates: CandidateStore) -> Prediction:
        p_NT: Floats = np.mean([predict(self._ready(member), candidates) for member in self.members], axis=0)
        return Prediction(gains_XG=p_NT)

    def _trees_prediction(self, trees: LabelTrees, candidates: CandidateStore) -> Prediction:
        return Prediction(gains_XG=trees.gain_probabilities(candidates.features()))

    def _ready(self, member: Member) -> MultiTaskNetwork:
        """The network on the device for predictions."""
        if next(member.network.parameters()).device.type != device():
            member.network.to(device())
        return member.network

    def fine_tune(self, sample: CandidateSample, config: FineTuneConfig) -> dict[str, float]:
        """Refresh the critics of the present network, then train it with their weights.

        Without a weighting the losses are not weighted. A batch has whole sessions of the day and of earlier days.
        Trees are fitted again on sample.latest. The weights of the blend do not change.
        """
        chosen = str(choose_device(config.device))
        losses: dict[str, float] = {}
        for number, member in enumerate(self.members, start=1):
            suffix = f"_{number}" if number > 1 else ""
            member.network.to(chosen)
            weight_of = None
            if member.critics is not None:
                member.critics.to(chosen)
                batches = mixed_sessions(sample, config, seed=number)
                losses[f"train_critics{suffix}"] = refresh_critics(
                    member.critics, member.network, batches, self.config.critic, chosen
                )
                weight_of = loss_weights(member.critics, self.config.critic, seed=number)
            losses[f"train_loss{suffix}"] = fine_tune_actor(
                member.network, mixed_sessions(sample, config, seed=number), config, seed=number, weight_of=weight_of
            )
        if self.trees is not None and len(sample.latest):
            self.trees = self._fitted_trees(sample.latest)
        return losses

    def state(self) -> State:
        """The tasks; the weights by number of the member, part and name; trees and blend, if there are trees."""
        state = {"tasks": np.array(self.tasks)} | {
            f"{number}.{part}.{name}": weight.detach().cpu().numpy()
            for number, member in enumerate(self.members)
            for part, module in member.parts().items()
            for name, weight in module.state_dict().items()
        }
        if self.trees is not None and self.blend is not None:
            state |= {f"trees.{name}": array for name, array in self.trees.state().items()}
            state |= {f"blend.{name}": array for name, array in self.blend.state().items()}
        return state

    def restore(self, state: State) -> None:
        self.tasks = int(state["tasks"])
        sizes, seeds = candidate_sizes(self.encoding, self.tasks), self._seeds()
        has_critics = any(name.partition(".")[2].startswith("critics.") for name in state)
        self.members = tuple(untrained(self.config, sizes, seed, with_critics=has_critics) for seed in seeds)
        tree_parts = {name: state_part(state, name) for name in ("trees", "blend")}
        no_weights = {"tasks", *tree_parts}
        weights = {name: torch.from_numpy(a) for name, a in state.items() if name.partition(".")[0] not in no_weights}
        parts = {
            f"{number}_{part}": module
            for number, member in enumerate(self.members)
            for part, module in member.parts().items()
        }
        torch.nn.ModuleDict(parts).load_state_dict({_joined(name): weight for name, weight in weights.items()})
        for member in self.members:
            member.network.eval()
        if self.config.trees:
            self.trees = LabelTrees.from_state(tree_parts["trees"], 1, sizes.tasks)
            self.blend = Blend.from_state(tree_parts["blend"])

    def summary(self) -> str:
        weights = sum(weight.numel() for weight in self.members[0].network.parameters())
        critics = f", weighted by {self.config.critic.weighting}" if self.members[0].critics else ""
        trees = " and gradient boosting" if self.trees is not None else ""
        return f"{len(self.members)} x {weights:,} weights, {self.config.model.network}{critics}{trees}"


def candidate_sizes(encoding: str, tasks: int) -> CandidateSizes:
    """The sizes of the network for an encoding of candidates."""
    encoder = CandidateEncoder.from_json(encoding)
    return CandidateSizes(vocabulary=encoder.cardinalities, numeric=len(encoder.scales), tasks=tasks)


def _joined(name: str) -> str:
    """0_network.inputs.weight of 0.network.inputs.weight."""
    number, part, weight = name.split(".", 2)
    return f"{number}_{part}.{weight}"


def _line(member: Member) -> str:
    """The training of a member as a line for the terminal."""
    curve = member.curves[-1]
    best = curve.epochs[curve.best]
    stages = f" after {len(member.critic_losses)} epochs of critics" if member.critic_losses else ""
    return (
        f"best of {len(curve.epochs)} epochs{stages} is {curve.best + 1}: validation AUC {best['valid_auc']:.4f}, "
        f"log loss {best['valid_loss']:.4f}"
    )
