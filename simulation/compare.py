"""Compare strategies at equal budget in the simulator: python -m simulation.compare --out FOLDER

    [--users 400] [--seeds 20] [--curve-seeds 4] [--rounds 10] [--training-users 3000] [--trainings 3]
    [--document FILE.md] [--only STRATEGY ...] [--methods METHOD ...]

The share of a budget is relative to the full budget: the cost, at the log's mean price, of one exposure per user and
round. Everything that learns is trained --trainings times, on users of no campaign, and the seeds use these trainings
in turn. So seeds differ in users, luck and training. All strategies of a seed share the three: differences are paired.

--methods: table 3 of the paper, in which each of these methods spends the budget by the published rule: the users with
the highest predicted reward, each in a channel drawn from the averaged policy. A method that predicts no gains takes
users at random. Only these methods, MTORL and a few controls run, unless --only names others.

Writes FOLDER/comparison.jsonl, one line per campaign as soon as it ends. Another start with the same settings and code
repeats the trainings, which give the same models, and continues after the last campaign. Then it writes FOLDER's table
and curves (simulation/report.py).
"""

import argparse
import hashlib
import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lakehouse.arguments import require_at_least
from lakehouse.code_version import code_version
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, advertise
from mtorl_model.budget.strategy import AtRandom, Pairs, Published, RecordPairs, Strategy, published_rule
from mtorl_model.data.encoding import Encoder
from mtorl_model.inference.channel_level import ChannelLevel
from mtorl_model.studies.baselines.spaces import CHOICES
from schemas.errors import UserError, exit_with_one_line
from simulation.informed import Informed
from simulation.learning import MODEL, Learned, learn
from simulation.report import FIRST, ORACLE, insert_into, write_report
from simulation.simulated_log import STEPS
from simulation.simulator import DATASET, Simulator
from simulation.strategies import BoostingGainPairs, BoostingPairs, BoostingRanking, Oracle, Popularity

RUNS = "comparison.jsonl"
HEADLINE_SHARE = 0.2
CURVE_SHARES = (0.05, 0.1, 0.2, 0.4, 0.8)
# Next to the methods of --methods: MTORL by its own rule and by the taste filter, and controls without a model.
TABLE_3 = (FIRST, "MTORL as published", "records in pairs", "popularity", "random", ORACLE)
_MINIMUMS = {"users": 1, "seeds": 2, "curve_seeds": 1, "rounds": 1, "training_users": 100, "trainings": 1}


def strategies(learned: Learned, simulator: Simulator) -> Mapping[str, Strategy]:
    """By name. The report compares the others with the first."""
    model, level = learned.model, learned.level
    return {
        "tastes in pairs": Pairs(model, level, DATASET, learned.tastes),
        "MTORL in pairs": Pairs(model, level, DATASET),
        "pairs without channel level": Pairs(model, level.without_policy(), DATASET),
        "pairs without user level": Pairs(model, level, DATASET, user_level=False),
        "records in pairs": RecordPairs(model, level, DATASET),
        "boosting's gains in pairs": BoostingGainPairs(learned),
        "MTORL as published": Published(model, level),
        "published, without channel level": Published(model, level.without_policy()),
        "published, without user level": Published(model, level, user_level=False),
        "boosting ranking": BoostingRanking(learned),
        "boosting of pairs": BoostingPairs(learned),
        "popularity": Popularity(learned),
        "random": AtRandom(level),
        "informed": Informed(simulator),
        "oracle": Oracle(simulator),
        **{_published_name(name): published_rule(model, level) for name, (model, level) in learned.table_2.items()},
    }


def _published_name(method: str) -> str:
    """The strategy of a further method."""
    return f"{method} as published"


def full_budget(learned: Learned, users: int, rounds: int) -> float:
    """Nano: one exposure per user and round, at the mean price of the training log."""
    counts = learned.level.counts
    mean = (counts.cost_A.sum() + counts.cost_gained_A.sum()) / counts.exposures_A.sum()
    return float(mean) * users * rounds


def campaign(learned: Learned, name: str, users: int, rounds: int, share: float, seed: int) -> dict[str, Any]:
    """Run one campaign, with a new journal; its settings, and its figures by round."""
    simulator = Simulator(users, seed)
    strategy = strategies(learned, simulator)[name]
    # An ablation without the channel level does not use it for exploration either.
    level = learned.level.without_policy() if "without channel level" in name else _level(learned, name)
    encoder = Encoder(learned.spec, DATASET, MODEL.form.inputs)
    memory = JourneyMemory(encoder, DATASET, simulator.profile, users, STEPS)
    budget = int(share * full_budget(learned, users, rounds))
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        ledger = advertise(simulator, memory, strategy, level, Campaign(budget, rounds, seed, name), journal)
    charged = sum(simulator.truth.spent_nano)
    if not charged == ledger.total_nano <= budget:
        raise RuntimeError(f"{name}, seed {seed}: the world charged {charged} nano, the ledger has {ledger.total_nano}")
    return {"strategy": name, "share": share, "seed": seed, "budget_nano": budget, **asdict(simulator.truth)}


