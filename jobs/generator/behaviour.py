"""How simulated users respond to exposures: the truth behind a generated log and behind the budget simulator.

With z the interests of a user, w_c the taste of channel c and F_c the user's fatigue of it:

    affinity     A_c = z . w_c
    click        P(click | c) = sigmoid(a_c + A_c - phi F_c)
    conversion   P(conversion | click, c) = sigmoid(g_c + gamma A_c)
    fatigue      F_c falls by exp(-dt / tau_F) as time passes, and grows by 1 with an exposure to c
    drift        z = sqrt(h) home + sqrt(1 - h) mood, where home is fixed and mood is an Ornstein-Uhlenbeck process:
                 mood <- rho mood + sqrt(1 - rho^2) N(0, I), rho = exp(-dt / tau_z); each z_d ~ N(0, 1) at all times
    delay        log-logistic with shape k, cut at delay_max_s: (delay / s)^k = u / (1 - u)
    cost         cost_c (1 + click_surcharge click) exp(N(-v^2 / 2, v^2)): mean cost_c (1 + click_surcharge click)

The model reads no file and no clock: all randomness comes from the caller's generator, all time from the caller's
dt. The worlds below are constants, so that logs of different seeds have different users in the same world.
Shape suffixes: U users, C channels, D dimensions of interest.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from features.logistic import sigmoid

Floats = NDArray[np.float64]
DAY_S = 86_400.0
NO_CHANNEL = -1  # the previous channel of a user without exposures


@dataclass(slots=True)
class State:
    """The state of a group of users at one moment; `step` and `advance` change it in place."""

    home_UD: Floats  # lasting part of the interests
    mood_UD: Floats  # drifting part of the interests
    fatigue_UC: Floats  # recent exposures by channel, fading
    previous_U: NDArray[np.int64]  # channel shown last, or NO_CHANNEL

    def head(self, users: int) -> Self:
        """The first users, as views: a change to them changes this state."""
        return type(self)(self.home_UD[:users], self.mood_UD[:users], self.fatigue_UC[:users], self.previous_U[:users])


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The outcomes of one exposure for each user."""

    click_U: NDArray[np.bool_]
    conversion_U: NDArray[np.bool_]  # this exposure causes a conversion; implies a click
    delay_s_U: Floats  # from the exposure to that conversion, seconds; 0 without a conversion
    cost_U: Floats  # in the log's unit


@dataclass(frozen=True, slots=True, eq=False)
class BehaviourModel:
    """One world: its channels and the constants of the equations above."""

    channels: tuple[str, ...]
    taste_CD: Floats  # w_c
    click_bias_C: Floats  # a_c
    conversion_bias_C: Floats  # g_c
    conversion_slope: float  # gamma
    fatigue_weight: float  # phi
    fatigue_memory_s: float  # tau_F
    home_share: float  # h, the lasting share of the variance of the interests
    drift_memory_s: float  # tau_z
    delay_median_s: float = 0.0  # 0: a conversion happens with its click
    delay_max_s: float = 30 * DAY_S
    delay_shape: float = 0.7  # k
    cost_C: Floats | None = None  # mean cost without a click; None: exposures cost nothing
    click_surcharge: float = 0.0
    cost_spread: float = 1.0  # v

    def initial_state(self, users: int, rng: np.random.Generator) -> State:
        """Users without exposures, with interests drawn from N(0, I)."""
        channels, dimensions = self.taste_CD.shape
        return State(
            home_UD=rng.standard_normal((users, dimensions)),
            mood_UD=rng.standard_normal((users, dimensions)),
            fatigue_UC=np.zeros((users, channels)),
            previous_U=np.full(users, NO_CHANNEL, dtype=np.int64),
        )

    def affinity(self, state: State) -> Floats:
        """[users, channels]: each user's current affinity for each channel, A_c = z . w_c."""
        interest_UD = np.sqrt(self.home_share) * state.home_UD + np.sqrt(1 - self.home_share) * state.mood_UD
        # A product of small matrices, column by column: unlike BLAS, the same bits for any number of rows or threads.
        affinity_UC = interest_UD[:, :1] * self.taste_CD[:, 0]
        for d in range(1, self.taste_CD.shape[1]):
            affinity_UC += interest_UD[:, d : d + 1] * self.taste_CD[:, d]
        return affinity_UC

    def click_probability(self, state: State) -> Floats:
        """[users, channels]: the probability of a click if that channel were shown now."""
        return sigmoid(self.click_bias_C + self.affinity(state) - self.fatigue_weight * state.fatigue_UC)

    def conversion_probability(self, state: State) -> Floats:
        """[users, channels]: the probability of a click and a conversion if that channel were shown now."""
        affinity_UC = self.affinity(state)
        return self.click_probability(state) * sigmoid(self.conversion_bias_C + self.conversion_slope * affinity_UC)

    def step(self, state: State, channel_U: NDArray[np.int64], rng: np.random.Generator) -> Outcomes:
        """Show each user one channel: draw the outcomes, then add the exposure to the state."""
        users = np.arange(len(channel_U))
        click_rate_U = self.click_probability(state)[users, channel_U]
        conversion_rate_U = self.conversion_probability(state)[users, channel_U]
        uniform_U = rng.random(len(users))  # one draw decides both, so that a conversion implies a click
        click_U, conversion_U = uniform_U < click_rate_U, uniform_U < conversion_rate_U
        delay_s_U = np.where(conversion_U, self._delay_s(len(users), rng), 0.0)
        state.fatigue_UC[users, channel_U] += 1.0
        state.previous_U[:] = channel_U
        return Outcomes(click_U, conversion_U, delay_s_U, self._cost(channel_U, click_U, rng))

    def advance(self, state: State, elapsed_s_U: Floats, rng: np.random.Generator) -> None:
        """Advance time by these seconds for each user: interests drift and fatigue fades."""
        rho_U1 = np.exp(-elapsed_s_U / self.drift_memory_s)[:, None]
        state.mood_UD *= rho_U1
        state.mood_UD += np.sqrt(1 - rho_U1**2) * rng.standard_normal(state.mood_UD.shape)
        state.fatigue_UC *= np.exp(-elapsed_s_U / self.fatigue_memory_s)[:, None]

    def _delay_s(self, users: int, rng: np.random.Generator) -> Floats:
        """Delays below delay_max_s with median delay_median_s, seconds."""
        if self.delay_median_s == 0:
            return np.zeros(users)
        # The scale s for which the distribution, truncated at the maximum, has the given median:
        # with m = median^k and M = maximum^k, half of F(maximum) at the median means s^k = m / (1 - 2 m / M).
        median, maximum = self.delay_median_s**self.delay_shape, self.delay_max_s**self.delay_shape
        scale = median / (1 - 2 * median / maximum)
        u_U = rng.random(users) * maximum / (maximum + scale)
        return (scale * u_U / (1 - u_U)) ** (1 / self.delay_shape)

    def _cost(self, channel_U: NDArray[np.int64], click_U: NDArray[np.bool_], rng: np.random.Generator) -> Floats:
        if self.cost_C is None:
            return np.zeros(len(channel_U))
        noise_U = self.cost_spread * rng.standard_normal(len(channel_U)) - self.cost_spread**2 / 2
        return self.cost_C[channel_U] * (1 + self.click_surcharge * click_U) * np.exp(noise_U)


