"""The generator's world as an environment: drifting interests, fatigue, rare late conversions, costs by channel.

Its truth is jobs/generator/behaviour.py. Users first live through a past in which the policy of the Criteo log chooses
their channels; then the campaign begins. A round lasts HOURS, and in it every user can get an offer.

The outcomes of all users in all channels are drawn at the start of a round. So an outcome does not depend on the other
offers, their order or their batches, and all strategies have the same luck. An offer whose price is above its bid leads
to no exposure, as in an auction.

Shapes: U users, N of them, C channels, G gains.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from jobs.generator.behaviour import BehaviourModel, Floats, Outcomes, State, criteo_world
from jobs.generator.criteo import POLICY
from jobs.generator.policy import LoggingPolicy
from mtorl_model.budget.environment import LateGain, Moment, Outcome
from mtorl_model.budget.strategy import draw
from mtorl_model.data.money import Ints, cost_nano
from schemas.dataset import get_dataset
from schemas.errors import UserError

DATASET = get_dataset("criteo")
WEIGHTS = np.array([gain.weight for gain in DATASET.gains])
HOURS = 8
PAST_ROUNDS = 24
_HOUR_MS = 3_600_000
_START_MS = 1_483_228_800_000  # 2017-01-01, as the dataset's contract counts
_CLICK, _CONVERSION = 0, 1
_BID_FACTOR = 8  # a bid is this many times the mean price of a click: very few exposures cost more
_PEOPLE, _LUCK, _DRIFT, _HABIT = range(4)  # streams of random numbers


@dataclass(slots=True)
class Truth:
    """The rewards of a campaign by round: the fused reward of equation 18, 0 to 1 per exposure."""

    expected: list[float] = field(default_factory=list)  # by the probabilities at the moment of each exposure
    realised: list[float] = field(default_factory=list)  # by the outcomes, with conversions that are not known yet
    exposures: list[int] = field(default_factory=list)
    spent_nano: list[int] = field(default_factory=list)


class ObservedClicks(NamedTuple):
    """The exposures of a step and their clicks. round_number: negative in the past."""

    round_number: int
    user_N: Ints
    channel_N: Ints
    click_N: Ints


class Simulator:
    """Users of one seed. The same seed and offers give the same outcomes."""

    def __init__(
        self, users: int, seed: int, world: BehaviourModel | None = None, policy: LoggingPolicy = POLICY
    ) -> None:
        """policy: chooses the channels of the past."""
        self.world, self.policy = world or criteo_world(), policy
        if self.world.cost_C is None:
            raise UserError("a world without costs has no budget to spend: give it cost_C")
        self.cost_C = self.world.cost_C
        self.users = pa.array(np.arange(users))
        self.profile: dict[str, pa.Array] = {}
        self.bid_nano_A: Ints = cost_nano(_BID_FACTOR * self.cost_C * (1 + self.world.click_surcharge))
        self._seed = seed
        self.fingerprint = f"seed {seed}, {self.world}"
        self.reset_world()

    def reset_world(self) -> None:
        users = len(self.users)
        rng = self._rng(_PEOPLE, 0)
        self.state: State = self.world.initial_state(users, rng)
        self._activity_U = rng.beta(2.0, 1.5, users)  # probability of an exposure in a round of the past
        self.round_number = -PAST_ROUNDS - 1  # the current round; rounds of the past are negative
        self._pending: list[LateGain] = []
        self.truth = Truth()
        # By round of the past: full outcomes, late ones included; propensities; when its conversions become known.
        self.past_gains: list[Ints] = []
        self.past_propensities: list[Floats] = []  # of the channel that was chosen
        self.past_known_at_ms: list[Ints] = []
        self.observed: list[ObservedClicks] = []

    def reset(self, campaign: str = "") -> Iterator[tuple[Moment, Outcome]]:
        self.reset_world()
        for number in range(-PAST_ROUNDS, 0):
            self._begin(number)
            rng = self._rng(_HABIT, number)
            active_U = rng.random(len(self.users)) < self._activity_U
            user_N = np.flatnonzero(active_U)
            probability_UC = self.policy.probabilities(self.world, self.state)
            channel_N = draw(probability_UC, rng)[user_N]
            self.past_propensities.append(probability_UC[user_N, channel_N])
            moment = self._moment(number)
            rows = pa.array(user_N)
            context = {name: values.take(rows) for name, values in moment.context.items()}
            past_moment = Moment(user_N, moment.at_ms_N[user_N], context, moment.late)
            unlimited_N = np.full(len(user_N), np.iinfo(np.int64).max)
            outcome = self._outcome(user_N, channel_N, unlimited_N)
            self.past_gains.append(self._gains(user_N, channel_N))
            self.past_known_at_ms.append(self._known_at_ms(user_N, channel_N))
            self._apply(outcome)
            yield past_moment, outcome

    def moment(self, round_number: int) -> Moment:
        if round_number != self.round_number:
            if round_number != self.round_number + 1:
                raise UserError(f"round {round_number} after round {self.round_number}: rounds must not be skipped")
            self._begin(round_number)
        return self._moment(round_number)

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        self._require_current(round_number)
        outcome = self._outcome(user_N, channel_N, bid_nano_N)
        self._apply(outcome)
        return outcome

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """The state was lost with the process, but the random numbers are the same: apply the outcome again."""
        self._require_current(round_number)
        self._apply(outcome)

    def _require_current(self, round_number: int) -> None:
        if round_number != self.round_number:
            raise UserError(f"round {round_number} is not the current one, {self.round_number}: call moment first")

    def reward(self) -> Floats:
        """[U, C]: the true expected reward of an exposure now."""
        click, conversion = self.world.click_probability(self.state), self.world.conversion_probability(self.state)
        reward_UC: Floats = (WEIGHTS[_CLICK] * click + WEIGHTS[_CONVERSION] * conversion) / WEIGHTS.sum()
        return reward_UC

    def cost_nano(self) -> Ints:
        """[U, C]: the true expected cost of an exposure now."""
        return cost_nano(self.cost_C * (1 + self.world.click_surcharge * self.world.click_probability(self.state)))

    @property
    def start_ms(self) -> int:
        """The start of the campaign. Learning from the past must not use later knowledge."""
        return self._at_ms(0)

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, number + PAST_ROUNDS + 1])

    def _begin(self, number: int) -> None:
        """Advance the world to this round and draw its outcomes."""
        users = len(self.users)
        self.world.advance(self.state, np.full(users, HOURS * 3600.0), self._rng(_DRIFT, number))
        self.round_number = number
        start_ms, last_start_ms = self._at_ms(number), self._at_ms(number - 1)
        self._late = tuple(gain for gain in self._pending if last_start_ms <= gain.known_at_ms < start_ms)
        self._pending = [gain for gain in self._pending if gain.known_at_ms >= start_ms]
        self._has_outcome_U = np.zeros(users, np.bool_)
        self._potential_outcomes: list[Outcomes] = []  # by channel
        for channel in range(len(self.world.channels)):
            copy = State(*(getattr(self.state, name).copy() for name in State.__slots__))
            rng = self._rng(_LUCK, number)  # a user has the same luck in every channel
            self._potential_outcomes.append(self.world.step(copy, np.full(users, channel), rng))
        self._reward_UC = self.reward()
        if number >= 0:
            for sums in (self.truth.expected, self.truth.realised, self.truth.exposures, self.truth.spent_nano):
                sums.append(0)

    def _at_ms(self, number: int) -> int:
        return _START_MS + (number + PAST_ROUNDS) * HOURS * _HOUR_MS

    def _moment(self, number: int) -> Moment:
        users, at_ms = len(self.users), self._at_ms(number)
        hours = at_ms // _HOUR_MS
        context = {
            "hour": pa.repeat(pa.scalar(hours % 24, pa.int32()), users),
            "weekday": pa.repeat(pa.scalar((hours // 24 + 3) % 7, pa.int32()), users),
            "time_since_last_click_s": pa.nulls(users, pa.float64()),
        }
        return Moment(np.arange(users), np.full(users, at_ms), context, self._late)

    def _potential(self, name: str, user_N: Ints, channel_N: Ints) -> np.ndarray:
        """[N]: a field of the outcomes that were drawn for the round."""
        return np.stack([getattr(outcomes, name) for outcomes in self._potential_outcomes])[channel_N, user_N]

    def _gains(self, user_N: Ints, channel_N: Ints) -> Ints:
        """[N, G]: full outcomes."""
        click_N, conversion_N = (self._potential(name, user_N, channel_N) for name in ("click_U", "conversion_U"))
        return np.stack([click_N, conversion_N], axis=1).astype(np.int64)

    def _known_at_ms(self, user_N: Ints, channel_N: Ints) -> Ints:
        """[N]: when a conversion of such an exposure becomes known, if it happens."""
        delay_ms_N = (1000 * self._potential("delay_s_U", user_N, channel_N)).astype(np.int64)
        known_at_ms_N: Ints = self._at_ms(self.round_number) + 1 + delay_ms_N
        return known_at_ms_N

    def _outcome(self, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        price_N = cost_nano(self._potential("cost_U", user_N, channel_N))
        exposed_N = price_N <= bid_nano_N
        gains_NG = self._gains(user_N, channel_N) * exposed_N[:, None]
        gains_NG[:, _CONVERSION] = 0  # not known yet
        at_ms_N = np.full(len(user_N), self._at_ms(self.round_number))
        return Outcome(user_N, at_ms_N, channel_N, exposed_N, gains_NG, np.where(exposed_N, price_N, 0))

    def _apply(self, outcome: Outcome) -> None:
        """Change the world by the exposures. An offer that is sent again changes nothing."""
        new_N = outcome.exposed_N & ~self._has_outcome_U[outcome.user_N]
        self._has_outcome_U[outcome.user_N] = True
        user_N, channel_N = outcome.user_N[new_N], outcome.channel_N[new_N]
        self.state.fatigue_UC[user_N, channel_N] += 1.0
        self.state.previous_U[user_N] = channel_N
        gains_NG = self._gains(user_N, channel_N)
        self.observed.append(ObservedClicks(self.round_number, user_N, channel_N, gains_NG[:, _CLICK]))
        known_at_ms_N = self._known_at_ms(user_N, channel_N)
        for k in np.flatnonzero(gains_NG[:, _CONVERSION]):
            self._pending.append(LateGain(int(user_N[k]), int(channel_N[k]), _CONVERSION, int(known_at_ms_N[k])))
        if self.round_number >= 0:
            self.truth.expected[-1] += float(self._reward_UC[user_N, channel_N].sum())
            self.truth.realised[-1] += float((gains_NG @ WEIGHTS).sum() / WEIGHTS.sum())
            self.truth.exposures[-1] += len(user_N)
            self.truth.spent_nano[-1] += int(outcome.cost_nano_N[new_N].sum())