def _level(learned: Learned, name: str) -> ChannelLevel:
    """The channel level from which a strategy explores: of the model that it asks."""
    levels = {_published_name(method): level for method, (_, level) in learned.table_2.items()}
    return levels.get(name, learned.level)


def weights_digest(learned: Learned) -> str:
    """Twelve hex digits over the weights of the model."""
    (network,) = learned.model.networks
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


def _identity(args: argparse.Namespace, trainings: Sequence[Learned]) -> dict[str, Any]:
    """The settings, code and models on which every campaign of a file depends."""
    code = code_version("mtorl_model", "simulation") + code_version("jobs")
    return {
        "users": args.users,
        "rounds": args.rounds,
        "training_users": args.training_users,
        "code": hashlib.sha256(code.encode()).hexdigest()[:12],
        "models": [weights_digest(learned) for learned in trainings],
        **({"methods": args.methods} if args.methods else {}),
    }


def _read_campaigns(path: Path, identity: dict[str, Any]) -> list[dict[str, Any]]:
    """The campaigns of an earlier start. Removes an incomplete last line; a new file begins with the identity."""
    content = path.read_bytes() if path.exists() else b""
    complete = content[: content.rfind(b"\n") + 1]
    if not complete:
        complete = json.dumps(identity).encode() + b"\n"
    try:
        recorded, *campaigns = [json.loads(line) for line in complete.splitlines()]
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove the file, and start again") from error
    if recorded != identity:
        names = sorted(name for name in recorded.keys() | identity.keys() if recorded.get(name) != identity.get(name))
        raise UserError(
            f"{path} contains campaigns with other {', '.join(names)}: name another folder, or remove the file"
        )
    if complete != content:
        path.write_bytes(complete)
    return campaigns


def _run_campaigns(args: argparse.Namespace, trainings: Sequence[Learned], path: Path) -> None:
    """Run the campaigns that the file does not have yet, and append them."""
    campaigns = _read_campaigns(path, _identity(args, trainings))
    finished = {(run["strategy"], run["share"], run["seed"]) for run in campaigns}
    names = list(strategies(trainings[0], Simulator(1, 0)))
    if args.only or args.methods:
        chosen = args.only or [*TABLE_3, *map(_published_name, args.methods)]
        names = [name for name in names if name in chosen]
    if unknown := sorted(set(args.only or ()) - set(names)):
        raise UserError(f"--only: no strategy {', '.join(unknown)}: choose of those in docs/budget.md")
    if args.only and not {FIRST, ORACLE} <= set(names):
        raise UserError(f"--only: the report needs {FIRST} and {ORACLE}: name them too")
    keys = [(name, HEADLINE_SHARE, seed) for seed in range(args.seeds) for name in names]
    keys += [(name, share, seed) for seed in range(args.curve_seeds) for share in CURVE_SHARES for name in names]
    with path.open("a") as file:
        for name, share, seed in (key for key in dict.fromkeys(keys) if key not in finished):
            run = campaign(trainings[seed % len(trainings)], name, args.users, args.rounds, share, seed)
            file.write(json.dumps(run) + "\n")
            file.flush()
            print(f"{name:<34} {share:>5.0%} seed {seed:>2}: {sum(run['expected']):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--users", type=int, default=400, help="of each seed")
    parser.add_argument("--seeds", type=int, default=20, help="at the headline's budget")
    parser.add_argument("--curve-seeds", type=int, default=4, help="at the other budgets of the curves")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--training-users", type=int, default=3000)
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--document", type=Path, help="a Markdown file that receives table and picture")
    parser.add_argument("--only", nargs="+", metavar="STRATEGY", help="default: all")
    parser.add_argument("--methods", nargs="+", default=[], metavar="METHOD", choices=CHOICES[1:])
    args = parser.parse_args()
    require_at_least(args, **_MINIMUMS)
    args.out.mkdir(parents=True, exist_ok=True)
    trainings = [learn(args.training_users, number, args.methods) for number in range(args.trainings)]
    path = args.out / RUNS
    _run_campaigns(args, trainings, path)
    flags = (f"--{name.replace('_', '-')} {getattr(args, name)}" for name in _MINIMUMS)
    chosen = {"--only": args.only, "--methods": args.methods}
    selection = [f"{flag} {' '.join(map(shlex.quote, names))}" for flag, names in chosen.items() if names]
    files = write_report(args.out, path, " ".join(["python -m simulation.compare", *flags, *selection]))
    print("\n".join(map(str, files)))
    if args.document:
        insert_into(args.document, *files, "reward and regret by budget")


if __name__ == "__main__":
    exit_with_one_line(main)
