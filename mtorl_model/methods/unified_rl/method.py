"""UnifiedRL as a method: from logged exposures to the weights that fuse a candidate's predictions.

Gradient boosting, or a method on candidates, predicts every objective of a candidate. The first behaviour policy is the
best static weights, as the paper starts from the weights that serve, or equal weights if validation users prefer them.
Rounds of progressive training move from there, on replays of shown exposures (chain/replay.py); validation users choose
the round, round 0 included.

Shapes: N exposures, R requests, I objectives, S state, D action.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self

import numpy as np
import torch

from mtorl_model.data.candidate_store import CandidateStore
from mtorl_model.data.candidates.encoding import CandidateEncoder
from mtorl_model.methods import register
from mtorl_model.methods.common.label_trees import state_part
from mtorl_model.methods.method import (
    CANDIDATES,
    FUSION,
    ExploredRequests,
    Floats,
    FusedScores,
    Method,
    Prediction,
    Run,
    State,
)
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.chain.boxed_policy import BoxedPolicy
from mtorl_model.methods.unified_rl.chain.config import PRESETS, UnifiedRLConfig
from mtorl_model.methods.unified_rl.chain.known_world import faults_of_learner
from mtorl_model.methods.unified_rl.chain.objective_models import (
    BOOSTING,
    BoostedObjectives,
    MethodOfObjectives,
    ObjectiveModel,
    ObjectiveModels,
)
from mtorl_model.methods.unified_rl.chain.ranking import fused_scores, usual_predictions
from mtorl_model.methods.unified_rl.chain.replay import Policy, ShownLists, explored, ranked_reward, shown_lists
from mtorl_model.methods.unified_rl.chain.requests import requests_of, states
from mtorl_model.methods.unified_rl.chain.reward import GROUPS, advice_on_weights, reward_weights, rewards
from mtorl_model.methods.unified_rl.chain.static_weights import fit_static_action
from mtorl_model.methods.unified_rl.chain.user_pairs import UserPairs
from mtorl_model.methods.unified_rl.fusion import biases_of, log_scores, powers_of
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.networks import Actor
from mtorl_model.methods.unified_rl.transitions import Transitions
from mtorl_model.training.candidate_sample import CandidateSample
from mtorl_model.training.config import FineTuneConfig
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError
from schemas.tables import FUSION_WEIGHTS

_LARGEST_START = 0.95  # of an action that an actor starts from: tanh does not reach 1


@register
class UnifiedRL(Method):
    """The paper's method on logs without candidate lists."""

    name = "unified_rl"
    reads = CANDIDATES
    predicts = frozenset({FUSION})
    publishes = (FUSION_WEIGHTS,)
    score_rows = "mtorl_model.inference.fusion_scoring:weights_table"
    fine_tunes = True
    Config = UnifiedRLConfig
    config: UnifiedRLConfig

    _predictor: ObjectiveModels
    _policy: BoxedPolicy
    weight_I: Floats  # of the objectives in the reward
    usual_I: Floats  # the usual prediction of each objective
    static_D: Floats  # the best static weights, as an action

    @classmethod
    def presets(cls, dataset: str) -> Mapping[str, UnifiedRLConfig]:
        return PRESETS

    @property
    def dataset(self) -> Dataset:
        return get_dataset(CandidateEncoder.from_json(self.encoding).dataset)

    def fit(self, train: CandidateStore, valid: CandidateStore, run: Run) -> Self:
        """Raises UserError if the contract names fewer than two objectives, or the settings fail the self-check."""
        if len(self.dataset.objectives) < 2:
            raise UserError(
                f"{self.dataset.name} has no two objectives to fuse: name them in its contract (objectives)"
            )
        if faults := self.self_check():
            raise UserError(f"{self.name} does not learn with these settings (--set): {'; '.join(faults)}")
        self._predictor, predictions_NI = ObjectiveModels.fit(train, lambda half: self._fit_half(half, valid))
        is_final_N = train.is_final_N
        train, valid, predictions_NI = self._final(train), self._final(valid), predictions_NI[is_final_N]
        if left_out := int((~is_final_N).sum()):
            run.lines.append(f"{left_out:,} exposures of training users are left out: their outcomes may still follow")
        self.weight_I = reward_weights(self.dataset, train)
        self.usual_I = usual_predictions(predictions_NI)
        self.static_D = fit_static_action(self._pairs(train), predictions_NI, self.config.learner.seed)
        self._learn_policy(train, predictions_NI, valid, run)
        return self

    def _final(self, store: CandidateStore) -> CandidateStore:
        """The rows whose outcomes are final. A conversion that may still follow would count as one that never comes."""
        if not store.is_final_N.any():
            raise UserError(
                f"no exposure of {self.dataset.name} is old enough for its outcomes to be final: train on earlier days "
                "as well"
            )
        return store.take(np.flatnonzero(store.is_final_N))

    def _fit_half(self, half: CandidateStore, valid: CandidateStore) -> ObjectiveModel:
        if self.config.predictor == BOOSTING:
            return BoostedObjectives.fit(half, self.config.trees)
        return self._untrained_predictor().fit(half, valid)

    def _restored_half(self, state: State) -> ObjectiveModel:
        if self.config.predictor == BOOSTING:
            return BoostedObjectives.from_state(state, len(self.dataset.objectives))
        return self._untrained_predictor().restored(state)

    def _untrained_predictor(self) -> MethodOfObjectives:
        return MethodOfObjectives.untrained(self.config.predictor, self.dataset.name, self)

    def _learn_policy(self, train: CandidateStore, predictions_NI: Floats, valid: CandidateStore, run: Run) -> None:
        lists, valid_pairs, valid_NI = (
            self._lists(train, predictions_NI),
            self._pairs(valid),
            self._predictor.predict(valid),
        )
        actor = self._new_actor(lists.state_RS.shape[1])
        start_D = self._better_start(valid_pairs, valid_NI)
        actor.start_at(torch.as_tensor(start_D).clamp(-_LARGEST_START, _LARGEST_START))
        self._policy = best_policy = BoxedPolicy((actor,), self.config.learner.half_width)
        best = self._report(run, 0, valid_pairs.ordered_share(self._scores(valid, valid_NI)))
        for number in range(self.config.replay.rounds if len(lists) else 0):
            self._policy = self._next_policy(lists, self._policy, self.config.learner.seed + number)
            share = self._report(run, number + 1, valid_pairs.ordered_share(self._scores(valid, valid_NI)))
            if share > best:
                best, best_policy = share, self._policy
        self._policy = best_policy
        advice = advice_on_weights([objective.name for objective in self.dataset.objectives], self.weight_I)
        run.lines += [self._weights_line(), *filter(None, [advice])]
        run.lines.append(f"{len(lists):,} requests have exposures with different rewards")

    def _next_policy(self, lists: ShownLists, behaviour: BoxedPolicy, seed: int) -> BoxedPolicy:
        """One step of progressive training (equation 7): explore around what the behaviour policy serves, and learn."""
        learner = FusionLearner(
            replace(self.config.learner, seed=seed), state=lists.state_RS.shape[1], actions=len(self.static_D),
            groups=GROUPS, previous=behaviour.actor,
        )  # fmt: skip
        learner.fit(self._explored(lists, behaviour.act, seed))
        return behaviour.followed_by(learner.actor)

    def _better_start(self, valid_pairs: UserPairs, valid_NI: Floats) -> Floats:
        """[D]: the static weights, or equal weights where these rank validation users better, as in a small log."""
        starts = (self.static_D, np.zeros_like(self.static_D))
        return max(starts, key=lambda action_D: valid_pairs.ordered_share(log_scores(valid_NI, action_D)))

    def fine_tune(self, sample: CandidateSample, config: FineTuneConfig) -> dict[str, float]:
        """One step of progressive training (equation 7), around the present policy, on the requests of _day_lists.

        The predictor and the weights of the reward do not change. config: not used, the learner has its own settings.
        """
        (_, lists), behaviour = self._day_lists(sample), self._policy
        if not len(lists):
            return {"train_requests": 0.0}
        self._policy = self._next_policy(lists, behaviour, self._day_seed(sample))
        new_RQ, old_RQ = (ranked_reward(lists, policy.act(lists.state_RS)) for policy in (self._policy, behaviour))
        return {"train_requests": float(len(lists)), "train_reward_gain": float((new_RQ - old_RQ).sum(axis=1).mean())}

    def self_check(self) -> list[str]:
        return faults_of_learner(self.config.learner)

    def explored(self, sample: CandidateSample) -> ExploredRequests:
        """See Method.explored."""
        store, lists = self._day_lists(sample)
        log = self._explored(lists, self._policy.act, self._day_seed(sample))
        draws = self.config.replay.draws
        return ExploredRequests(
            np.tile(store.exposure_id_N[lists.first_R], draws), np.repeat(np.arange(draws), len(lists)),
            powers_of(log.action_ND), biases_of(log.action_ND), powers_of(log.centre_ND), biases_of(log.centre_ND),
            self._box.density(log.centre_ND), log.reward_NQ,
        )  # fmt: skip

    def _day_lists(self, sample: CandidateSample) -> tuple[CandidateStore, ShownLists]:
        """The exposures that a day's step learns from, and their lists.

        They are those of the day. If their outcomes are not final yet, they are those of the sample's earlier days
        whose outcomes are final.
        """
        new, replay = (store.take(np.flatnonzero(store.is_final_N)) for store in (sample.new, sample.replay))
        store = new if len(new) else replay
        predictions_NI = self._predictor.predict(store) if len(store) else np.zeros(store.objectives_NI.shape)
        return store, self._lists(store, predictions_NI)

    def _day_seed(self, sample: CandidateSample) -> int:
        """Another day explores other actions."""
        return self.config.learner.seed + int(sample.new.exposed_at_ms_N.max(initial=0)) // 86_400_000

    def _lists(self, store: CandidateStore, predictions_NI: Floats) -> ShownLists:
        requests = requests_of(store, self.config.replay.list_length)
        state_RS = states(store, requests.first_R, self.dataset)
        return shown_lists(requests, state_RS, predictions_NI, rewards(store.objectives_NI, self.weight_I))

    def _explored(self, lists: ShownLists, policy: Policy, seed: int) -> Transitions:
        return explored(lists, policy, self._box, self.config.replay.draws, seed)

    @property
    def _box(self) -> Box:
        return Box(self.config.learner.half_width, self.config.learner.penalty_scale)

    @property
    def objective_weights(self) -> Floats:
        return self.weight_I

    @property
    def half_width(self) -> float:
        return self.config.learner.half_width

    def _report(self, run: Run, number: int, share: float) -> float:
        run.curves.append({"valid_mtf_gauc": share})
        run.lines.append(f"round {number}: MTF-GAUC of validation users {share:.4f}")
        if run.after_epoch:
            run.after_epoch(number, 1.0 - share)
        return share

    def _weights_line(self) -> str:
        names = (objective.name for objective in self.dataset.objectives)
        weights = ", ".join(f"{name} {weight:.3f}" for name, weight in zip(names, self.weight_I, strict=True))
        return f"weights of the reward: {weights}"

    def _new_actor(self, state: int) -> Actor:
        with torch.random.fork_rng():
            torch.manual_seed(self.config.learner.seed)
            return Actor(state, 2 * len(self.dataset.objectives), self.config.learner.hidden)

    def _pairs(self, store: CandidateStore) -> UserPairs:
        reward_N = rewards(store.objectives_NI, self.weight_I).sum(axis=1)
        return UserPairs(store.user_N, store.objectives_NI[:, 0] > 0, 1.0 + reward_N)

    def _scores(self, store: CandidateStore, predictions_NI: Floats) -> Floats:
        return fused_scores(predictions_NI, self._served(store)[0], self.usual_I)

    def _served(self, store: CandidateStore) -> tuple[Floats, Floats]:
        """The action of each exposure's request, and that of the behaviour policy; [N, D] both."""
        requests = requests_of(store, self.config.replay.list_length)
        action_RD, centre_RD = self._policy.served(states(store, requests.first_R, self.dataset))
        return action_RD[requests.request_N], centre_RD[requests.request_N]

    def predict(self, candidates: CandidateStore) -> Prediction:
        """See FusedScores; the weights are those of each row's request, [N]."""
        predictions_NI, (action_ND, centre_ND) = self._predictor.predict(candidates), self._served(candidates)
        return FusedScores(
            fused_scores(predictions_NI, action_ND, self.usual_I), predictions_NI, powers_of(action_ND),
            biases_of(action_ND), powers_of(centre_ND), biases_of(centre_ND),
        ).prediction  # fmt: skip

    def state(self) -> State:
        """The predictor, the actors from the newest on, and the arrays that are attributes."""
        parts: dict[str, State] = {"predictor": self._predictor.state()}
        parts |= {f"actor_{age:02d}": _arrays(actor) for age, actor in enumerate(reversed(self._policy.actors))}
        nested = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        return {**super().state(), **nested}

    def restore(self, state: State) -> None:
        super().restore({name: array for name, array in state.items() if "." not in name})
        self._predictor = ObjectiveModels.from_state(state_part(state, "predictor"), self._restored_half)
        names = sorted({name.partition(".")[0] for name in state if name.startswith("actor_")}, reverse=True)
        actors = tuple(self._restored(state_part(state, name)) for name in names)
        self._policy = BoxedPolicy(actors, self.config.learner.half_width)

    def _restored(self, arrays: State) -> Actor:
        weights = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        actor = self._new_actor(weights["layers.0.weight"].shape[1])
        actor.load_state_dict(weights)
        return actor

    def summary(self) -> str:
        return f"fusion of {len(self.dataset.objectives)} objectives; {self._weights_line()}"


def _arrays(actor: Actor) -> State:
    return {name: weight.numpy() for name, weight in actor.state_dict().items()}
