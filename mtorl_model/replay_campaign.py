"""Run a campaign of the champion on a log's random exposures, on users that it has never seen.

python -m mtorl_model.replay_campaign --dataset kuairand --lake DIR --from DAY --to DAY --budget EXPOSURES
    --journal FILE [--rounds K] [--strategy pairs|published|random] [--seed 0]

Killed and started again with the same arguments, it goes on from its journal. The mean reward of the matched
exposures is what the strategy would have earned an exposure, for a budget of that size.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtorl_model.artifact import Artifact
from mtorl_model.budget.channel_level import ChannelCounts, ChannelLevel, channel_level, count_steps
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.money import NANO, budget_nano
from mtorl_model.budget.procedure import Campaign, Ledger, advertise
from mtorl_model.budget.replay import Replay
from mtorl_model.budget.strategy import AtRandom, Pairs, Published, Strategy
from mtorl_model.data import WindowStore, open_windows
from mtorl_model.encoding import Encoder
from mtorl_model.prediction import WINDOWS_AT_ONCE, predict
from mtorl_model.registry import load_champion
from mtorl_model.score import base_rate
from schemas.dataset import Dataset, get_dataset
from schemas.errors import UserError, exit_with_one_line
from schemas.paths import Lake, checked_day
from schemas.splits import TEST, TRAIN

_MOST_WINDOWS = 8192  # of training users that the channel level is counted over


def level_of_training(artifact: Artifact, store: WindowStore, dataset: Dataset) -> ChannelLevel:
    """The channel level over the labels of at most _MOST_WINDOWS windows of training users; every exposure costs 1."""
    counts, tau = ChannelCounts.none(len(artifact.spec.channels)), base_rate(artifact, dataset)
    for start in range(0, min(len(store), _MOST_WINDOWS), WINDOWS_AT_ONCE):
        encoded = store.windows.take(slice(start, start + WINDOWS_AT_ONCE))
        predicted = predict(artifact, encoded.batch()).gains_BLG
        cost = np.full(encoded.label_NL.shape, NANO, dtype=np.int64)
        counts += count_steps(encoded.label_NL, encoded, predicted, tau, cost, dataset)
    return channel_level(artifact.spec.channels, counts)


def run_campaign(
    lake: Lake, dataset: Dataset, first_day: str, last_day: str, budget: int, rounds: int | None, strategy: str,
    seed: int, journal: Path,
) -> Ledger:  # fmt: skip
    """budget in nano; rounds: None for all that the log has."""
    version, artifact = load_champion(lake, dataset)
    encoder = Encoder(artifact.spec, dataset, artifact.config.reward_form)
    store = open_windows(lake, encoder, artifact.spec.first_day, artifact.spec.last_day, TRAIN)
    level = level_of_training(artifact, store, dataset)
    environment = Replay(lake, dataset, artifact.spec.channels, first_day, last_day, TEST)
    strategies: Mapping[str, Strategy] = {
        "pairs": Pairs(artifact, level, dataset),
        "published": Published(artifact, level),
        "random": AtRandom(level),
    }
    if strategy not in strategies:
        raise UserError(f"unknown strategy '{strategy}': choose one of {', '.join(strategies)}")
    memory = JourneyMemory(encoder, dataset, environment.profile, len(environment.users), artifact.config.steps)
    rounds = environment.rounds if rounds is None else min(rounds, environment.rounds)
    if rounds < 1:
        raise UserError(f"no user has two random exposures from {first_day} to {last_day}: choose more days")
    campaign = Campaign(budget, rounds, seed, f"{strategy} with {version} on {dataset.name} {first_day} to {last_day}")
    return advertise(environment, memory, strategies[strategy], level, campaign, journal)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--lake", required=True, type=Path)
    parser.add_argument("--from", dest="first_day", required=True, metavar="DAY")
    parser.add_argument("--to", dest="last_day", required=True, metavar="DAY")
    parser.add_argument("--budget", required=True, type=float, help="exposures to pay for")
    parser.add_argument("--journal", required=True, type=Path)
    parser.add_argument("--rounds", type=int, metavar="K", help="default: as many as the log has")
    parser.add_argument("--strategy", default="pairs", help="pairs (default), published or random")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    dataset = get_dataset(args.dataset)
    ledger = run_campaign(
        Lake(args.lake), dataset, checked_day(args.first_day), checked_day(args.last_day), budget_nano(args.budget),
        args.rounds, args.strategy, args.seed, args.journal,
    )  # fmt: skip
    shown = sum(ledger.exposures)
    print(f"{args.strategy}: {shown} exposures of {args.budget:g} in {len(ledger.exposures) - 1} rounds")
    for gain, counts in zip(dataset.gain_names, zip(*ledger.gains, strict=True), strict=True):
        print(f"  {gain:<12} {sum(counts) / shown if shown else 0:.4f} an exposure")


if __name__ == "__main__":
    exit_with_one_line(main)
