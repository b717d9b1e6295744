"""UnifiedRL and other ways to choose fusion weights, at equal numbers of exposures, where the true value is known.

python -m simulation.fusion --out FOLDER [--seeds 20] [--first-seed 0] [--baseline-seeds 5] [--lists 30000] [--rounds 5]
    [--preset small] [--document FILE.md]

A seed is a world of simulation/ranked_sessions.py. In it every method is shown rounds x lists lists of new users.
UnifiedRL, the static weights and the evolution strategy explore in rounds, each around what the previous one
learned; the offline learners learn for as many steps from as many lists, all explored around equal weights. They are
trained in the first --baseline-seeds worlds. The value of a policy is that of a session of other users, and the regret
is the difference to each user's own best action.

Writes FOLDER/fusion.jsonl, one line for each method and seed as soon as it is known. Another start with the same
settings and code continues after the last line. Then it writes FOLDER's table and curve (simulation/fusion_report.py).
"""

import argparse
import ast
import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lakehouse.arguments import require_at_least
from mtorl_model.methods.unified_rl.box import Box
from mtorl_model.methods.unified_rl.config import NETWORK, PRESETS, FusionConfig
from mtorl_model.methods.unified_rl.learner import FusionLearner
from mtorl_model.methods.unified_rl.offline_baselines import OFFLINE_BASELINES
from mtorl_model.methods.unified_rl.offline_learner import OfflineLearner
from mtorl_model.methods.unified_rl.progressive import equal_weights, progressive_rounds
from mtorl_model.methods.unified_rl.transitions import Transitions
from schemas.errors import UserError, exit_with_one_line
from simulation.fusion_report import BEST, EQUAL, EVOLUTION, RUNS, STATIC, UNIFIED, insert_into, write_report
from simulation.ranked_sessions import ACTIONS, REWARD_GROUPS, Policy, World, best_fixed_actions
from simulation.static_fusion import constant, evolution_rounds, static_rounds

Floats = npt.NDArray[np.float64]

_TEST_USERS, _TEST_STREAM = 500, 10_000
_LEARNER = "mtorl_model.methods.unified_rl"
_MODULES = (
    *(f"{_LEARNER}.{name}" for name in ("box", "config", "fusion", "networks", "learner", "offline_learner")),
    *(f"{_LEARNER}.{name}" for name in ("offline_baselines", "progressive", "transitions")),
    "simulation.ranked_sessions", "simulation.static_fusion",
)  # fmt: skip
_MINIMUMS = {"seeds": 2, "baseline_seeds": 0, "lists": 1_000, "rounds": 1}


@dataclass(frozen=True, slots=True)
class Setting:
    """lists: of each round."""

    lists: int
    rounds: int
    config: FusionConfig


class Learned(list[tuple[Policy, float]]):
    """After each round: the policy, and the mean reward of a session while it was explored for."""


def unified(world: World, setting: Setting, **changes: Any) -> Learned:
    """UnifiedRL. changes: of its config."""
    config = replace(setting.config, seed=world.seed, **changes)
    box, served = Box(config.half_width, config.penalty_scale), []

    def explore(number: int, policy: Policy) -> Transitions:
        log = world.explored(setting.lists, policy, box, stream=number)
        served.append(session_reward(log))
        return log

    learners = progressive_rounds(config, explore, setting.rounds, **_sizes(world), groups=len(REWARD_GROUPS))
    return Learned((learner.act, served[-1]) for learner in learners)


def unified_without_progression(world: World, setting: Setting) -> Learned:
    """UnifiedRL from one log around equal weights, with all lists."""
    return _from_one_log(world, setting, partial(FusionLearner, groups=len(REWARD_GROUPS)))


def offline(world: World, setting: Setting, name: str) -> Learned:
    """An offline baseline."""
    return _from_one_log(world, setting, OFFLINE_BASELINES[name])


METHODS: Mapping[str, Callable[[World, Setting], Learned]] = {
    EQUAL: lambda world, setting: Learned([(equal_weights(ACTIONS), np.nan)]),
    STATIC: lambda world, setting: Learned(static_rounds(world, setting.lists, setting.rounds, setting.config)),
    EVOLUTION: lambda world, setting: Learned(evolution_rounds(world, setting.lists, setting.rounds)),
    UNIFIED: unified,
}
# Trained in the first seeds only.
COSTLY_METHODS: Mapping[str, Callable[[World, Setting], Learned]] = {
    "UnifiedRL without progression": unified_without_progression,
    "UnifiedRL, the paper's critics": partial(unified, critic=NETWORK),
    **{name: partial(offline, name=name) for name in OFFLINE_BASELINES},
}


