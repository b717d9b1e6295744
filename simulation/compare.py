"""Compare strategies at equal budget in the simulator: python -m simulation.compare --out FOLDER

    [--users 400] [--seeds 20] [--curve-seeds 4] [--rounds 10] [--training-users 3000] [--document FILE.md]

A budget's share is of the full budget: what it costs, at the log's mean price, to show every user something in every
round. One model is trained for all seeds, on users of none of them: what differs between seeds is the people and their
luck, which all strategies share, so differences are paired. Writes FOLDER/comparison.jsonl as it goes, one line a
campaign, and goes on from there when it is started again; then FOLDER's table and curves (simulation/report.py).
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.strategy import Pairs, Published, Strategy
from mtorl_model.encoding import Encoder
from mtorl_model.replay_campaign import AtRandom
from schemas.errors import UserError, exit_with_one_line
from schemas.publishing import code_version
from simulation.learning import MODEL, STEPS, Learned, learn
from simulation.report import put_into, write_report
from simulation.simulator import DATASET, Simulator
from simulation.strategies import BoostingPairs, BoostingRanking, Informed, Oracle, Popularity

RUNS = "comparison.jsonl"
HEADLINE_SHARE = 0.2
CURVE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)


def strategies(learned: Learned, simulator: Simulator) -> Mapping[str, Strategy]:
    """By name; the first is the one that the others are compared with."""
    artifact, level = learned.artifact, learned.level
    return {
        "MTORL, both levels": Pairs(artifact, level, DATASET),
        "without channel level": Pairs(artifact, level.without_policy(), DATASET),
        "without user level": Pairs(artifact, level, DATASET, user_level=False),
        "MTORL as published": Published(artifact, level),
        "published, without channel level": Published(artifact, level.without_policy()),
        "published, without user level": Published(artifact, level, user_level=False),
        "boosting ranking": BoostingRanking(learned),
        "boosting of pairs": BoostingPairs(learned),
        "popularity": Popularity(learned),
        "random": AtRandom(level),
        "informed": Informed(simulator),
        "oracle": Oracle(simulator),
    }


def full_budget(learned: Learned, users: int, rounds: int) -> float:
    """Nano: every user once in every round, at the mean price of the training log."""
    counts = learned.level.counts
    mean = (counts.cost_A.sum() + counts.cost_gained_A.sum()) / counts.exposures_A.sum()
    return float(mean) * users * rounds


def campaign(learned: Learned, name: str, users: int, rounds: int, share: float, seed: int) -> dict[str, object]:
    """One campaign, from an empty journal: its figures by round."""
    simulator = Simulator(users, seed)
    strategy = strategies(learned, simulator)[name]
    # The ablation explores without the channel level, too.
    level = learned.level.without_policy() if "without channel level" in name else learned.level
    encoder = Encoder(learned.spec, DATASET, MODEL.reward_form)
    memory = JourneyMemory(encoder, DATASET, simulator.profile, users, STEPS)
    budget = int(share * full_budget(learned, users, rounds))
    with tempfile.TemporaryDirectory() as folder:
        ledger = advertise(
            simulator, memory, strategy, level, Campaign(budget, rounds, seed, name), Path(folder) / "journal"
        )
    assert ledger.total_nano <= budget
    return {"strategy": name, "share": share, "seed": seed, "budget_nano": budget, **asdict(simulator.truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--users", type=int, default=400, help="of each seed")
    parser.add_argument("--seeds", type=int, default=20, help="at the headline's budget")
    parser.add_argument("--curve-seeds", type=int, default=4, help="at the other budgets of the curves")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--training-users", type=int, default=3000)
    parser.add_argument("--document", type=Path, help="a Markdown file to put table and picture into")
    args = parser.parse_args()
    if min(args.users, args.rounds, args.curve_seeds) < 1 or args.seeds < 2 or args.training_users < 100:
        raise UserError("--users, --rounds, --curve-seeds: at least 1; --seeds: at least 2; --training-users: 100")
    args.out.mkdir(parents=True, exist_ok=True)
    setting = {"users": args.users, "rounds": args.rounds, "training_users": args.training_users}
    identity = {**setting, "code": hashlib.sha256(
        (code_version("mtorl_model", "simulation") + code_version("jobs")).encode()).hexdigest()[:12]}  # fmt: skip
    path = args.out / RUNS
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if not lines or lines[0] != identity:
        path.write_text(json.dumps(identity) + "\n")
        lines = [identity]
    done = {(run["strategy"], run["share"], run["seed"]) for run in lines[1:]}
    learned = learn(args.training_users)
    names = list(strategies(learned, Simulator(1, 0)))
    wanted = [(name, HEADLINE_SHARE, seed) for seed in range(args.seeds) for name in names]
    wanted += [(name, share, seed) for seed in range(args.curve_seeds) for share in CURVE_SHARES for name in names]
    with path.open("a") as file:
        for key in dict.fromkeys(wanted):
            if key not in done:
                run = campaign(learned, key[0], args.users, args.rounds, key[1], key[2])
                file.write(json.dumps(run) + "\n")
                file.flush()
                print(f"{key[0]:<34} {key[1]:>5.0%} seed {key[2]:>2}: {sum(run['expected']):.2f}", flush=True)  # type: ignore[call-overload]
    print("\n".join(str(made) for made in write_report(args.out, path)))
    if args.document:
        put_into(args.document, args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
