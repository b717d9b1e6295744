"""Run a campaign of the champion on a log's random exposures, on users that it has never seen.

python -m mtorl_model.replay_campaign --dataset kuairand --lake DIR --from DAY --to DAY --budget EXPOSURES
    --journal FILE [--rounds K] [--strategy pairs|records|published|random] [--seed 0] [--method mtorl]

Killed and started again with the same arguments, it goes on from its journal. The model is the champion as it was
before the campaign's first day. Printed is what a matched exposure brought on average, which estimates what the
strategy would have earned an exposure with a budget of that size, and its 95 % bootstrap interval over users.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lakehouse.lake import Lake
from mtorl_model.arguments import add_method
from mtorl_model.budget.environment import Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, Ledger, advertise
from mtorl_model.budget.replay import Replay
from mtorl_model.budget.strategy import AtRandom, Pairs, Published, RecordPairs, Strategy
from mtorl_model.champion.registry import Registry
from mtorl_model.data.money import NANO, budget_nano
from mtorl_model.data.window_store import WindowStore, open_windows
from mtorl_model.evaluation.bootstrap import UserBootstrap, interval, quotient
from mtorl_model.inference.channel_level import ChannelCounts, ChannelLevel, channel_level, count_steps
from mtorl_model.inference.scoring import base_rate
from mtorl_model.methods.method import WINDOWS_AT_ONCE, Method
from schemas.dataset import Dataset, get_dataset
from schemas.days import checked_day
from schemas.errors import UserError, exit_with_one_line
from schemas.splits import TEST, TRAIN

STRATEGIES = ("pairs", "records", "published", "random")
_MOST_WINDOWS = 8192  # of training users that the channel level is counted over


def level_of_training(model: Method, store: WindowStore, dataset: Dataset) -> ChannelLevel:
    """The channel level over the labels of at most _MOST_WINDOWS windows of training users; every exposure costs 1."""
    counts, tau = ChannelCounts.none(len(model.spec.channels)), base_rate(model, dataset)
    for start in range(0, min(len(store), _MOST_WINDOWS), WINDOWS_AT_ONCE):
        encoded = store.windows.take(slice(start, start + WINDOWS_AT_ONCE))
        predicted_BLG = model.predict(encoded.batch()).gains_XG
        cost = np.full(encoded.label_NL.shape, NANO, dtype=np.int64)
        counts += count_steps(encoded.label_NL, encoded, predicted_BLG, tau, cost, dataset)
    return channel_level(model.spec.channels, counts)


def run_campaign(
    registry: Registry, first_day: str, last_day: str, budget: int, rounds: int | None, strategy: str, seed: int,
    journal: Path,
) -> Ledger:  # fmt: skip
    """budget in nano; rounds: None for all that the log has."""
    lake, dataset = registry.lake, registry.dataset
    version = registry.champion_before(first_day)
    if version is None:
        raise UserError(
            f"no champion of {dataset.name} in {lake.root} has seen nothing of {first_day} and later: choose later "
            "days, or train a first champion on earlier ones"
        )
    model = registry.load(version)
    encoder = model.encoder(dataset)
    store = open_windows(lake, encoder, model.spec.first_day, model.spec.last_day, TRAIN)
    level = level_of_training(model, store, dataset)
    environment = Replay(lake, dataset, model.spec.channels, first_day, last_day, TEST)
    strategies: Mapping[str, Strategy] = {
        "pairs": Pairs(model, level, dataset),
        "records": RecordPairs(model, level, dataset),
        "published": Published(model, level),
        "random": AtRandom(level),
    }
    memory = JourneyMemory(encoder, dataset, environment.profile, len(environment.users), model.config.steps)
    rounds = environment.rounds if rounds is None else min(rounds, environment.rounds)
    if environment.rounds < 1:
        raise UserError(f"no user has two random exposures from {first_day} to {last_day}: choose more days")
    campaign = Campaign(
        budget, rounds, seed, f"{strategy} with {version.name} on {dataset.name} {first_day} to {last_day}"
    )
    return advertise(environment, memory, strategies[strategy], level, campaign, journal)


def mean_gains(outcomes: Sequence[Outcome], gains: Sequence[str]) -> list[str]:
    """One line a gain: its mean over the exposures that were shown, with the interval over users."""
    shown = [outcome.shown_N for outcome in outcomes]
    user_N = np.concatenate([np.empty(0, np.int64), *(o.user_N[s] for o, s in zip(outcomes, shown, strict=True))])
    gains_NG = np.concatenate(
        [np.empty((0, len(gains)), np.int64), *(o.gains_NG[s] for o, s in zip(outcomes, shown, strict=True))]
    )
    if not len(user_N):
        return [f"  {gain:<12} no exposure" for gain in gains]
    sums_RK = UserBootstrap(user_N).sums(np.column_stack([np.ones(len(user_N)), gains_NG]))
    lines = []
    for gain, sum_R in zip(gains, sums_RK.T[1:], strict=True):
        figure_R = quotient(sum_R, sums_RK[:, 0])
        found = interval(figure_R)
        between = f"[{found[0]:.4f}, {found[1]:.4f}]" if found else "(too few users for an interval)"
        lines.append(f"  {gain:<12} {figure_R[0]:.4f} {between} an exposure")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--budget", required=True, help="exposures to pay for")
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--rounds", type=int, metavar="K", help="default: as many as the log has")
    parser.add_argument("--strategy", default="pairs", choices=STRATEGIES, help="default: pairs")
    parser.add_argument("--seed", type=int, default=0)
    add_method(parser)
    args = parser.parse_args()
    for option, value, least in (("--rounds", args.rounds, 1), ("--seed", args.seed, 0)):
        if value is not None and value < least:
            raise UserError(f"{option} {value}: at least {least}")
    dataset = get_dataset(args.dataset)
    ledger = run_campaign(
        Registry(Lake(args.lake), dataset, args.method), checked_day(args.first_day), checked_day(args.last_day),
        budget_nano(args.budget), args.rounds, args.strategy, args.seed, args.journal,
    )  # fmt: skip
    shown = sum(ledger.exposures)
    print(f"{args.strategy}: {shown} exposures of {args.budget} in {max(len(ledger.exposures) - 1, 0)} rounds")
    print("\n".join(mean_gains(ledger.outcomes, dataset.gain_names)))


if __name__ == "__main__":
    exit_with_one_line(main)
