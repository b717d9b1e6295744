"""How much value simple forms of a fusion policy can reach in the worlds of ranked_sessions.py, if the truth is known.

python -m simulation.reachable_fusion [--first-seed 200] [--seeds 5]

In each world, CMA-ES searches the weights of a policy by its true value on some users: one action for all of them, or
one that is linear in the profile. The value counts on other users, minus that of equal weights. A learner sees neither
the true value nor these users, so the figures show what a policy of this form can reach at least. Half a minute of a
processor for each world.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from cmaes import CMA

from lakehouse.arguments import require_at_least
from mtorl_model.methods.unified_rl.progressive import equal_weights
from schemas.errors import exit_with_one_line
from simulation.ranked_sessions import ACTIONS, OBJECTIVES, Policy, Users, World
from simulation.report import interval, text

Floats = npt.NDArray[np.float64]

PROFILE = World(0).state_size - 1 - len(OBJECTIVES)  # the first numbers of a state: what a user cares about, with noise
_SEARCH_STREAM, _TEST_STREAM = 9_000, 10_000  # of users; the fusion study has the second one, too


def constant_policy(weight_K: Floats) -> Policy:
    """One action for all users. K is the size of an action."""
    return lambda state_US: np.tile(np.tanh(weight_K), (len(state_US), 1))


def linear_policy(weight_K: Floats) -> Policy:
    """An action that is linear in the profile, then bounded. K is (1 + PROFILE) times the size of an action."""
    slope_PD = weight_K.reshape(1 + PROFILE, ACTIONS)
    return lambda state_US: np.tanh(np.column_stack([np.ones(len(state_US)), state_US[:, :PROFILE]]) @ slope_PD)


def best_weights(
    people: Users, form: Callable[[Floats], Policy], start_K: Floats, *, spread: float, generations: int, size: int
) -> Floats:
    """[K]: the centre of the search after these generations, each of that many policies."""
    search = CMA(mean=start_K, sigma=spread, population_size=size, seed=1)
    for _ in range(generations):
        tried = [search.ask() for _ in range(size)]
        search.tell([(weight_K, -float(people.value(form(weight_K)).mean())) for weight_K in tried])
    centre_K: Floats = search.mean
    return centre_K


def reachable_gains(seed: int, users: int = 500, generations: int = 32) -> dict[str, float]:
    """The value of each form of policy in a world, minus that of equal weights."""
    world = World(seed)
    searched, tested = world.users(users, _SEARCH_STREAM), world.users(users, _TEST_STREAM)
    equal = tested.value(equal_weights(ACTIONS)).mean()
    constant_K = best_weights(
        searched, constant_policy, np.zeros(ACTIONS), spread=0.3, generations=generations // 3 + 1, size=10
    )
    start_K = np.concatenate([constant_K, np.zeros(PROFILE * ACTIONS)])
    linear_K = best_weights(searched, linear_policy, start_K, spread=0.15, generations=generations, size=16)
    return {
        "one action for all users": float(tested.value(constant_policy(constant_K)).mean() - equal),
        "linear in the profile": float(tested.value(linear_policy(linear_K)).mean() - equal),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=200, help="the first world; default %(default)s")
    parser.add_argument("--seeds", type=int, default=5, help="worlds; default %(default)s")
    args = parser.parse_args()
    require_at_least(args, seeds=2)
    gains = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        gains.append(reachable_gains(seed))
        print(f"world {seed}: {', '.join(f'{form} {gain:+.2f}' for form, gain in gains[-1].items())}", flush=True)
    for form in gains[0]:
        print(f"{form}, minus equal weights: {text(interval(np.array([gain[form] for gain in gains])))}")


if __name__ == "__main__":
    exit_with_one_line(main)
