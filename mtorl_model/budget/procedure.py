"""Algorithm 1: advertise over rounds, update every journey after its exposure, never spend more than the budget.

What an exposure costs is known only after it. So an offer carries a bid, the most that it may cost, and is made only
where what has been spent and the bids of all open offers stay within the budget: spending is below it at every moment,
whatever the costs turn out to be, and an environment that charges more than was bid is refused with nothing booked.
Offers that are no longer covered are passed over. In a round a user is offered one thing at most, and the model is
asked about all users at once before it, so batches of any size come to the same end as single offers.

Departures from the paper: eta, N and the rounds' shares of the budget are the strategy's and the campaign's; a round's
share is what is left divided by the rounds that are left, where the paper leaves open how it is spread; exploration
takes one such share, and only users whose journey is too short for the model.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtorl_model.budget.channel_level import ChannelLevel
from mtorl_model.budget.environment import Environment, Moment, Outcome
from mtorl_model.budget.journal import Choice, Journal
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.money import Ints, affordable, total_nano
from mtorl_model.budget.strategy import Strategy, explore
from schemas.errors import UserError

EXPLORATION = 0  # the number of the round before the first of K
_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a run is about, and what its journal is checked against."""

    budget_nano: int  # W
    rounds: int  # K
    seed: int = 0
    name: str = ""  # of the strategy, for people

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.budget_nano < 0:
            raise UserError(f"a campaign of {self.rounds} rounds and {self.budget_nano} nano: at least 1, and 0")


@dataclass(slots=True)
class Ledger:
    """What has come of it, by round: exploration first, then 1 to K as far as the budget went."""

    spent_nano: list[int] = field(default_factory=list)
    exposures: list[int] = field(default_factory=list)
    gains: list[list[int]] = field(default_factory=list)  # known with their exposure, by gain

    @property
    def total_nano(self) -> int:
        return sum(self.spent_nano)

    def begin(self, gains: int) -> None:
        self.spent_nano.append(0)
        self.exposures.append(0)
        self.gains.append([0] * gains)

    def book(self, outcome: Outcome) -> None:
        self.spent_nano[-1] += total_nano(outcome.cost_nano_N)
        self.exposures[-1] += int(outcome.shown_N.sum())
        self.gains[-1] = [a + int(b) for a, b in zip(self.gains[-1], outcome.gains_NG.sum(axis=0), strict=True)]


def advertise(
    environment: Environment,
    memory: JourneyMemory,
    strategy: Strategy,
    level: ChannelLevel,
    campaign: Campaign,
    journal_path: Path,
    *,
    at_once: int = _AT_ONCE,
) -> Ledger:
    """Run a campaign to its end, from wherever its journal stands. memory: of the environment's users, still empty.

    Raises UserError where the journal is another campaign's or damaged, or an answer breaks the contract.
    """
    ledger = Ledger()
    with Journal(journal_path, asdict(campaign)) as journal:
        for past, outcome in environment.reset():
            memory.learn(past.late)
            memory.observe(outcome, past.context)
        for number in range(campaign.rounds + 1):
            moment = environment.moment(number)
            memory.learn(moment.late)
            left = campaign.budget_nano - ledger.total_nano
            if left < environment.bid_nano_A.min():
                break  # not even the cheapest offer is covered any more
            if number not in journal.plans:
                rng = np.random.default_rng([campaign.seed, number])
                share = left // (campaign.rounds + 1 - number)
                choice = (
                    explore(memory, moment, level, share, rng)
                    if number == EXPLORATION
                    else strategy.choose(memory, moment, share, rng)
                )
                journal.plan(number, choice)
            ledger.begin(memory.gains_UAG.shape[2])
            _offer(environment, memory, moment, number, journal, ledger, left, at_once)
    return ledger


def _offer(
    environment: Environment,
    memory: JourneyMemory,
    moment: Moment,
    number: int,
    journal: Journal,
    ledger: Ledger,
    left: int,
    at_once: int,
) -> None:
    """Make the offers of a round that are not answered yet, as far as `left` (nano) covers their bids."""
    choice = journal.plans[number]
    bid_N = environment.bid_nano_A[choice.channel_N]
    at = 0
    for outcome in journal.answers.get(number, []):
        environment.recover(number, outcome)
        left -= total_nano(outcome.cost_nano_N)
        at = int(np.flatnonzero(choice.user_N == outcome.user_N[-1])[0]) + 1
        _book(memory, moment, ledger, outcome)
    while len(covered := at + np.flatnonzero(bid_N[at:] <= left)):
        at = int(covered[0])  # what stands before is no longer covered, and never will be
        offers = slice(at, at + affordable(bid_N[at : at + at_once], left))
        offered = Choice(choice.user_N[offers], choice.channel_N[offers])
        outcome = environment.step(number, *offered, bid_N[offers])
        _check(outcome, offered, bid_N[offers])
        journal.answer(number, outcome)
        left -= total_nano(outcome.cost_nano_N)
        at += len(offered.user_N)
        _book(memory, moment, ledger, outcome)


def _book(memory: JourneyMemory, moment: Moment, ledger: Ledger, outcome: Outcome) -> None:
    ledger.book(outcome)
    rows = np.searchsorted(moment.user_N, outcome.user_N)
    memory.observe(outcome, {name: values.take(rows) for name, values in moment.context.items()})


def _check(outcome: Outcome, offered: Choice, bid_N: Ints) -> None:
    """The contract of Environment.step, for one batch."""
    cost_N, shown_N = np.asarray(outcome.cost_nano_N), outcome.shown_N
    broken: dict[str, Any] = {
        "answers other users than were asked": not np.array_equal(outcome.user_N, offered.user_N),
        "shows another channel than was offered": not np.array_equal(outcome.channel_N, offered.channel_N),
        "charges an amount that is no whole number of nano": cost_N.dtype.kind not in "iu",
    }
    if not any(broken.values()):
        broken = {
            "charges a negative amount": (cost_N < 0).any(),
            "charges more than was bid": (cost_N > bid_N).any(),
            "charges for what was not shown": (cost_N[~shown_N] != 0).any(),
            "reports gains that are neither 0 nor 1": not np.isin(outcome.gains_NG, (0, 1)).all(),
        }
    for what, is_broken in broken.items():
        if is_broken:
            raise UserError(f"the environment {what}: nothing of this batch is booked; repair it and run again")
