"""One action for all users, learned in rounds: by regression on explored actions, and by an evolution strategy."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from cmaes import CMA

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import FusionConfig
from mtorl_model.methods.unified_rl.transitions import Transitions
from simulation.ranked_sessions import ACTIONS, Policy, World

Floats = npt.NDArray[np.float64]

_GENERATION = 20  # actions that the evolution strategy tries in a generation
_GENERATIONS = 3  # in a round
_NO_BOX = Box(0.0, 1.0)  # of an action that is not explored around


def constant(action_XD: Floats) -> Policy:
    """The policy with this action in every state, or with one action for each user."""
    return lambda state_US: np.broadcast_to(action_XD, (len(state_US), ACTIONS))


def static_rounds(world: World, lists: int, rounds: int, config: FusionConfig) -> Iterator[tuple[Policy, float]]:
    """After each round: the action, and the mean reward of a session of the round.

    Each round explores in the box around the action, and moves it by the slopes of the return: to the bound of the box
    if a slope exceeds its standard error, and by less if it does not.
    """
    box, action_D = Box(config.half_width, config.penalty_scale), np.zeros(ACTIONS)
    for number in range(rounds):
        log = world.explored(lists, constant(action_D), box, stream=number)
        slope_D, error_D = _slopes(log, config.discount)
        action_D = np.clip(action_D + box.half_width * np.clip(slope_D / error_D, -1.0, 1.0), -1.0, 1.0)
        yield constant(action_D), float(log.reward_NQ.sum() / (log.next_N < 0).sum())


def _slopes(log: Transitions, discount: float) -> tuple[Floats, Floats]:
    """The slopes of a step's return by its action, given its state, and their standard errors."""
    return_N = log.returns(discount).sum(axis=1)
    offset_ND = log.action_ND - log.centre_ND
    design_NK = np.column_stack([offset_ND, np.ones(len(log)), log.state_NS, log.state_NS**2])
    inverse_KK = np.linalg.pinv(design_NK.T @ design_NK)
    coefficient_K = inverse_KK @ (design_NK.T @ return_N)
    variance = (return_N - design_NK @ coefficient_K).var()
    return coefficient_K[:ACTIONS], np.sqrt(variance * np.diag(inverse_KK)[:ACTIONS])


def evolution_rounds(world: World, lists: int, rounds: int) -> Iterator[tuple[Policy, float]]:
    """After each round: the mean of CMA-ES, and the mean reward of a session of the round.

    Each action that is tried is played on an equal part of the lists, and counts with the mean reward of its sessions.
    """
    optimiser = CMA(
        mean=np.zeros(ACTIONS), sigma=0.3, bounds=np.tile([-1.0, 1.0], (ACTIONS, 1)), population_size=_GENERATION,
        seed=world.seed,
    )  # fmt: skip
    for number in range(rounds):
        rewards = []
        for generation in range(_GENERATIONS):
            tried = []
            for member in range(_GENERATION):
                action_D = optimiser.ask()
                stream = 20_000 + (number * _GENERATIONS + generation) * _GENERATION + member
                log = world.explored(lists // (_GENERATION * _GENERATIONS), constant(action_D), _NO_BOX, stream)
                rewards.append(float(log.reward_NQ.sum() / (log.next_N < 0).sum()))
                tried.append((action_D, -rewards[-1]))
            optimiser.tell(tried)
        yield constant(np.clip(optimiser.mean, -1.0, 1.0)), float(np.mean(rewards))
