"""A world of sessions with ranked lists, in which the true value of a fusion policy is known.

A user opens a session and sees lists. Each list is the top of a candidate set, ranked by the fused score of predictions
of four objectives. The user reacts to each item, and after the list continues with a probability that depends on how
many of the outcomes that this user cares about the list is expected to bring, and falls with the length of the session.
So the fusion that earns most differs between users, and the fusion that earns most with one list is not the best.

Objectives conflict, as in real feeds: what an item gains in one objective it loses in the others, except for a smaller
common quality. The predictions are noisy and miscalibrated, by objective: the rarer, the noisier. A user's profile
shows what they care about, with noise.

Shapes: U sessions, one of each user; N lists; T steps; J candidates; I objectives; D = 2 I dimensions of an action; S
size of a state; P tastes.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.logistic import log_odds, sigmoid
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.fusion import log_scores
from mtorl_model.methods.unified_rl.transitions import Transitions

Floats = npt.NDArray[np.float64]
Policy = Callable[[Floats], Floats]  # states [U, S] to actions [U, D]

OBJECTIVES = ("click", "long_view", "like", "share")
ACTIONS = 2 * len(OBJECTIVES)
REWARD_GROUPS = ((1,), (0, 2, 3))  # watching, and the rest, as in equation 4
_WEIGHTS_I = np.array([0.3, 1.0, 1.5, 2.0])  # of the objectives in the reward
_BASE_RATES_I = np.array([0.35, 0.25, 0.06, 0.03])
_NOISE_I = np.array([0.3, 0.5, 0.8, 1.0], np.float32)  # of the predictions' logits
_SLOPE_I = np.array([0.7, 1.0, 1.4, 0.6], np.float32)  # by which the predictions' logits are too flat or too steep
_TASTES = 4
_USERS_AT_ONCE = 2_000
_PROFILE_NOISE = 0.4
_COMMON = 0.4  # effect of an item's quality on the logit of each objective
_CONFLICT = 1.0  # effect of an item's traits, the sum of which over the objectives is 0
_GO_ON = 0.0  # logit of continuing after an average list
_CARE = 3.0  # effect of a list's relative gain in the outcomes that the user cares about
_FATIGUE = 0.08  # fall of the logit with each step


@dataclass(frozen=True, slots=True)
class WorldSize:
    """candidates: of each list. list_length: items of a list. steps: of the longest session."""

    candidates: int = 24
    list_length: int = 6
    steps: int = 12


class World:
    """The users and items of one seed. Two worlds of one seed are equal."""

    def __init__(self, seed: int, size: WorldSize = WorldSize()):
        self.seed, self.size = seed, size
        rng = np.random.default_rng([seed, 0])
        # How tastes (of users, and of items) act on each objective, and which outcomes a user of a taste cares about.
        self._interest_PI = rng.normal(0.0, 0.6, (_TASTES, len(OBJECTIVES)))
        self._care_PI = rng.normal(0.0, 1.2, (_TASTES, len(OBJECTIVES)))
        conflict_PI = rng.normal(0.0, _CONFLICT, (_TASTES - 1, len(OBJECTIVES)))
        conflict_PI -= conflict_PI.mean(axis=1, keepdims=True)
        self._item_PI = np.vstack([conflict_PI, np.full(len(OBJECTIVES), _COMMON)]).astype(np.float32)

    @property
    def state_size(self) -> int:
        return _TASTES + 1 + len(OBJECTIVES)

    def users(self, users: int, stream: int) -> "Users":
        """New users. Another stream has other users; the same stream has the same ones."""
        return Users(self, users, np.random.default_rng([self.seed, 1, stream]))

    def explored(self, lists: int, policy: Policy, box: Box, stream: int) -> Transitions:
        """The log of whole sessions of new users with this total of lists, with actions explored around the policy.

        The session with which there would be more is left out.
        """
        parts: list[tuple[Floats, ...]] = []
        played, chunk = 0, 0
        users = min(_USERS_AT_ONCE, lists // 2 + 1)
        while played < lists:
            parts.append(self._played(users, policy, box, stream, chunk))
            played += len(parts[-1][0])
            chunk += 1
        state_NS, action_ND, reward_NQ, centre_ND, is_last_N1 = (
            np.concatenate(arrays)[:lists] for arrays in zip(*parts, strict=True)
        )
        is_last_N = is_last_N1[:, 0] > 0
        count = int(np.flatnonzero(is_last_N)[-1]) + 1
        next_N = np.where(is_last_N, -1, np.arange(len(is_last_N)) + 1)
        return Transitions(state_NS[:count], action_ND[:count], reward_NQ[:count], centre_ND[:count], next_N[:count])

    def _played(self, users: int, policy: Policy, box: Box, stream: int, chunk: int) -> tuple[Floats, ...]:
        """States, actions, rewards, centres, and whether a list is the last one, of the sessions of some users."""
        rng = np.random.default_rng([self.seed, 2, stream, chunk])
        people = Users(self, users, rng)
        session_U = np.arange(people.count)
        feedback_UI = np.zeros((people.count, len(OBJECTIVES)))
        rows: list[tuple[npt.NDArray[np.int64], ...] | tuple[Floats, ...]] = []
        for step in range(self.size.steps):
            state_US = people.states(step, feedback_UI)
            centre_UD = policy(state_US)
            action_UD = box.explored(centre_UD, rng)
            outcome = people.react(step, action_UD)
            goes_on_U = (rng.random(people.count) < outcome.goes_on_U) & (step < self.size.steps - 1)
            last_U1 = (~goes_on_U).astype(float)[:, None]
            rows.append((session_U, state_US, action_UD, _grouped(outcome.feedback_UI), centre_UD, last_U1))
            session_U, people = session_U[goes_on_U], people.take(goes_on_U)
            feedback_UI = (feedback_UI + outcome.feedback_UI)[goes_on_U]
        session_N, *arrays = (np.concatenate(column) for column in zip(*rows, strict=True))
        order_N = np.argsort(session_N, kind="stable")  # by session, the steps in their order
        return tuple(array[order_N] for array in arrays)


@dataclass(frozen=True, slots=True)
class Reaction:
    """A list's feedback, its expectation (both sums over the list), and the probability that the user continues."""

    feedback_UI: Floats
    expected_UI: Floats
    goes_on_U: Floats


