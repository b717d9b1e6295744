"""UnifiedRL and other ways to choose fusion weights, at equal numbers of exposures, where the true value is known.

python -m simulation.fusion [--seeds 20] [--users 1000] [--rounds 5] [--preset small] [--out fusion.json]

Every method sees rounds x users sessions of a world of simulation/ranked_sessions.py. UnifiedRL and the evolution
strategy explore in rounds, each around what the previous one learned; the other learners see as many sessions, explored
around equal weights. The value of a policy is that of a session of other users. A seed is a world; intervals are over
seeds, and differences are paired.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cmaes import CMA

from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import PRESETS, FusionConfig
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.offline_baselines import OFFLINE_BASELINES
from mtorl_model.methods.unified_rl.progressive import equal_weights, train_progressively
from mtorl_model.methods.unified_rl.transitions import Transitions
from schemas.errors import exit_with_one_line
from simulation.ranked_sessions import ACTIONS, REWARD_GROUPS, Policy, World, best_fixed_actions

Floats = npt.NDArray[np.float64]

_TEST_USERS, _TEST_STREAM = 1_000, 10_000
_GENERATION = 20  # actions that the evolution strategy tries in a generation


def learned_policies(world: World, config: FusionConfig, users: int, rounds: int) -> dict[str, Policy]:
    """The policy of each method after rounds x users sessions of this world."""
    box = Box(config.half_width, config.penalty_scale)
    sizes = {"state": world.state_size, "actions": ACTIONS}

    def explore(number: int, policy: Policy) -> Transitions:
        return world.explored(users, policy, box, stream=number)

    log = world.explored(users * rounds, equal_weights(ACTIONS), box, stream=rounds)
    unified = train_progressively(config, explore, rounds, groups=len(REWARD_GROUPS), **sizes)
    # All methods learn for the same number of steps.
    longer = replace(config, steps=config.steps * rounds)
    one_round = FusionLearner(longer, groups=len(REWARD_GROUPS), **sizes)
    one_round.fit(log)
    policies: dict[str, Policy] = {
        "equal_weights": equal_weights(ACTIONS),
        "static_weights": static_weights(log, config.discount),
        "evolution": evolution(world, users * rounds),
    }
    for name, baseline in OFFLINE_BASELINES.items():
        learner = baseline(longer, **sizes)
        learner.fit(log)
        policies[name] = learner.act
    return {**policies, "one_round": one_round.act, "unified_rl": unified.act}


def static_weights(log: Transitions, discount: float) -> Policy:
    """One action for all users: of a ridge regression of a step's return on its action, the best corner of the box."""
    return_N = log.returns(discount).sum(axis=1)
    offset_ND = log.action_ND - log.centre_ND
    gram_DD = offset_ND.T @ offset_ND + 1.0 * np.eye(ACTIONS)
    slope_D = np.linalg.solve(gram_DD, offset_ND.T @ (return_N - return_N.mean()))
    action_D = np.sign(slope_D) * np.abs(offset_ND).max(axis=0)
    return lambda state_NS: np.tile(action_D, (len(state_NS), 1))


def evolution(world: World, sessions: int) -> Policy:
    """One action for all users by CMA-ES; an action is tried on an equal part of the sessions."""
    generations = 10
    users = sessions // (generations * _GENERATION)
    optimiser = CMA(
        mean=np.zeros(ACTIONS), sigma=0.3, bounds=np.tile([-1.0, 1.0], (ACTIONS, 1)), population_size=_GENERATION,
        seed=world.seed,
    )  # fmt: skip
    for generation in range(generations):
        tried = []
        for number in range(_GENERATION):
            action_D = optimiser.ask()
            people = world.users(users, stream=20_000 + generation * _GENERATION + number)
            # The expected value of a session, which is more than a real service would observe.
            value = people.value(lambda state_US, action_D=action_D: np.tile(action_D, (len(state_US), 1))).mean()
            tried.append((action_D, -value))
        optimiser.tell(tried)
    mean_D = np.clip(optimiser.mean, -1.0, 1.0)
    return lambda state_NS: np.tile(mean_D, (len(state_NS), 1))


def true_values(world: World, policies: dict[str, Policy]) -> dict[str, float]:
    """The mean value of a session of the test users, by method; `best_fusion`: of each user's own best action."""
    people = world.users(_TEST_USERS, _TEST_STREAM)
    best_UD = best_fixed_actions(people, rounds=8, samples=16, lists=2)
    values = {name: float(people.value(policy).mean()) for name, policy in policies.items()}
    return {**values, "best_fusion": float(people.value(lambda _: best_UD).mean())}


def compare(
    seeds: int, config: FusionConfig, users: int, rounds: int, report_seed: Callable[[int], None]
) -> list[dict[str, float]]:
    """The true values of each seed's world."""
    values = []
    for seed in range(seeds):
        world = World(seed)
        values.append(true_values(world, learned_policies(world, replace(config, seed=seed), users, rounds)))
        report_seed(seed)
    return values


def table(values: list[dict[str, float]]) -> list[str]:
    """One line for each method: its value, the differences, and its share of the gain of the best fusion."""
    lines = [
        "method            value   minus equal weights      minus unified_rl         share of the best fusion's gain"
    ]
    for name in values[0]:
        value, equal_value, unified_value, best_value = (
            np.array([by_name[key] for by_name in values])
            for key in (name, "equal_weights", "unified_rl", "best_fusion")
        )
        share = (value - equal_value).mean() / (best_value - equal_value).mean()
        lines.append(
            f"{name:16} {value.mean():6.3f}   {_difference(value - equal_value)}   "
            f"{_difference(value - unified_value)}   {share:7.1%}"
        )
    return lines


def _difference(difference: Floats) -> str:
    """The mean with its 95 % interval over seeds; one seed has no interval."""
    if len(difference) < 2:
        return f"{difference.mean():+.3f} [no interval]"
    draws = np.random.default_rng(0).choice(difference, (2_000, len(difference))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--users", type=int, default=1_000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--out", type=Path, help="for the values of each seed, as JSON")
    args = parser.parse_args()
    values = compare(
        args.seeds, PRESETS[args.preset], args.users, args.rounds, lambda seed: print(f"seed {seed}", flush=True)
    )
    print("\n".join(table(values)))
    if args.out:
        args.out.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_one_line(main)
