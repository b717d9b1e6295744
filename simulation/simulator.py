"""The generator's world as an environment: interests that drift, fatigue, sparse late conversions, costs by channel.

Its truth is jobs/generator/behaviour.py, unchanged. Users first live through a past in which the Criteo log's own
policy chooses for them; then the campaign begins. A round is HOURS long, and everybody can be offered something in it.

What every channel would bring is drawn for all users at the start of a round: an answer does not depend on who else is
asked, in which order or batch, and all strategies meet the same luck. An exposure whose price is above its bid is not
shown, as in an auction.
Shapes: U users, N of them, C channels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from jobs.generator.behaviour import BehaviourModel, Floats, Outcomes, State, criteo_world
from jobs.generator.criteo import POLICY
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
_DEAREST = 8  # a bid is so many times the mean price of a click: hardly any exposure is dearer
_PEOPLE, _LUCK, _DRIFT, _HABIT = range(4)  # streams of random numbers


@dataclass(slots=True)
class Truth:
    """What a campaign earned, by round: the fused reward of equation 18, 0 to 1 an exposure."""

    expected: list[float] = field(default_factory=list)  # by the chances at the moment of each exposure
    realised: list[float] = field(default_factory=list)  # by what happened, conversions yet to come included
    exposures: list[int] = field(default_factory=list)
    spent_nano: list[int] = field(default_factory=list)


class Simulator:
    """Users of one seed. The same seed and offers give the same answers."""

    def __init__(self, users: int, seed: int, world: BehaviourModel | None = None) -> None:
        self.world = world or criteo_world()
        if self.world.cost_C is None:
            raise UserError("a world without costs has no budget to spend: give it cost_C")
        self.cost_C = self.world.cost_C
        self.users = pa.array(np.arange(users))
        self.profile: dict[str, pa.Array] = {}
        self.bid_nano_A: Ints = cost_nano(_DEAREST * self.cost_C * (1 + self.world.click_surcharge))
        self._seed = seed
        self.fingerprint = f"seed {seed}, {self.world}"
        self.reset_world()

    def reset_world(self) -> None:
        users = len(self.users)
        rng = self._rng(_PEOPLE, 0)
        self.state: State = self.world.initial_state(users, rng)
        self._activity_U = rng.beta(2.0, 1.5, users)  # chance to be shown something in a round of the past
        self.round_number = -PAST_ROUNDS - 1  # the round that has begun; those of the past are below 0
        self._pending: list[LateGain] = []
        self.truth = Truth()
        # By round of the past: full outcomes, late ones included, and when its conversions are heard of.
        self.past_gains: list[Ints] = []
        self.past_known_at_ms: list[Ints] = []
        self.seen: list[tuple[int, Ints, Ints, Ints]] = []  # round, users, channels and clicks of what was shown

    def reset(self, campaign: str = "") -> Iterator[tuple[Moment, Outcome]]:
        self.reset_world()
        for number in range(-PAST_ROUNDS, 0):
            self._begin(number)
            rng = self._rng(_HABIT, number)
            active_U = rng.random(len(self.users)) < self._activity_U
            user_N = np.flatnonzero(active_U)
            channel_N = draw(POLICY.probabilities(self.world, self.state), rng)[user_N]
            moment = self._moment(number)
            at = pa.array(user_N)
            context = {name: values.take(at) for name, values in moment.context.items()}
            past = Moment(user_N, moment.at_ms_N[user_N], context, moment.late)
            free_N = np.full(len(user_N), np.iinfo(np.int64).max)
            outcome = self._answer(user_N, channel_N, free_N)
            self.past_gains.append(self._gains(user_N, channel_N))
            self.past_known_at_ms.append(self._known_at_ms(user_N, channel_N))
            self._expose(outcome)
            yield past, outcome

    def moment(self, round_number: int) -> Moment:
        if round_number != self.round_number:
            if round_number != self.round_number + 1:
                raise UserError(f"round {round_number} after round {self.round_number}: they come one after the other")
            self._begin(round_number)
        return self._moment(round_number)

    def step(self, round_number: int, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        self._require_now(round_number)
        outcome = self._answer(user_N, channel_N, bid_nano_N)
        self._expose(outcome)
        return outcome

    def recover(self, round_number: int, outcome: Outcome) -> None:
        """The world died with the process; its luck did not. What was answered happens again."""
        self._require_now(round_number)
        self._expose(outcome)

    def _require_now(self, round_number: int) -> None:
        if round_number != self.round_number:
            raise UserError(f"round {round_number} is not the one that has begun, {self.round_number}: ask its moment")

    def reward(self) -> Floats:
        """[U, C]: the true expected reward of an exposure now."""
        click, conversion = self.world.click_probability(self.state), self.world.conversion_probability(self.state)
        reward_UC: Floats = (WEIGHTS[_CLICK] * click + WEIGHTS[_CONVERSION] * conversion) / WEIGHTS.sum()
        return reward_UC

    def cost_nano(self) -> Ints:
        """[U, C]: the true expected cost of an exposure now."""
        return cost_nano(self.cost_C * (1 + self.world.click_surcharge * self.world.click_probability(self.state)))

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, number + PAST_ROUNDS + 1])

    def _begin(self, number: int) -> None:
        """Time passes up to this round; then its luck is drawn."""
        users = len(self.users)
        self.world.advance(self.state, np.full(users, HOURS * 3600.0), self._rng(_DRIFT, number))
        self.round_number = number
        now, before = self._at_ms(number), self._at_ms(number - 1)
        self._news = tuple(late for late in self._pending if before <= late.known_at_ms < now)
        self._pending = [late for late in self._pending if late.known_at_ms >= now]
        self._answered_U = np.zeros(users, np.bool_)
        self._potential: list[Outcomes] = []
        for channel in range(len(self.world.channels)):
            copy = State(*(getattr(self.state, name).copy() for name in State.__slots__))
            rng = self._rng(_LUCK, number)  # one luck a user, whatever the channel
            self._potential.append(self.world.step(copy, np.full(users, channel), rng))
        self._reward_UC = self.reward()
        if number >= 0:
            for sums in (self.truth.expected, self.truth.realised, self.truth.exposures, self.truth.spent_nano):
                sums.append(0)

    @property
    def start_ms(self) -> int:
        """When the campaign begins: what is learned from the past may know nothing later."""
        return self._at_ms(0)

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
        return Moment(np.arange(users), np.full(users, at_ms), context, self._news)

    def _drawn(self, name: str, user_N: Ints, channel_N: Ints) -> np.ndarray:
        return np.stack([getattr(outcomes, name) for outcomes in self._potential])[channel_N, user_N]

    def _gains(self, user_N: Ints, channel_N: Ints) -> Ints:
        """[N, G]: full outcomes."""
        click_N, conversion_N = (self._drawn(name, user_N, channel_N) for name in ("click_U", "conversion_U"))
        return np.stack([click_N, conversion_N], axis=1).astype(np.int64)

    def _known_at_ms(self, user_N: Ints, channel_N: Ints) -> Ints:
        """[N]: when a conversion of such an exposure now would be heard of."""
        delay_ms_N = (1000 * self._drawn("delay_s_U", user_N, channel_N)).astype(np.int64)
        known_at_ms_N: Ints = self._at_ms(self.round_number) + 1 + delay_ms_N
        return known_at_ms_N

    def _answer(self, user_N: Ints, channel_N: Ints, bid_nano_N: Ints) -> Outcome:
        price_N = cost_nano(self._drawn("cost_U", user_N, channel_N))
        exposed_N = price_N <= bid_nano_N
        gains_NG = self._gains(user_N, channel_N) * exposed_N[:, None]
        gains_NG[:, _CONVERSION] = 0  # nobody knows yet
        at_ms_N = np.full(len(user_N), self._at_ms(self.round_number))
        return Outcome(user_N, at_ms_N, channel_N, exposed_N, gains_NG, np.where(exposed_N, price_N, 0))

    def _expose(self, outcome: Outcome) -> None:
        """What the exposures change; an offer that is sent again changes nothing again."""
        new_N = outcome.exposed_N & ~self._answered_U[outcome.user_N]
        self._answered_U[outcome.user_N] = True
        user_N, channel_N = outcome.user_N[new_N], outcome.channel_N[new_N]
        self.state.fatigue_UC[user_N, channel_N] += 1.0
        self.state.previous_U[user_N] = channel_N
        gains_NG = self._gains(user_N, channel_N)
        self.seen.append((self.round_number, user_N, channel_N, gains_NG[:, _CLICK]))
        known_at_ms_N = self._known_at_ms(user_N, channel_N)
        for k in np.flatnonzero(gains_NG[:, _CONVERSION]):
            self._pending.append(LateGain(int(user_N[k]), int(channel_N[k]), _CONVERSION, int(known_at_ms_N[k])))
        if self.round_number >= 0:
            self.truth.expected[-1] += float(self._reward_UC[user_N, channel_N].sum())
            self.truth.realised[-1] += float((gains_NG @ WEIGHTS).sum() / WEIGHTS.sum())
            self.truth.exposures[-1] += len(user_N)
            self.truth.spent_nano[-1] += int(outcome.cost_nano_N[new_N].sum())