def session_reward(log: Transitions) -> float:
    """The mean reward of a session."""
    return float(log.reward_NQ.sum() / (log.next_N < 0).sum())


def _from_one_log(world: World, setting: Setting, make: Callable[..., OfflineLearner]) -> Learned:
    # The steps of all rounds together.
    config = replace(setting.config, seed=world.seed, steps=setting.config.steps * setting.rounds)
    box = Box(config.half_width, config.penalty_scale)
    log = world.explored(setting.lists * setting.rounds, equal_weights(ACTIONS), box, stream=setting.rounds)
    learner = make(config, **_sizes(world))
    learner.fit(log)
    return Learned([(learner.act, session_reward(log))])


def _sizes(world: World) -> dict[str, int]:
    return {"state": world.state_size, "actions": ACTIONS}


def run_method(name: str, seed: int, setting: Setting) -> dict[str, Any]:
    """The line of a method and a seed: the true value after each round, in the order of the rounds."""
    world, started = World(seed), time.process_time()
    people = world.users(_TEST_USERS, _TEST_STREAM)
    if name == BEST:
        # Found with other lists than those on which all policies are valued.
        rounds = [(constant(best_fixed_actions(people, rounds=5, samples=12, lists=2)), np.nan)]
    else:
        rounds = (METHODS | COSTLY_METHODS)[name](world, setting)  # type: ignore[operator]
    learned_s = time.process_time() - started
    values = [float(people.value(policy).mean()) for policy, _ in rounds]
    served = [None if np.isnan(reward) else reward for _, reward in rounds]
    return {"method": name, "seed": seed, "values": values, "served": served, "processor_s": round(learned_s, 1)}


def _code() -> str:
    """Twelve hex digits over the code, without comments and docstrings, of the modules on which a value depends."""
    digest = hashlib.sha256()
    for name in _MODULES:
        tree = ast.parse(Path(importlib.import_module(name).__file__ or "").read_text())
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _read_runs(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of an earlier start. Removes an incomplete last line; a new file begins with the identity."""
    content = path.read_bytes() if path.exists() else b""
    complete = content[: content.rfind(b"\n") + 1] or json.dumps(identity).encode() + b"\n"
    recorded, *runs = [json.loads(line) for line in complete.splitlines()]
    if recorded != identity:
        names = sorted(name for name in recorded.keys() | identity.keys() if recorded.get(name) != identity.get(name))
        raise UserError(f"{path} contains runs with other {', '.join(names)}: name another folder, or remove the file")
    if complete != content:
        path.write_bytes(complete)
    return runs


def run_all(path: Path, setting: Setting, keys: list[tuple[str, int]]) -> None:
    """Run the methods and seeds that the file does not have yet, and append them."""
    identity = {"lists": setting.lists, "rounds": setting.rounds, "config": asdict(setting.config), "code": _code()}
    finished = {(run["method"], run["seed"]) for run in _read_runs(path, identity)}
    with path.open("a") as file:
        for name, seed in (key for key in keys if key not in finished):
            run = run_method(name, seed, setting)
            file.write(json.dumps(run) + "\n")
            file.flush()
            print(f"{name:<32} seed {seed:>3}: {run['values'][-1]:.3f}  ({run['processor_s']} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--baseline-seeds", type=int, default=5, help="of the offline learners")
    parser.add_argument("--lists", type=int, default=30_000, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="small")
    parser.add_argument("--document", type=Path, help="a Markdown file that receives table and curve")
    args = parser.parse_args()
    require_at_least(args, **_MINIMUMS)
    args.out.mkdir(parents=True, exist_ok=True)
    setting = Setting(args.lists, args.rounds, PRESETS[args.preset])
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    keys = [(name, seed) for seed in seeds for name in (*METHODS, BEST)]
    keys += [(name, seed) for seed in seeds[: args.baseline_seeds] for name in COSTLY_METHODS]
    run_all(args.out / RUNS, setting, keys)
    flags = (f"--{name.replace('_', '-')} {getattr(args, name)}" for name in ("first_seed", *_MINIMUMS))
    files = write_report(
        args.out, " ".join(["python -m simulation.fusion --out .fusion", *flags, f"--preset {args.preset}"])
    )
    print("\n".join(map(str, files)))
    if args.document:
        insert_into(args.document, args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
