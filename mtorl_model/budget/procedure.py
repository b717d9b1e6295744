"""Algorithm 1: advertise over rounds, update every journey after its exposure, never spend more than the budget.

The cost of an exposure is known only after it. Every offer therefore has a bid, the most that it may cost, and is made
only if the money spent so far and the bids of all open offers stay within the budget. If the environment keeps to the
bids, spending is below the budget at every moment, for any costs. If it reports a higher charge, the outcome is refused
and nothing is booked. Offers whose bid is not covered are skipped. The campaign ends with its last round, or earlier
when no channel's bid is covered. No user gets two offers in a round, and the model predicts all users before the first
offer, so batches of any size lead to the same result as single offers.

Departures from the paper: eta, N and the rounds' shares of the budget are settings of the strategy and the campaign.
The share of a round is the remaining budget divided by the remaining rounds; the paper leaves the schedule open.
Exploration gets one such share, and only users whose journey is too short for the model.
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
_BATCH_SIZE = 65_536


@dataclass(frozen=True, slots=True)
class Campaign:
    """The settings of a campaign. Its journal must have been written with the same ones."""

    budget_nano: int  # W
    rounds: int  # K
    seed: int = 0
    name: str = ""  # of the strategy, for people

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.budget_nano < 0:
            raise UserError(f"a campaign of {self.rounds} rounds and {self.budget_nano} nano: at least 1, and 0")


@dataclass(slots=True)
class Ledger:
    """The totals of each round: exploration first, then 1 to K until the budget was spent."""

    spent_nano: list[int] = field(default_factory=list)
    exposures: list[int] = field(default_factory=list)
    gains: list[list[int]] = field(default_factory=list)  # by gain; those that are known with their exposure
    outcomes: list[Outcome] = field(default_factory=list, repr=False, compare=False)  # all that were booked, in order

    @property
    def total_nano(self) -> int:
        return sum(self.spent_nano)

    def begin_round(self, gains: int) -> None:
        """gains: how many gains the dataset has."""
        self.spent_nano.append(0)
        self.exposures.append(0)
        self.gains.append([0] * gains)

    def book(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.spent_nano[-1] += total_nano(outcome.cost_nano_N)
        self.exposures[-1] += int(outcome.exposed_N.sum())
        gains_G = outcome.gains_NG[outcome.exposed_N].sum(axis=0)
        self.gains[-1] = [a + int(b) for a, b in zip(self.gains[-1], gains_G, strict=True)]


def advertise(
    environment: Environment,
    memory: JourneyMemory,
    strategy: Strategy,
    level: ChannelLevel,
    campaign: Campaign,
    journal_path: Path,
    *,
    batch_size: int = _BATCH_SIZE,
) -> Ledger:
    """Run a campaign to its end, or resume it from its journal.

    memory: of the environment's users, still empty. The environment treats two campaigns as different if they differ in
    budget, rounds, seed or name. Raises UserError if the journal belongs to another campaign or environment or is
    damaged, or if an outcome breaks the contract of Environment.step.
    """
    ledger = Ledger()
    identity = {
        **asdict(campaign),
        "users": _digest(environment.users.to_pylist()),
        "environment": environment.fingerprint,
    }
    with Journal(journal_path, identity) as journal:
        for past_moment, outcome in environment.reset(_digest(identity)):
            memory.add_late_gains(past_moment.late)
            memory.observe(outcome, past_moment.context)
        for number in range(campaign.rounds + 1):
            remaining = campaign.budget_nano - ledger.total_nano
            if number not in journal.plans and remaining < environment.bid_nano_A.min():
                break
            moment = environment.moment(number)
            memory.add_late_gains(moment.late)
            memory.check(moment)
            if number not in journal.plans:
                rng = np.random.default_rng([campaign.seed, number])
                share = remaining // (campaign.rounds + 1 - number)
                choice = (
                    explore(memory, moment, level, share, rng)
                    if number == EXPLORATION
                    else strategy.choose(memory, moment, share, rng)
                )
                bid_N = environment.bid_nano_A[choice.channel_N].astype(np.int64)
                journal.add_plan(number, Offers(choice.user_N, choice.channel_N, bid_N))
            ledger.begin_round(memory.gains_UAG.shape[2])
            _make_offers(environment, memory, moment, number, journal, ledger, remaining, batch_size)
    return ledger


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()[:16]


def _make_offers(
    environment: Environment,
    memory: JourneyMemory,
    moment: Moment,
    number: int,
    journal: Journal,
    ledger: Ledger,
    remaining: int,
    batch_size: int,
) -> None:
    """Make the offers of a round that have no outcome yet, as far as `remaining` (nano) covers their bids."""
    plan = journal.plans[number]
    position = 0
    for outcome in journal.outcomes.get(number, []):
        environment.recover(number, outcome)
        remaining -= total_nano(outcome.cost_nano_N)
        position = int(np.flatnonzero(plan.user_N == outcome.user_N[-1])[0]) + 1
        _book(memory, moment, ledger, outcome)
    while len(covered := position + np.flatnonzero(plan.bid_nano_N[position:] <= remaining)):
        position = int(covered[0])  # the offers before it are not covered, and the remaining budget only falls
        end = position + affordable(plan.bid_nano_N[position : position + batch_size], remaining)
        offers = Offers(*(values_N[position:end] for values_N in plan))
        outcome = environment.step(number, *offers)
        _require_valid(outcome, offers, memory, moment)
        journal.add_outcome(number, outcome)
        remaining -= total_nano(outcome.cost_nano_N)
        position = end
        _book(memory, moment, ledger, outcome)


def _book(memory: JourneyMemory, moment: Moment, ledger: Ledger, outcome: Outcome) -> None:
    ledger.book(outcome)
    rows = np.searchsorted(moment.user_N, outcome.user_N)
    memory.observe(outcome, {name: values.take(rows) for name, values in moment.context.items()})


def _require_valid(outcome: Outcome, offers: Offers, memory: JourneyMemory, moment: Moment) -> None:
    """Check the whole contract of Environment.step for one batch: every outcome in the journal can be booked."""
    problem = (
        _wrong_form(outcome, len(offers.user_N), memory.gains_UAG.shape[2])
        or _broken_rule(outcome, offers, moment)
        or memory.unreadable(outcome)
    )
    if problem:
        raise UserError(f"the environment {problem}: no outcome of this batch is booked; repair it and run again")


def _wrong_form(outcome: Outcome, offers: int, gains: int) -> str | None:
    integers: tuple[tuple[int, ...], str] = (offers,), "i"
    expected = dict.fromkeys(("user_N", "at_ms_N", "channel_N", "cost_nano_N"), integers)
    expected |= {"exposed_N": ((offers,), "b"), "gains_NG": ((offers, gains), "i")}
    for name, (shape, kind) in expected.items():
        values = np.asarray(getattr(outcome, name))
        if values.shape != shape:
            return f"returns {name} in the shape {values.shape} instead of {shape}"
        if values.dtype.kind != kind:
            return f"returns {name} as {values.dtype} instead of {'True or False' if kind == 'b' else 'whole numbers'}"
    return None


def _broken_rule(outcome: Outcome, offers: Offers, moment: Moment) -> str | None:
    cost_N, exposed_N = outcome.cost_nano_N, outcome.exposed_N
    if not np.array_equal(outcome.user_N, offers.user_N):
        return "returns other users than those of the offers"
    at_ms_N = moment.at_ms_N[np.searchsorted(moment.user_N, offers.user_N)]
    rules = {
        "uses another channel than was offered": (outcome.channel_N != offers.channel_N).any(),
        "reports an exposure before the round's moment": (outcome.at_ms_N < at_ms_N).any(),
        "charges a negative amount": (cost_N < 0).any(),
        "charges more than the bid": (cost_N > offers.bid_nano_N).any(),
        "charges for an offer without an exposure": (cost_N[~exposed_N] != 0).any(),
        "reports gains that are neither 0 nor 1": not np.isin(outcome.gains_NG, (0, 1)).all(),
    }
    return next((problem for problem, is_broken in rules.items() if is_broken), None)