class Users:
    """Users of a world, with the candidates that their session would show at each step."""

    def __init__(self, world: World, users: int, rng: np.random.Generator):
        self.world, self.size = world, world.size
        taste_UP = rng.normal(0.0, 1.0, (users, _TASTES))
        self._interest_UI = (taste_UP @ world._interest_PI).astype(np.float32)
        care_UI = np.exp(taste_UP @ world._care_PI)
        self._care_UI = care_UI / care_UI.sum(axis=1, keepdims=True)
        self._profile_UP = taste_UP + _PROFILE_NOISE * rng.normal(0.0, 1.0, taste_UP.shape)
        self._seed = int(rng.integers(2**31))

    @property
    def count(self) -> int:
        """The number of users."""
        return len(self._profile_UP)

    def take(self, chosen_U: npt.NDArray[np.bool_]) -> "Users":
        """Some of the users, with other candidates and chances."""
        users = copy.copy(self)
        for name in ("_interest_UI", "_care_UI", "_profile_UP"):
            setattr(users, name, getattr(self, name)[chosen_U])
        return users

    def with_other_lists(self, seed: int) -> "Users":
        """The same users with other candidates and chances."""
        users = copy.copy(self)
        users._seed = seed
        return users

    def value(self, policy: Policy) -> Floats:
        """[U]: the true expected reward of a session of each user, given the candidates and the feedback.

        Sessions are not ended by chance: each step counts with the probability that it is reached.
        """
        feedback_UI = np.zeros((self.count, len(OBJECTIVES)))
        reached_U, value_U = np.ones(self.count), np.zeros(self.count)
        for step in range(self.size.steps):
            outcome = self.react(step, policy(self.states(step, feedback_UI)))
            value_U += reached_U * (outcome.expected_UI @ _WEIGHTS_I)
            reached_U = reached_U * outcome.goes_on_U
            feedback_UI = feedback_UI + outcome.feedback_UI
        return value_U

    def states(self, step: int, feedback_UI: Floats) -> Floats:
        """[U, S]: profile, place in the session, and mean feedback of the session's lists so far."""
        place_U1 = np.full((self.count, 1), step / self.size.steps)
        mean_UI = feedback_UI / max(step, 1) / self.size.list_length
        return np.hstack([self._profile_UP, place_U1, mean_UI])

    def react(self, step: int, action_UD: Floats) -> Reaction:
        """The reaction to the list that this action ranks. Chances and candidates depend on user and step alone."""
        rng = np.random.default_rng([self._seed, step])
        shape = (self.count, self.size.candidates)
        logit_UJI = self._candidates(rng, shape)
        noise_UJI = _NOISE_I * rng.standard_normal(logit_UJI.shape, dtype=np.float32)
        predictions_UJI = sigmoid(_SLOPE_I * (logit_UJI + noise_UJI))
        chance_UJI = rng.random(logit_UJI.shape, dtype=np.float32)
        score_UJ = log_scores(predictions_UJI, action_UD)
        top_UL = np.argpartition(-score_UJ, self.size.list_length - 1, axis=1)[:, : self.size.list_length]
        probability_UJI = sigmoid(logit_UJI)
        list_ULI, chance_ULI = (
            np.take_along_axis(array, top_UL[..., None], axis=1) for array in (probability_UJI, chance_UJI)
        )
        relative_UI = list_ULI.mean(axis=1) / probability_UJI.mean(axis=1) - 1.0
        logit_U = _GO_ON + _CARE * (self._care_UI * np.clip(relative_UI, -1.0, 2.0)).sum(axis=1) - _FATIGUE * step
        return Reaction((chance_ULI < list_ULI).sum(axis=1).astype(float), list_ULI.sum(axis=1), sigmoid(logit_U))

    def _candidates(self, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        item_UJP = rng.standard_normal((*shape, _TASTES), dtype=np.float32)
        logits_UJI: Floats = (
            log_odds(_BASE_RATES_I).astype(np.float32) + self._interest_UI[:, None, :] + item_UJP @ self.world._item_PI
        )
        return logits_UJI


def best_fixed_actions(people: Users, *, rounds: int = 12, samples: int = 24, lists: int = 4) -> Floats:
    """[U, D]: each user's own best action, the same at every step, by the cross-entropy method.

    It is found on other lists than those of `people`, so that its value on these is unbiased.
    """
    rng = np.random.default_rng(0)
    elite = samples // 4
    mean_UD, width_UD = np.zeros((people.count, ACTIONS)), np.full((people.count, ACTIONS), 0.5)
    for number in range(rounds):
        sample_KUD = np.clip(rng.normal(mean_UD, width_UD, (samples, people.count, ACTIONS)), -1.0, 1.0)
        copies = [people.with_other_lists(1_000 * number + k) for k in range(lists)]
        value_KU = np.stack([
            np.mean([users.value(lambda _, action_UD=action_UD: action_UD) for users in copies], axis=0)
            for action_UD in sample_KUD
        ])  # fmt: skip
        best_EU = np.argsort(-value_KU, axis=0)[:elite]
        elite_EUD = np.take_along_axis(sample_KUD, best_EU[..., None], axis=0)
        mean_UD, width_UD = elite_EUD.mean(axis=0), elite_EUD.std(axis=0) + 0.02
    return mean_UD


def _grouped(feedback_UI: Floats) -> Floats:
    """[U, Q]: the weighted feedback of each group of rewards (equation 2)."""
    weighted_UI = feedback_UI * _WEIGHTS_I
    return np.stack([weighted_UI[:, list(group)].sum(axis=1) for group in REWARD_GROUPS], axis=1)