def _tastes(channels: int, dimensions: int, general: float, special: float) -> Floats:
    """w_c: `general` in the first dimension, which all channels share; the other dimensions have norm `special`."""
    directions = np.random.default_rng(8).standard_normal((channels, dimensions - 1))
    directions *= special / np.linalg.norm(directions, axis=1, keepdims=True)
    return np.column_stack([np.full(channels, general), directions])


# How much the best channel differs from user to user, as a multiple of the interests that belong to single channels.
# With "none", a user responds to all channels alike, so that the best channel is the same for everyone.
CHANNEL_EFFECTS = {"none": 0.0, "medium": 1.0, "strong": 2.0}


def kuairand_world(effect: float = 1.0) -> BehaviourModel:
    """Short videos: the channel is the duration class, a conversion is a long view and comes with its click.

    effect: one of CHANNEL_EFFECTS.
    """
    special = 1.3 * effect * np.array([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]])
    return BehaviourModel(
        channels=("short", "mid", "long"),
        taste_CD=np.column_stack([np.full(3, 0.9), special]),
        click_bias_C=np.array([-1.85, -2.05, -2.15]),
        conversion_bias_C=np.array([-0.1, -0.5, -0.7]),
        conversion_slope=0.3,
        fatigue_weight=0.15 * min(effect, 1.0),
        fatigue_memory_s=0.5 * DAY_S,
        home_share=0.7,
        drift_memory_s=3 * DAY_S,
    )


def criteo_world(effect: float = 1.0) -> BehaviourModel:
    """Display ads: the channel is cat8, conversions come days after their click, every exposure costs.

    effect: one of CHANNEL_EFFECTS.
    """
    channels = 11
    spread_C = np.linspace(-1.0, 1.0, channels)
    return BehaviourModel(
        channels=(
            "29196072", "23998111", "29841067", "9068204", "3225256", "20754144",
            "26597096", "14911188", "32440044", "5824233", "9312274",
        ),
        taste_CD=_tastes(channels, 5, general=1.0, special=1.1 * effect),
        click_bias_C=-0.92 + 0.5 * np.roll(spread_C, 3),
        conversion_bias_C=-4.45 + 0.4 * np.roll(spread_C, 5),
        conversion_slope=0.5,
        fatigue_weight=0.1 * min(effect, 1.0),
        fatigue_memory_s=1 * DAY_S,
        home_share=0.7,
        drift_memory_s=3 * DAY_S,
        delay_median_s=3.7 * DAY_S,
        cost_C=1e-4 * np.exp(0.5 * np.roll(spread_C, 2)),
        click_surcharge=2.0,
    )  # fmt: skip
