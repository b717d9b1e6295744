"""A small partner to advertise with, whose bank survives the process, and a campaign with it.

As a script it runs that campaign: python toy_campaign.py FOLDER SECONDS, and every step takes SECONDS.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from synthetic_journeys import CHANNELS, SPEC, toy_dataset

from mtorl_model.budget.environment import LateGain, Moment, Outcome
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.procedure import Campaign, Ledger, advertise
from mtorl_model.budget.strategy import Choice, Strategy
from mtorl_model.data.encoding import Encoder
from mtorl_model.data.initial_policy import InitialPolicy
from mtorl_model.inference.channel_level import ChannelCounts, ChannelLevel, channel_level
from mtorl_model.methods.mtorl.config import LossConfig, ModelConfig, MTORLConfig
from mtorl_model.methods.mtorl.method import MTORL
from mtorl_model.training.config import TrainConfig

TOY = toy_dataset()
HOUR_MS = 3_600_000


def level() -> ChannelLevel:
    return channel_level(CHANNELS, ChannelCounts(*(np.array(a) for a in ([9, 5, 2], [3, 1, 0], [4, 1, 1],
                                                                        [90, 50, 20], [60, 20, 0]))))  # fmt: skip


class InTurn:
    """All users, in an order and in channels that the generator draws."""

    def choose(self, memory: JourneyMemory, moment: Moment, budget: int, rng: np.random.Generator) -> Choice:
        return Choice(rng.permutation(moment.user_N), rng.integers(0, len(CHANNELS), len(moment.user_N)))


class Partner:
    """Charges the price `cost_RUA`; an offer whose price is above its bid leads to no exposure.

    bank: the charge of each (round, user), also in a file if a path is given, so that a kill does not lose it.
    """

    def __init__(self, cost_RUA, bid_nano_A, budget: int, bank: Path | None = None, *, pause_s: float = 0.0):
        self._cost_RUA, self.bid_nano_A = np.asarray(cost_RUA), np.asarray(bid_nano_A)
        self._budget, self._path, self._pause_s = budget, bank, pause_s
        users = self._cost_RUA.shape[1]
        self.users = pa.array(np.arange(users))
        self.profile = {"age": pa.array(30.0 + np.arange(users))}
        self.bank: dict[tuple[int, int], int] = {}
        self.recovered: list[tuple[int, int]] = []
        if bank and bank.exists():
            for line in bank.read_text().splitlines():
                number, user, cost = json.loads(line)
                assert (number, user) not in self.bank, "charged twice"
                self.bank[number, user] = cost

    @property
    def charged(self) -> int:
        return sum(self.bank.values())

    fingerprint = "toy"

    def reset(self, campaign: str = "") -> Iterator[tuple[Moment, Outcome]]:
        self.campaign = campaign
        users = np.arange(len(self.users))
        for k in range(2):
            yield self._moment(k - 2, users[k:]), self._outcome(k - 2, users[k:], users[k:] % 3, 0 * users[k:] == 0)

    def moment(self, number: int) -> Moment:
        return self._moment(number, np.arange(len(self.users)))

    def _moment(self, number: int, user_N) -> Moment:
        at_ms = (number + 2) * HOUR_MS
        late = (LateGain(0, 1, 1, at_ms - 1),) if number == 1 else ()
        return Moment(
            user_N, np.full(len(user_N), at_ms), {"hour": pa.array([number % 24] * len(user_N), pa.int32())}, late
        )

    def step(self, number: int, user_N, channel_N, bid_nano_N) -> Outcome:
        time.sleep(self._pause_s)
        new = [k for k, user in enumerate(user_N.tolist()) if (number, user) not in self.bank]
        assert self.charged + sum(bid_nano_N[new].tolist()) <= self._budget, "bids beyond the budget"
        price_N = self._cost_RUA[number, user_N, channel_N]
        exposed_N = price_N <= bid_nano_N
        for k in new:
            self.bank[number, int(user_N[k])] = int(price_N[k]) if exposed_N[k] else 0
            if self._path:
                with self._path.open("a") as file:
                    file.write(json.dumps([number, int(user_N[k]), self.bank[number, int(user_N[k])]]) + "\n")
        return self._outcome(number, user_N, channel_N, exposed_N)

    def recover(self, number: int, outcome: Outcome) -> None:
        self.recovered += [(number, int(user)) for user in outcome.user_N]

    def _outcome(self, number: int, user_N, channel_N, exposed_N) -> Outcome:
        click_N = ((user_N + number + channel_N) % 2) * exposed_N
        price_N = self._cost_RUA[number, user_N, channel_N] if number >= 0 else np.zeros(len(user_N), np.int64)
        return Outcome(
            user_N, np.full(len(user_N), (number + 2) * HOUR_MS), channel_N, exposed_N,
            np.stack([click_N, 0 * click_N], axis=1), np.where(exposed_N, price_N, 0),
            {"campaign": ["spring" if c else "summer" for c in channel_N.tolist()]},
        )  # fmt: skip


def empty_memory(partner: Partner) -> JourneyMemory:
    return JourneyMemory(Encoder(SPEC, TOY), TOY, partner.profile, len(partner.users), 4)


def run(
    partner: Partner, budget: int, journal: Path, *, batch_size: int, rounds: int, strategy: Strategy | None = None
) -> tuple[Ledger, JourneyMemory]:
    memory = empty_memory(partner)
    campaign = Campaign(budget, rounds, seed=5, name="in turn")
    return advertise(partner, memory, strategy or InTurn(), level(), campaign, journal, batch_size=batch_size), memory


def untrained() -> MTORL:
    config = MTORLConfig(ModelConfig(hidden=16, dropout=0.3, steps=4), LossConfig(), TrainConfig(seed=1))
    initial = InitialPolicy(CHANNELS, (0.5, 0.3, 0.2), {"click": 0.25, "sale": 0.125}, (0.5, 0.3, 0.2))
    return MTORL(config, SPEC, initial).initialise()


def killed_campaign(folder: Path, pause_s: float) -> tuple[Partner, int, int]:
    rounds, budget = 6, 20_000
    cost = np.random.default_rng(1).integers(0, 120, (rounds + 1, 60, len(CHANNELS)))
    return Partner(cost, [100, 100, 100], budget, folder / "bank.jsonl", pause_s=pause_s), budget, rounds


if __name__ == "__main__":
    partner, budget, rounds = killed_campaign(Path(sys.argv[1]), float(sys.argv[2]))
    print("ready", flush=True)
    ledger, _ = run(partner, budget, Path(sys.argv[1]) / "journal", batch_size=7, rounds=rounds)
    print("total", ledger.total_nano, flush=True)
