"""Algorithm 1: advertise over rounds, update every journey after its exposure, never spend more than the budget.

What an exposure costs is known only after it. So an offer carries a bid, the most that it may cost, and is made only
where what has been spent and the bids of all open offers stay within the budget: spending is below it at every moment,
whatever the costs turn out to be, as long as the environment honours the bids. One that says it charged more is refused
with nothing booked. Offers that are no longer covered are passed over; the campaign ends with its last round, or
before it when no channel's bid is covered any more. In a round a user is offered one thing at most, and the model is
asked about all users at once before it, so batches of any size come to the same end as single offers.

Departures from the paper: eta, N and the rounds' shares of the budget are the strategy's and the campaign's; a round's
share is what is left divided by the rounds that are left, where the paper leaves open how it is spread; exploration
takes one such share, and only users whose journey is too short for the model.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mtorl_model.budget.environment import Environment, Moment, Offers, Outcome
from mtorl_model.budget.journal import Journal
from mtorl_model.budget.memory import JourneyMemory
from mtorl_model.budget.strategy import Strategy, explore
from mtorl_model.data.money import affordable, total_nano
from mtorl_model.inference.channel_level import ChannelLevel
from schemas.errors import UserError

EXPLORATION = 0  # the number of the round before the first of K
_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a run is about. Its journal is checked against it, and against the users and the environment."""

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
    outcomes: list[Outcome] = field(default_factory=list, repr=False, compare=False)  # all that was booked, in order

    @property
    def total_nano(self) -> int:
        return sum(self.spent_nano)

    def begin(self, gains: int) -> None:
        self.spent_nano.append(0)
        self.exposures.append(0)
        self.gains.append([0] * gains)

    def book(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.spent_nano[-1] += total_nano(outcome.cost_nano_N)
        self.exposures[-1] += int(outcome.shown_N.sum())
        gains_G = outcome.gains_NG[outcome.shown_N].sum(axis=0)
        self.gains[-1] = [a + int(b) for a, b in zip(self.gains[-1], gains_G, strict=True)]


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

    Raises UserError where the journal is another campaign's, another world's or damaged, or an answer breaks the
    contract. Two campaigns that are to be two for the environment differ in budget, rounds, seed or name.
    """
    ledger = Ledger()
    identity = {**asdict(campaign), "users": _digest(environment.users.to_pylist()),
                "environment": environment.fingerprint}  # fmt: skip
    with Journal(journal_path, identity) as journal:
        for past, outcome in environment.reset(_digest(identity)):
            memory.add_late_gains(past.late)
            memory.observe(outcome, past.context)
        for number in range(campaign.rounds + 1):
            left = campaign.budget_nano - ledger.total_nano
            if number not in journal.plans and left < environment.bid_nano_A.min():
                break
            moment = environment.moment(number)
            memory.add_late_gains(moment.late)
            memory.check(moment)
            if number not in journal.plans:
                rng = np.random.default_rng([campaign.seed, number])
                share = left // (campaign.rounds + 1 - number)
                choice = (
                    explore(memory, moment, level, share, rng)
                    if number == EXPLORATION
                    else strategy.choose(memory, moment, share, rng)
                )
                bid_N = environment.bid_nano_A[choice.channel_N].astype(np.int64)
                journal.plan(number, Offers(choice.user_N, choice.channel_N, bid_N))
            ledger.begin(memory.gains_UAG.shape[2])
            _offer(environment, memory, moment, number, journal, ledger, left, at_once)
    return ledger


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]


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
    plan = journal.plans[number]
    at = 0
    for outcome in journal.answers.get(number, []):
        environment.recover(number, outcome)
        left -= total_nano(outcome.cost_nano_N)
        at = int(np.flatnonzero(plan.user_N == outcome.user_N[-1])[0]) + 1
        _book(memory, moment, ledger, outcome)
    while len(covered := at + np.flatnonzero(plan.bid_nano_N[at:] <= left)):
        at = int(covered[0])  # what stands before is no longer covered, and never will be
        end = at + affordable(plan.bid_nano_N[at : at + at_once], left)
        offers = Offers(*(values_N[at:end] for values_N in plan))
        outcome = environment.step(number, *offers)
        _check(outcome, offers, memory, moment)
        journal.answer(number, outcome)
        left -= total_nano(outcome.cost_nano_N)
        at = end
        _book(memory, moment, ledger, outcome)


def _book(memory: JourneyMemory, moment: Moment, ledger: Ledger, outcome: Outcome) -> None:
    ledger.book(outcome)
    rows = np.searchsorted(moment.user_N, outcome.user_N)
    memory.observe(outcome, {name: values.take(rows) for name, values in moment.context.items()})


def _check(outcome: Outcome, offers: Offers, memory: JourneyMemory, moment: Moment) -> None:
    """The contract of Environment.step, for one batch. All of it: what is in the journal can be booked."""
    problem = _wrong_form(outcome, len(offers.user_N), memory.gains_UAG.shape[2]) or _broken_rule(
        outcome, offers, moment
    )
    if not problem:
        problem = memory.unreadable(outcome)
    if problem:
        raise UserError(f"the environment {problem}: nothing of this batch is booked; repair it and run again")


def _wrong_form(outcome: Outcome, offers: int, gains: int) -> str | None:
    whole: tuple[tuple[int, ...], str] = (offers,), "i"
    wanted = dict.fromkeys(("user_N", "at_ms_N", "channel_N", "cost_nano_N"), whole)
    wanted |= {"shown_N": ((offers,), "b"), "gains_NG": ((offers, gains), "i")}
    for name, (shape, kind) in wanted.items():
        found = np.asarray(getattr(outcome, name))
        if found.shape != shape:
            return f"answers {name} in the shape {found.shape}, where {shape} was asked"
        if found.dtype.kind != kind:
            return f"answers {name} as {found.dtype}: {'True or False' if kind == 'b' else 'whole numbers'} are asked"
    return None


def _broken_rule(outcome: Outcome, offers: Offers, moment: Moment) -> str | None:
    cost_N, shown_N = outcome.cost_nano_N, outcome.shown_N
    if not np.array_equal(outcome.user_N, offers.user_N):
        return "answers other users than were asked"
    at_ms_N = moment.at_ms_N[np.searchsorted(moment.user_N, offers.user_N)]
    rules = {
        "shows another channel than was offered": (outcome.channel_N != offers.channel_N).any(),
        "shows something before the round's moment": (outcome.at_ms_N < at_ms_N).any(),
        "charges a negative amount": (cost_N < 0).any(),
        "charges more than was bid": (cost_N > offers.bid_nano_N).any(),
        "charges for what was not shown": (cost_N[~shown_N] != 0).any(),
        "reports gains that are neither 0 nor 1": not np.isin(outcome.gains_NG, (0, 1)).all(),
    }
    return next((what for what, is_broken in rules.items() if is_broken), None)
