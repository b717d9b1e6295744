"""Run a campaign of the champion on a log's random exposures, with users whom the model has never seen.

python -m mtorl_model.replay_campaign --dataset kuairand --lake DIR --from DAY --to DAY --budget EXPOSURES
    --journal FILE [--rounds K] [--strategy pairs|composed|records|published|random] [--seed 0] [--method mtorl]

A killed run resumes from its journal when it is started again with the same arguments. The model is the latest champion
from before the campaign's first day. The output is the mean of each gain over the matched exposures, which estimates
what the strategy would have earned per exposure with a budget of that size, and its 95 % bootstrap interval over users.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lakehouse.arguments import add_lake, dataset_of, dataset_parser, lake_of, require_at_least
from mtorl_model.arguments import add_method
from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, Ledger, advertise
from mtorl_model.budget.replay import Replay, record_of_log
from mtorl_model.budget.strategy import AtRandom, Pairs, RecordPairs, Strategy, published_rule
from mtorl_model.budget.taste_fit import fit_tastes
from mtorl_model.budget.training_level import level_of_log
from mtorl_model.champion.registry import Registry
from mtorl_model.data.money import budget_nano
from mtorl_model.data.windows.store import open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, interval, quotient
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TEST, TRAIN

STRATEGIES = ("pairs", "composed", "records", "published", "random")


def run_campaign(
    registry: Registry,
    first_day: str,
    last_day: str,
    budget: int,
    rounds: int | None,
    strategy: str,
    seed: int,
    journal: Path,
) -> Ledger:
    """Run the campaign to its end, or resume it. budget: nano. rounds: None for all that the log has."""
    lake, dataset = registry.lake, registry.dataset
    version = registry.champion_before(first_day)
    if version is None:
        raise UserError(
            f"every champion of {dataset.name} in {lake.root} was trained on {first_day} or later days: choose later "
            "days, or train a first champion on earlier ones"
        )
    model = registry.load(version)
    encoder = model.encoder(dataset)
    store = open_windows(lake, encoder, model.spec.first_day, model.spec.last_day, TRAIN)
    level = level_of_log(model, store, dataset)
    environment = Replay(lake, dataset, model.spec.channels, first_day, last_day, TEST)
    tastes = None
    if strategy == "pairs":
        tastes = fit_tastes(
            record_of_log(lake, dataset, model.spec.channels, first_day, TRAIN), len(model.spec.channels)
        )
    strategies: Mapping[str, Strategy] = {
        "pairs": Pairs(model, level, dataset, tastes),
        "composed": Pairs(model, level, dataset),
        "records": RecordPairs(model, level, dataset),
        "published": published_rule(model, level),
        "random": AtRandom(level),
    }
    memory = JourneyMemory(encoder, dataset, environment.profile, len(environment.users), model.config.steps)
    rounds = environment.rounds if rounds is None else min(rounds, environment.rounds)
    if environment.rounds < 1:
        raise UserError(f"no user has two random exposures from {first_day} to {last_day}: choose more days")
    name = f"{strategy} with {version.name} on {dataset.name} {first_day} to {last_day}"
    campaign = Campaign(budget, rounds, seed, name)
    return advertise(environment, memory, strategies[strategy], level, campaign, journal)


def mean_gains(outcomes: Sequence[Outcome], gains: Sequence[str]) -> list[str]:
    """One line per gain: its mean over the exposures, with the interval over users."""
    user_N = np.concatenate([np.empty(0, np.int64), *(o.user_N[o.exposed_N] for o in outcomes)])
    gains_NG = np.concatenate([np.empty((0, len(gains)), np.int64), *(o.gains_NG[o.exposed_N] for o in outcomes)])
    if not len(user_N):
        return [f"  {gain:<12} no exposure" for gain in gains]
    sums_RK = UserBootstrap(user_N).sums(np.column_stack([np.ones(len(user_N)), gains_NG]))
    lines = []
    for gain, sum_R in zip(gains, sums_RK.T[1:], strict=True):
        mean_R = quotient(sum_R, sums_RK[:, 0])
        bounds = interval(mean_R)
        text = f"[{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "(too few users for an interval)"
        lines.append(f"  {gain:<12} {mean_R[0]:.4f} {text} per exposure")
    return lines


def main() -> None:
    parser = dataset_parser(__doc__)
    add_lake(parser)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--budget", required=True, help="exposures to pay for")
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--rounds", type=int, metavar="K", help="default: as many as the log has")
    parser.add_argument("--strategy", default="pairs", choices=STRATEGIES, help="default: pairs")
    parser.add_argument("--seed", type=int, default=0)
    add_method(parser)
    args = parser.parse_args()
    require_at_least(args, rounds=1, seed=0)
    dataset = dataset_of(args)
    ledger = run_campaign(
        Registry(lake_of(args), dataset, args.method),
        checked_day(args.first_day),
        checked_day(args.last_day),
        budget_nano(args.budget),
        args.rounds,
        args.strategy,
        args.seed,
        args.journal,
    )
    exposures, rounds = sum(ledger.exposures), max(len(ledger.exposures) - 1, 0)
    print(f"{args.strategy}: {exposures} exposures of {args.budget} in {rounds} rounds")
    print("\n".join(mean_gains(ledger.outcomes, dataset.gain_names)))


if __name__ == "__main__":
    exit_with_one_line(main)
