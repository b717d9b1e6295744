"""Compare strategies at equal budget in the simulator: python -m simulation.compare --out FOLDER

    [--users 400] [--seeds 20] [--curve-seeds 4] [--rounds 10] [--training-users 3000] [--trainings 3]
    [--document FILE.md]

A budget's share is of the full budget: what it costs, at the log's mean price, to show every user something in every
round. Everything that learns is trained --trainings times, on users of no seed; the seeds take the trainings in turn.
So seeds differ in people, luck and training, which all strategies of a seed share: differences are paired. Writes
FOLDER/comparison.jsonl as it goes, one line a campaign, and goes on from there when it is started again with the same
settings and code, and its trainings come out the same; then FOLDER's table and curves (simulation/report.py).
"""

import argparse
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lakehouse.code_version import code_version
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.strategy import AtRandom, Pairs, Published, RecordPairs, Strategy
from mtorl_model.data.encoding import Encoder
from schemas.errors import UserError, exit_with_one_line
from simulation.learning import MODEL, STEPS, Learned, learn
from simulation.report import put_into, write_report
from simulation.simulator import DATASET, Simulator
from simulation.strategies import (
    BoostingBeliefPairs,
    BoostingPairs,
    BoostingRanking,
    Informed,
    Oracle,
    Popularity,
)

RUNS = "comparison.jsonl"
HEADLINE_SHARE = 0.2
CURVE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)


def strategies(learned: Learned, simulator: Simulator) -> Mapping[str, Strategy]:
    """By name; the first is the one that the others are compared with."""
    model, level = learned.model, learned.level
    return {
        "MTORL in pairs": Pairs(model, level, DATASET),
        "pairs without channel level": Pairs(model, level.without_policy(), DATASET),
        "pairs without user level": Pairs(model, level, DATASET, user_level=False),
        "records in pairs": RecordPairs(model, level, DATASET),
        "boosting's gains in pairs": BoostingBeliefPairs(learned),
        "MTORL as published": Published(model, level),
        "published, without channel level": Published(model, level.without_policy()),
        "published, without user level": Published(model, level, user_level=False),
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
    encoder = Encoder(learned.spec, DATASET, MODEL.form.inputs)
    memory = JourneyMemory(encoder, DATASET, simulator.profile, users, STEPS)
    budget = int(share * full_budget(learned, users, rounds))
    with tempfile.TemporaryDirectory() as folder:
        ledger = advertise(
            simulator, memory, strategy, level, Campaign(budget, rounds, seed, name), Path(folder) / "journal"
        )
    if not sum(simulator.truth.spent_nano) == ledger.total_nano <= budget:
        paid = sum(simulator.truth.spent_nano)
        raise RuntimeError(f"{name}, seed {seed}: the world was paid {paid} nano, the ledger says {ledger.total_nano}")
    return {"strategy": name, "share": share, "seed": seed, "budget_nano": budget, **asdict(simulator.truth)}


def _weights(learned: Learned) -> str:
    """What a training has come to."""
    (network,) = learned.model.networks
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def _begun(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The campaigns of an earlier start, whose torn last line is cut off; a new file begins with the identity."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        whole = json.dumps(identity).encode() + b"\n"
    found, *runs = [json.loads(line) for line in whole.splitlines()]
    if found != identity:
        names = sorted(name for name in found.keys() | identity.keys() if found.get(name) != identity.get(name))
        raise UserError(f"{path} holds campaigns of other {', '.join(names)}: name another folder, or remove the file")
    if whole != content:
        path.write_bytes(whole)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--users", type=int, default=400, help="of each seed")
    parser.add_argument("--seeds", type=int, default=20, help="at the headline's budget")
    parser.add_argument("--curve-seeds", type=int, default=4, help="at the other budgets of the curves")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--training-users", type=int, default=3000)
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--document", type=Path, help="a Markdown file to put table and picture into")
    args = parser.parse_args()
    least = {"users": 1, "seeds": 2, "curve_seeds": 1, "rounds": 1, "training_users": 100, "trainings": 1}
    options = {f"--{name.replace('_', '-')}": (getattr(args, name), low) for name, low in least.items()}
    for option, (value, low) in options.items():
        if value < low:
            raise UserError(f"{option} {value}: at least {low}")
    args.out.mkdir(parents=True, exist_ok=True)
    trained = [learn(args.training_users, number) for number in range(args.trainings)]
    identity = {
        "users": args.users, "rounds": args.rounds, "training_users": args.training_users,
        "code": hashlib.sha256(
            (code_version("mtorl_model", "simulation") + code_version("jobs")).encode()).hexdigest()[:12],
        "models": [_weights(learned) for learned in trained],
    }  # fmt: skip
    path = args.out / RUNS
    done = {(run["strategy"], run["share"], run["seed"]) for run in _begun(path, identity)}
    names = list(strategies(trained[0], Simulator(1, 0)))
    wanted = [(name, HEADLINE_SHARE, seed) for seed in range(args.seeds) for name in names]
    wanted += [(name, share, seed) for seed in range(args.curve_seeds) for share in CURVE_SHARES for name in names]
    with path.open("a") as file:
        for key in dict.fromkeys(wanted):
            if key not in done:
                run = campaign(trained[key[2] % len(trained)], key[0], args.users, args.rounds, key[1], key[2])
                file.write(json.dumps(run) + "\n")
                file.flush()
                print(f"{key[0]:<34} {key[1]:>5.0%} seed {key[2]:>2}: {sum(run['expected']):.2f}", flush=True)  # type: ignore[call-overload]
    settings = (f"{option} {value}" for option, (value, _) in options.items())
    command = " ".join(["python -m simulation.compare", *settings])
    print("\n".join(str(made) for made in write_report(args.out, path, command)))
    if args.document:
        put_into(args.document, args.out)


if __name__ == "__main__":
    exit_with_one_line(main)
